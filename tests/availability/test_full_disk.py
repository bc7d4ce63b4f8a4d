"""A full disk: 503 with its own code, not ready, one line in the log, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.clients import Client, Service, serving
from tests.servers.store import Store, create_sqlite

_TRIGGERS = {
    # What the servers say by themselves when the disk is full.
    "postgresql": (
        (
            "CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        ),
        (
            "CREATE TRIGGER disk_is_full BEFORE INSERT ON deleted_mailboxes"
            " FOR EACH ROW EXECUTE FUNCTION disk_is_full()"
        ),
    ),
    "mariadb": (
        (
            "CREATE TRIGGER disk_is_full BEFORE INSERT ON deleted_mailboxes FOR EACH ROW"
            " SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'"
        ),
    ),
}


def _no_more_pages(engine: AsyncEngine) -> Any:
    """Let no SQLite file grow that this engine opens from now on."""

    def connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA max_page_count = 1")  # SQLite takes the size that it has
        cursor.close()

    event.listen(engine.sync_engine, "connect", connected)
    return connected


@asynccontextmanager
async def _full(service: Service) -> AsyncIterator[None]:
    """Fill the disk under ``deleted_mailboxes``, on SQLite under all of ``vmail``."""
    store, database = service.store, service.context.databases[service.store.accounts]
    if store.name == "sqlite":
        listener = _no_more_pages(database.engine)
        database._pool.drop_idle()
        yield
        event.remove(database.engine.sync_engine, "connect", listener)
        database._pool.drop_idle()
        return
    for statement in _TRIGGERS[store.dialect]:
        await store.execute(statement, store.accounts)
    try:
        yield
    finally:
        on = " ON deleted_mailboxes" if store.name == "postgresql" else ""
        await store.execute(f"DROP TRIGGER disk_is_full{on}", store.accounts)
        if store.name == "postgresql":
            await store.execute("DROP FUNCTION disk_is_full", store.accounts)


async def _refused(client: Client, store: Store) -> tuple[int, str, str]:
    """Change something that needs room; returns status, code and whose account it was."""
    if store.name != "sqlite":
        status, code, _ = await client.refused("DELETE", "user/full@ex.com")
        return status, code, "full@ex.com"
    for number in range(100):
        mail = f"filler{number}@ex.com"
        form = {"password_hash": "{PLAIN}Corr3ct-Horse", "name": "x" * 250}
        status, answer = await client.call("POST", f"user/{mail}", data=form)
        if status != 200:
            return status, answer["_msg"], mail
    raise AssertionError("the file grows")


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(store: Store, tmp_path: Path) -> AsyncIterator[Store]:
    """A store whose files have no free pages: on SQLite one of its own."""
    if store.name != "sqlite":
        yield store
        return
    own = await create_sqlite(tmp_path)
    await own.reset()
    yield own
    await own.close()


async def test_a_full_account_database(
    fresh: Store, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fresh
    async with serving(store) as service:
        client = await service.root()
        await client.ok("POST", "domain/ex.com")
        await client.ok("POST", "user/full@ex.com", password_hash="{PLAIN}Corr3ct-Horse")
        health = service.client(mount="")
        async with _full(service):
            status, code, mail = await _refused(client, store)
            assert (status, code) == (503, "STORAGE_FULL")
            ready, answer = await health.call("GET", "/readyz?verbose")
            name = store.accounts
            assert (ready, answer["_detail"]) == (503, f"Full: {name}.")
            assert answer["_data"]["servers"][name]["status"] == "full"
            await client.ok("GET", "users/ex.com")  # who reads goes on
        names = await client.ok("GET", "users/ex.com", email_only="yes")
        assert (mail in names) == (store.name != "sqlite")
        logged = "".join(capfd.readouterr())
        assert "Traceback" not in logged
        assert logged.count("storage_full") == 1
        # It is tried again after a while, and by the next write in any case.
        if store.name != "sqlite":
            await client.ok("DELETE", f"user/{mail}")
        monkeypatch.setattr(service.context.databases[store.accounts], "_full_until", 0.0)
        service.context.probes._last = None
        assert (await health.call("GET", "/readyz"))[0] == 200


@pytest.mark.stores("sqlite")
async def test_a_full_state_database(fresh: Store) -> None:
    async with serving(fresh) as service:
        await service.root()
        connections = service.context.state.connections
        listener = _no_more_pages(connections._engine)
        await connections._engine.dispose()
        answer: dict[str, Any] = {}
        for _ in range(300):
            form = {"username": "root@admins.test", "password": "Corr3ct-Horse"}
            status, answer = await service.client().call("POST", "login", data=form)
            if status != 200:
                break
        assert (status, answer["_msg"]) == (503, "STORAGE_FULL")
        ready, answer = await service.client(mount="").call("GET", "/readyz")
        assert (ready, answer["_detail"]) == (503, "Full: state.")
        event.remove(connections._engine.sync_engine, "connect", listener)


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_an_exhausted_pool_is_seen(store: Store) -> None:
    """Not ready when somebody has been waiting for a connection for half of the limit."""
    async with serving(store, pool_size=2, pool_timeout=6) as service:
        database = service.context.databases["vmail"]
        health = service.client(mount="")
        connections = [await database.acquire() for _ in range(2)]
        waiting = asyncio.create_task(database.acquire())
        await asyncio.sleep(3.1)
        status, answer = await health.call("GET", "/readyz")
        assert (status, answer["_detail"]) == (503, "Busy: vmail.")
        for pooled in connections:
            await database.give(pooled)
        await database.give(await waiting)
        service.context.probes._last = None
        assert (await health.call("GET", "/readyz"))[0] == 200
