"""Clients that hang up in the middle of long lists take no connection with them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import pytest
import uvicorn

from iredapi.web import responses
from tests.clients import Client, Service, serving
from tests.servers.store import Store

_STREAMS = 200
_AT_ONCE = 25
_USERS = 30
_POOL = 6


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are pytest's


@contextlib.asynccontextmanager
async def _listening(service: Service) -> AsyncIterator[int]:
    """Serve on a real port, for only a real connection can be hung up."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(service.app, lifespan="off", http="httptools", log_config=None)
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await running


async def _hang_up(port: int, head: bytes, after: float) -> None:
    """Ask for a list, read its beginning, and reset the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await reader.read(64)
    await asyncio.sleep(after)
    writer.transport.abort()


async def _until(done: Callable[[], bool]) -> None:
    """Wait 15 seconds at most."""
    for _ in range(500):
        if done():
            return
        await asyncio.sleep(0.03)


def _in_use(service: Service) -> dict[str, int]:
    """Connections that are in use, by database; the directory's, too."""
    pools = {name: base._pool for name, base in service.context.databases.by_name.items()}
    found = {name: pooled.in_use for name, pooled in pools.items()}
    if service.store.name == "openldap":
        directory = service.context.backend.directories.directory  # type: ignore[attr-defined]
        found["ldap"] = directory.open_connections - directory.idle_connections
    state = service.context.state.connections
    for engine in (state._engine, state._writer):
        found["state"] = found.get("state", 0) + engine.pool.checkedout()  # type: ignore[attr-defined]
    return found


async def _all_back(service: Service) -> dict[str, int]:
    """What is still in use once everything had the time to come back."""
    await _until(lambda: not any(_in_use(service).values()))
    return {name: count for name, count in _in_use(service).items() if count}


async def test_a_client_that_disconnects_returns_its_connection(
    store: Store, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 streams are cut; then all connections are there, and as many requests find one each."""
    monkeypatch.setattr(responses, "PAGE", 2)
    await root.ok("POST", "domain/ex.com")
    for number in range(_USERS):
        await root.ok("POST", f"user/u{number:02}@ex.com", password_hash="{PLAIN}Corr3ct-Horse")
    async with serving(store, pool_size=_POOL, pool_timeout=3) as service:
        client = await service.client().login()
        cookie = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
        lists = ("users/ex.com", "users/ex.com?email_only=yes", "users/ex.com?view=canonical")
        heads = [
            f"GET /api/{path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode()
            for path in lists
        ]
        async with _listening(service) as port:
            for start in range(0, _STREAMS, _AT_ONCE):
                await asyncio.gather(
                    *(
                        _hang_up(port, heads[number % 3], number % 7 / 1000)
                        for number in range(start, start + _AT_ONCE)
                    )
                )
            assert await _all_back(service) == {}
            # As many at once as there are connections, and more.
            calls = [client.call("GET", "users/ex.com") for _ in range(4 * _POOL)]
            answers = await asyncio.gather(*calls)
            assert {status for status, _ in answers} == {200}
            assert {len(answer["_data"]) for _, answer in answers} == {_USERS}


_SLOW = {
    "postgresql": "SELECT pg_sleep(20)",
    "mariadb": "SELECT SLEEP(20)",
    "sqlite": (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000000)"
        " SELECT max(x) FROM n"
    ),
}


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_a_cancelled_request_costs_its_own_connection_only(store: Store) -> None:
    """Cancelled twice, in the statement and while it gives the connection back."""
    async with serving(store, pool_size=4) as service:
        database = service.context.databases["vmail"]
        connections = [await database.acquire() for _ in range(3)]
        for pooled in connections:
            await database.give(pooled)
        pool = database._pool
        before = set(pool._free)

        async def ask() -> None:
            async with database.using() as pooled:
                await pooled.connection.exec_driver_sql(_SLOW[store.name])

        with anyio.move_on_after(0.05):  # cancels at every turn of the loop
            await ask()
        await _until(lambda: not pool.in_use)
        assert pool.in_use == 0
        assert len(before & set(pool._free)) == 2
        assert len(pool._free) in {2, 3}  # a statement that could be stopped costs none at all


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_a_cancelled_connect_frees_its_place(store: Store) -> None:
    async with serving(store, pool_size=2) as service:
        database = service.context.databases["amavisd"]
        for _ in range(10):
            task = asyncio.create_task(database.acquire())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await database.give(await task)
        async with asyncio.timeout(10):
            connections = [await database.acquire() for _ in range(2)]
        for pooled in connections:
            await database.give(pooled)
        assert database._pool.in_use == 0
