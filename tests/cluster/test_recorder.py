"""The recorder itself: it finds nothing on one healthy server, and each row that is missing."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.recorder import Recorder
from tests.servers.api import add_root, running, urls_of
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import Database, Store

pytestmark = pytest.mark.stores("sqlite")
TABLES: tuple[tuple[Database, str], ...] = (
    ("vmail", "forwardings"),
    ("vmail", "mailbox"),
    ("vmail", "alias"),
    ("vmail", "domain"),
    ("vmail", "used_quota"),
    ("vmail", "deleted_mailboxes"),
    ("iredapd", "throttle"),
)


async def test_missing_rows_are_found(store: Store) -> None:
    await add_root(store)
    place = temporary_directory("api")
    with running(urls_of(store) | {"IREDAPI_DATA_DIR": str(place)}) as api:
        recorder = Recorder(store, [api.address], changes=150, clients=3)
        await recorder.prepare()
        work = asyncio.create_task(recorder.run())
        for _ in range(600):
            bundles = [bundle.state for bundle in recorder.bundles]
            there = (
                any(state.removed for state in bundles)
                and any(state.alias for state in bundles)
                and any(state.user and state.user.used for state in bundles)
                and any(state.user and state.user.throttle for state in bundles)
            )
            if work.done() or (there and recorder.acknowledged_enough()):
                break
            await asyncio.sleep(0.1)
        recorder.over.set()
        await work
    remove_directory(place)
    recorder.check_answers()
    assert await recorder.faults() == []
    for database, table in TABLES:
        rows = await store.rows(f"SELECT * FROM {table}", database)
        await store.execute(
            f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})", database
        )
        assert await recorder.faults() != [], table
        await store.execute(f"DELETE FROM {table}", database)
        await store.insert(table, *rows, database=database)
        assert await recorder.faults() == [], table
