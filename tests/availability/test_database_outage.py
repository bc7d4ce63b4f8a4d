"""The PostgreSQL server stops, answers nothing, and comes back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.conftest import need
from tests.servers import mariadb
from tests.servers.api import COMMAND, add_root, environment, running, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import free_port

LOGIN = {"username": ROOT, "password": PASSWORD}
NEEDED = {"vmail", "iredadmin", "state"}


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresqlServer]:
    """A server of its own: stopping the other tests' one would be unkind."""
    need("postgresql")
    server = PostgresqlServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[MariadbServer]:
    need("mariadb")
    server = MariadbServer([*mariadb.SETTINGS, *mariadb.KEEPS_COMMITS])
    yield server
    server.stop()


async def timed(client: httpx.AsyncClient, path: str, **data: Any) -> tuple[float, httpx.Response]:
    started = time.monotonic()
    response = await (client.post(path, data=data) if data else client.get(path))
    return time.monotonic() - started, response


async def until_well(client: httpx.AsyncClient) -> float:
    """Seconds until everything works again."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        answers = [await client.get("/readyz"), await client.get("/api/whoami")]
        answers.append(await client.put("/api/domain/ex.com", data={"name": "New"}))
        if all(answer.status_code == 200 for answer in answers):
            return time.monotonic() - started
        await asyncio.sleep(0.05)
    raise AssertionError([answer.text for answer in answers])


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_the_database_goes_and_comes(own_server: PostgresqlServer, how: str) -> None:
    store = await own_server.create_store(how)
    await add_root(store)
    given = urls_of(store) | {
        "IREDAPI_CONNECT_TIMEOUT": "1",
        "IREDAPI_REQUEST_TIMEOUT": "3",
        "IREDAPI_POOL_TIMEOUT": "3",
    }
    try:
        with running(given) as api:
            async with httpx.AsyncClient(
                base_url=api.address, timeout=30, trust_env=False
            ) as client:
                assert (await client.post("/api/login", data=LOGIN)).status_code == 200
                assert (await client.post("/api/domain/ex.com")).status_code == 200
                found = (await client.get("/readyz?verbose")).json()["_data"]
                assert {name: item["status"] for name, item in found["servers"].items()} == (
                    dict.fromkeys(store.urls(), "ok")
                )
                if how == "stopped":
                    own_server.halt()
                else:
                    own_server.signal_all(signal.SIGSTOP)
                await asyncio.sleep(1.1)  # what is believed for a second is over
                seconds, answer = await timed(client, "/readyz?verbose")
                assert seconds < 2
                assert answer.status_code == 503
                assert answer.json()["_msg"] == "NOT_READY"
                assert (
                    set(answer.json()["_detail"].removeprefix("Away: ").rstrip(".").split(", "))
                    == NEEDED
                )
                assert set(answer.json()["_data"]["away"]) == set(store.urls())
                seconds, answer = await timed(client, "/livez")
                assert (answer.status_code, seconds < 0.5) == (200, True)
                longest = 0.0
                calls: list[Any] = [timed(client, "/api/whoami") for _ in range(20)]
                calls += [
                    timed(client, "/api/domain/new.com", name="X"),
                    timed(client, "/api/login", **LOGIN),
                ]
                for seconds, answer in await asyncio.gather(*calls):
                    assert answer.status_code == 503, answer.text
                    assert answer.json()["_msg"] in {"SERVER_DOWN", "OVERLOADED"}
                    longest = max(longest, seconds)
                if how == "stopped":
                    own_server.restart()
                else:
                    own_server.signal_all(signal.SIGCONT)
                well = await until_well(client)
                print(f"database {how}: 503 within {longest:.2f} s, well after {well:.2f} s")
                assert longest < 10
                assert well < 5
    finally:
        if how == "hung":
            own_server.signal_all(signal.SIGCONT)
        await store.close()


_FIRST: dict[str, tuple[str, str, dict[str, str]]] = {
    "read": ("GET", "/api/domain/ex.com", {}),
    "change": ("PUT", "/api/domain/ex.com", {"name": "New"}),
    "create": ("POST", "/api/user/u@ex.com", {"password": PASSWORD}),
    "login": ("POST", "/api/login", LOGIN),
}


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_the_first_request_after_a_restart_is_served(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """Whatever it is, and its line is in the panel's log."""
    server = request.getfixturevalue("own_server" if kind == "postgresql" else "own_mariadb")
    store = await server.create_store("again")
    await add_root(store)
    try:
        with running(urls_of(store)) as api:
            async with httpx.AsyncClient(
                base_url=api.address, timeout=30, trust_env=False
            ) as client:
                await client.post("/api/login", data=LOGIN)
                await client.post("/api/domain/ex.com")
                for name, (method, path, form) in _FIRST.items():
                    server.restart()
                    await store.close()
                    await asyncio.sleep(1.1)  # what is believed for a second is over
                    answer = await client.request(method, path, data=form or None)
                    assert answer.status_code == 200, (name, answer.text)
                events = [row["event"] for row in await store.rows(_LOG, "iredadmin")]
                assert {"create", "update", "login"} <= set(events)
                assert "audit_failed" not in api.output
    finally:
        await store.close()


_LOG = "SELECT event FROM log"


async def test_start_waits_for_the_database(own_server: PostgresqlServer, tmp_path: Path) -> None:
    """And says for which; after the limit it ends with status 3."""
    store = await own_server.create_store("late")
    await add_root(store)
    await store.close()
    port = free_port()
    given = urls_of(store) | {"IREDAPI_PORT": str(port), "IREDAPI_CONNECT_TIMEOUT": "1"}
    own_server.halt()

    def serve(limit: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, "serve"],
            env=environment(**given, IREDAPI_START_TIMEOUT=limit),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    gives_up = serve("2")
    waits = None
    try:
        _, err = gives_up.communicate(timeout=30)
        assert gives_up.returncode == 3
        assert "waiting: IREDAPI_VMAIL_URL" in err
        waits = serve("60")
        await asyncio.sleep(2)
        assert waits.poll() is None
        own_server.restart()
        async with httpx.AsyncClient(trust_env=False) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/readyz")
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    assert waits.poll() is None, waits.communicate()
                    await asyncio.sleep(0.1)
        assert answer.status_code == 200
    finally:
        for process in (gives_up, waits):
            if process is not None and process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)
