"""Servers that take no writes for a time, and commits that do not end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clients import PASSWORD, ROOT
from tests.conftest import need
from tests.integration.test_doctor import examine
from tests.integration.test_import_speed import HASH
from tests.servers import mariadb, postgresql
from tests.servers.api import add_root, running, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import KEEPS_COMMITS, PostgresqlServer

LOGIN = {"username": ROOT, "password": PASSWORD}
Server = PostgresqlServer | MariadbServer
_SWITCHES: dict[str, tuple[list[str], list[str]]] = {
    "postgresql": (
        ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        [
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        ],
    ),
    "mariadb": (["SET GLOBAL read_only = ON"], ["SET GLOBAL read_only = OFF"]),
}
"""How an administrator makes a server refuse writes, and allows them again."""
WRITES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("PUT", "/api/domain/ex.com", {"name": "New"}),
    ("PUT", "/api/user/u@ex.com", {"name": "New"}),
    ("POST", "/api/user/v@ex.com", {"password": PASSWORD}),
    ("POST", "/api/throttle/u@ex.com/inbound", {"period": "60", "max_msgs": "7"}),
    ("DELETE", "/api/user/u@ex.com", {}),
)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own, because all databases of it are switched."""
    need(request.param)
    own: Server
    if request.param == "postgresql":
        own = PostgresqlServer(postgresql.SETTINGS | KEEPS_COMMITS)
    else:
        own = MariadbServer(mariadb.SETTINGS)
    yield own
    own.stop()


async def administer(server: Server, *statements: str) -> None:
    engine = create_async_engine(server.admin, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()


async def soon(client: httpx.AsyncClient, status: int) -> dict[str, Any]:
    """Ask ``/readyz`` until it has a status."""
    for _ in range(100):
        answer = await client.get("/readyz?verbose")
        if answer.status_code == status:
            found: dict[str, Any] = answer.json()
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(answer.text)


def connected(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=address, timeout=30, trust_env=False)


async def prepared(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/login", data=LOGIN)).status_code == 200
    assert (await client.post("/api/domain/ex.com")).status_code == 200
    made = await client.post("/api/user/u@ex.com", data={"password": PASSWORD})
    assert made.status_code == 200


def kind_of(server: Server) -> str:
    return "postgresql" if isinstance(server, PostgresqlServer) else "mariadb"


async def test_an_import_ends_with_the_first_line_that_cannot_be_written(server: Server) -> None:
    """What follows would fail as well: it is not tried, and the answer says how to go on."""
    off, on = _SWITCHES[kind_of(server)]
    store = await server.create_store("readonlyimport")
    await add_root(store)
    lines = [{"type": "user", "mail": f"n{n}@ex.com", "password_hash": HASH} for n in range(600)]
    aliases = [{"type": "alias", "mail": f"a{n}@ex.com"} for n in range(600)]
    try:
        with running(urls_of(store)) as api:
            async with connected(api.address) as client:
                await prepared(client)
                await administer(server, *off)
                try:
                    for some in (lines, aliases):
                        body = "".join(f"{json.dumps(one)}\n" for one in some)
                        answer = await client.post(
                            "/api/import", content=body,
                            headers={"Content-Type": "application/x-ndjson"},
                        )  # fmt: skip
                        *each, last = map(json.loads, answer.text.splitlines())
                        assert {one["result"] for one in each} <= {"failed"}, each[:3]
                        assert len(each) < len(some) / 2, len(each)
                        assert (last["_success"], last["_msg"]) == (False, "DATABASE_READ_ONLY")
                finally:
                    await administer(server, *on)
    finally:
        await store.close()


async def test_a_server_takes_no_writes_for_a_time(server: Server) -> None:
    """Writes are refused by a code, reads go on, and the first write afterwards is done."""
    off, on = _SWITCHES[kind_of(server)]
    store = await server.create_store("readonly")
    await add_root(store)
    try:
        with running(urls_of(store)) as api:
            async with connected(api.address) as client:
                await prepared(client)
                await administer(server, *off)
                try:
                    await _refuses(client)
                    found, result = await examine(store, fix=True)
                    names = {item.subject for item in found if item.code == "DATABASE_READS_ONLY"}
                    assert names == set(store.urls()) - {"state"}
                    assert "SERVER_AWAY" not in {item.code for item in found}
                    assert result.status == 1
                finally:
                    await administer(server, *on)
                for method, path, form in WRITES:
                    answer = await client.request(method, path, data=form or None)
                    assert answer.status_code == 200, (path, answer.text)
                assert (await soon(client, 200))["_data"]["status"] == "ready"
            assert "Traceback" not in api.output
    finally:
        await store.close()


async def _refuses(client: httpx.AsyncClient) -> None:
    for method, path, form in (*WRITES, ("POST", "/api/login", LOGIN)):
        answer = await client.request(method, path, data=form or None)
        assert answer.status_code == 503, (path, answer.text)
        assert answer.json()["_msg"] == "DATABASE_READ_ONLY", (path, answer.text)
        assert int(answer.headers["Retry-After"]) > 0
    answers = await asyncio.gather(
        *(client.put("/api/user/u@ex.com", data={"name": f"N{n}"}) for n in range(20)),
        *(client.get("/api/user/u@ex.com") for n in range(20)),
    )
    assert [answer.status_code for answer in answers] == [503] * 20 + [200] * 20
    assert {answer.json()["_msg"] for answer in answers[:20]} == {"DATABASE_READ_ONLY"}
    found = await soon(client, 503)
    assert found["_msg"] == "NOT_READY"
    assert found["_detail"].startswith("Read-only: ")
    servers = found["_data"]["servers"]
    assert {item["status"] for item in servers.values()} == {"read-only"}
    assert {item["role"] for item in servers.values()} == {"read-only server"}
    assert all(item["engine"] and item["version"] and item["node"] for item in servers.values())


async def test_the_service_starts_on_a_server_that_takes_no_writes(server: Server) -> None:
    """And a connection that was opened meanwhile does not keep anybody from writing later."""
    off, on = _SWITCHES[kind_of(server)]
    store = await server.create_store("startro")
    await add_root(store)
    try:
        with running(urls_of(store)) as api:  # makes the tables of the state database
            async with connected(api.address) as client:
                await prepared(client)
                cookies = dict(client.cookies)
        async with store.connect("state") as connection:  # idle for more than a minute
            await connection.exec_driver_sql("UPDATE sessions SET seen = seen - 90")
        await administer(server, *off)
        try:
            with running(urls_of(store)) as api:
                assert "database_read_only" in api.output
                async with connected(api.address) as client:
                    client.cookies.update(cookies)
                    assert (await client.get("/api/user/u@ex.com")).status_code == 200
                    await administer(server, *on)
                    answer = await client.put("/api/domain/ex.com", data={"name": "New"})
                    assert answer.status_code == 200, answer.text
        finally:
            await administer(server, *on)
    finally:
        await store.close()


async def test_a_commit_that_waits_for_a_lost_standby_ends(server: Server) -> None:
    """PostgreSQL lets it wait without end; nobody's place is held, and nothing is promised."""
    if not isinstance(server, PostgresqlServer):
        pytest.skip("only PostgreSQL has synchronous standbys")
    store = await server.create_store("sync")
    await add_root(store)
    given = urls_of(store) | {"IREDAPI_REQUEST_TIMEOUT": "1", "IREDAPI_POOL_SIZE": "4"}
    # Only commits of vmail wait.
    try:
        with running(given) as api:
            async with connected(api.address) as client:
                await prepared(client)
                for other in ("state", "iredadmin", "iredapd", "amavisd"):
                    database = make_url(getattr(store, other)).database
                    await administer(
                        server, f"ALTER DATABASE {database} SET synchronous_commit = 'local'"
                    )
                await administer(
                    server,
                    "ALTER SYSTEM SET synchronous_standby_names = 'lost'",
                    "SELECT pg_reload_conf()",
                )
                await _drop_connections(server)
                try:
                    await _told_that_it_is_unknown(client)
                finally:
                    await administer(
                        server,
                        "ALTER SYSTEM RESET synchronous_standby_names",
                        "SELECT pg_reload_conf()",
                    )
                answer = await client.put("/api/domain/ex.com", data={"name": "Last"})
                assert answer.status_code == 200, answer.text
                found = await client.get("/api/domain/ex.com")
                assert found.json()["_data"]["description"] == "Last"
    finally:
        await store.close()


async def _drop_connections(server: Server) -> None:
    """Settings of databases are read by new connections only."""
    await administer(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'iredapi' AND pid <> pg_backend_pid()",
    )


async def _told_that_it_is_unknown(client: httpx.AsyncClient) -> None:
    async def change(path: str, form: dict[str, str], method: str = "PUT") -> None:
        started = time.monotonic()
        answer = await client.request(method, path, data=form)
        assert time.monotonic() - started < 6
        assert answer.status_code == 503, answer.text
        assert answer.json()["_msg"] in {"SERVER_DOWN", "OVERLOADED"}
        told.append("unknown" in answer.json()["_detail"])
        # One that waited for a lock of another one has changed nothing, and may be repeated.
        assert told[-1] is ("Retry-After" not in answer.headers), answer.text

    told: list[bool] = []
    await change("/api/domain/ex.com", {"name": "One"})
    assert told == [True]
    assert "Commits wait: vmail" in (await soon(client, 503))["_detail"]
    # More than there are places for writers; each ends, and reads go on.
    more = [change("/api/domain/ex.com", {"name": f"N{n}"}) for n in range(3)]
    more += [change("/api/user/u@ex.com", {"name": f"N{n}"}) for n in range(3)]
    more += [change(f"/api/user/n{n}@ex.com", {"password": PASSWORD}, "POST") for n in range(3)]
    await asyncio.gather(*more, client.get("/api/user/u@ex.com"))
    assert (await client.get("/api/user/u@ex.com")).status_code == 200
    # What waited was done here, and is told when somebody asks.
    answer = await client.get("/api/domain/ex.com")
    assert answer.json()["_data"]["description"].startswith(("One", "N"))
