"""The recorder itself: it finds nothing on one healthy server, and each row that is missing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.proof import Proof
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


def _tells(fault: str, gone: dict[str, Any]) -> bool:
    """Whether a fault names the owner of a row that is gone, requests and answers."""
    title, _, sent = fault.partition("\n")
    owner = next(
        gone[name] for name in ("address", "username", "account", "domain") if name in gone
    )
    owners = {owner, gone.get("forwarding", owner)}
    return any(name in title for name in owners) and "    sent " in sent and " 200 {" in sent


async def test_missing_rows_are_found(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await add_root(store)
    place = temporary_directory("api")
    with running(urls_of(store) | {"IREDAPI_DATA_DIR": str(place)}) as api:
        recorder = Recorder(store, [api.address], changes=150, clients=3)
        await recorder.prepare()
        work = asyncio.create_task(recorder.run())
        lines = asyncio.create_task(recorder.figures.tell(lambda: 7, every=0.2))
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
        lines.cancel()
        recorder.over.set()
        await work
    remove_directory(place)
    recorder.check_answers()
    assert await recorder.faults() == []
    assert "acknowledged" in (line := capsys.readouterr().out)
    assert "7 faults, 409: 0, 503: 0" in line
    monkeypatch.setenv("CLUSTER_REPORT", str(tmp_path / "report"))
    Proof(recorder, wrong=["lost: one", "half made (remove user): two", "odd"]).report()
    report = json.loads((tmp_path / "report").read_text(encoding="utf-8"))
    assert report["acknowledged"] == recorder.figures.total >= 150
    assert (report["lost"], report["half_made"], report["wrong"]) == (1, 1, 3)
    for database, table in TABLES:
        rows = await store.rows(f"SELECT * FROM {table}", database)
        await store.execute(
            f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})", database
        )
        faults = await recorder.faults()
        (gone,) = [
            row for row in rows if row not in await store.rows(f"SELECT * FROM {table}", database)
        ]
        # It names the account, what was sent about it, and what was answered.
        assert any(_tells(fault, gone) for fault in faults), (table, gone, faults)
        await store.execute(f"DELETE FROM {table}", database)
        await store.insert(table, *rows, database=database)
        assert await recorder.faults() == [], table
