"""An installation of an earlier version is upgraded by a restart.

``data/installation_4809920.json.xz`` is what commit 4809920 (26 Nov 2026) had in its databases, for
each kind of storage: the rows of all databases, the entries of the directory, and the statements
with which that commit made the tables of its state database. The code of that commit wrote all of
it: two sessions, tokens (one rotated, one revoked), nine failed logins, and a write that was killed
in the middle: with SQL a rename, with OpenLDAP a change that is in the journal.
``data/record_installation.txt`` is the program that recorded it, and says how it is run.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Collection, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from iredapi import __version__
from iredapi.state.tables import metadata
from tests.clients import ROOT, Client, Service, serving
from tests.servers.openldap import account_dn
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
DATA = Path(__file__).parent / "data" / "installation_4809920.json.xz"
BOSS = "boss@admins.test"
TIMES = {"created", "seen", "expires", "window_start", "old_until", "used", "begun"}
"""Columns of the state database with seconds since the epoch."""


def _value(value: Any) -> Any:
    match value:
        case {"bytes": str(found)}:
            return bytes.fromhex(found)
        case {"datetime": str(found)}:
            return datetime.fromisoformat(found)
        case {"date": str(found)}:
            return date.fromisoformat(found)
    return value


async def restore(store: Store) -> dict[str, Any]:
    """Put the recorded installation into ``store``, as if it had been recorded just now."""
    found: dict[str, Any] = json.loads(lzma.decompress(DATA.read_bytes()))[store.name]
    for table in (*metadata.tables, "alembic_version"):
        await store.execute(f"DROP TABLE IF EXISTS {table}", "state")
    # The service's own login makes them, and owns them on PostgreSQL.
    engine = create_async_engine(store.state)
    async with engine.begin() as connection:
        for statement in found["ddl"]:
            await connection.exec_driver_sql(statement)
    await engine.dispose()
    later = time.time() - found["recorded"]
    for name, rows in found["state"].items():
        for row in rows:
            moved = {
                column: value + later if column in TIMES and value else value
                for column, value in row.items()
            }
            await store.insert(name, moved, database="state")
    for database in store.admin:
        if database == "state":
            continue
        for name, rows in found["databases"].get(database, {}).items():
            await store.execute(f"DELETE FROM {name}", database)
            for row in rows:
                values = {column: _value(value) for column, value in row.items()}
                await store.insert(name, values, database=database)
    if store.openldap is not None:
        store.openldap.load(ldif(found["directory"], present=store.openldap.dump()))
    return found


def ldif(entries: dict[str, dict[str, list[str]]], *, present: Collection[str]) -> Iterator[str]:
    """Write entries with their ids (``entryUUID``), which only slapadd can set; parents first."""
    for dn in sorted(entries.keys() - present, key=len):
        yield f"dn: {dn}\n"
        for name, values in entries[dn].items():
            for value in values:
                yield f"{name}:: {b64encode(value.encode()).decode()}\n"
        yield "\n"


def with_token(service: Service, token: str, *, address: str = "127.0.0.1") -> Client:
    client = service.client(address=address)
    client.http.headers["Authorization"] = f"Bearer {token}"
    return client


async def test_an_installation_of_4809920_is_upgraded_by_a_restart(store: Store) -> None:
    found = await restore(store)
    async with serving(store) as service:
        await sessions_are_valid(service, found["sessions"])
        await tokens_work(service, found["tokens"])
        await failed_logins_count(service)
        if store.openldap is None:
            await the_rename_is_ended(service)
        else:
            await the_journal_is_finished(service)
        # And the tables take what is new.
        root = await service.root()
        await root.ok("POST", "tokens", label="new")


async def sessions_are_valid(service: Service, cookies: dict[str, dict[str, str]]) -> None:
    for username, jar in cookies.items():
        client = service.client()
        client.http.cookies.update(jar)
        assert await client.ok("GET", "domain/ex.com"), username
        sessions = await client.ok("GET", "sessions")
        assert sum(session["current"] for session in sessions) == 1
        status = 200 if username == ROOT else 403
        assert (await client.call("GET", "admin/" + ROOT))[0] == status


async def tokens_work(service: Service, tokens: dict[str, str]) -> None:
    for label in ("plain", "narrow", "rotated", "old"):
        assert await with_token(service, tokens[label]).ok("GET", "domain/ex.com"), label
    refused = await with_token(service, tokens["revoked"]).refused("GET", "domain/ex.com")
    assert refused[:2] == (401, "INVALID_TOKEN")
    # What the narrow one may not do.
    narrow = with_token(service, tokens["narrow"])
    assert (await narrow.refused("PUT", "domain/ex.com", name="x"))[0] == 403
    elsewhere = with_token(service, tokens["narrow"], address="192.0.2.7")
    assert (await elsewhere.refused("GET", "domain/ex.com"))[0] in {401, 403}
    listed = await with_token(service, tokens["rotated"]).ok("GET", "tokens")
    assert {item["label"] for item in listed} == {"narrow", "rotated"}
    # From now on they end with their owner's password, which that commit did not record.
    unbound = "SELECT label FROM tokens WHERE credential IS NULL"
    assert await service.store.rows(unbound, "state") == []


async def failed_logins_count(service: Service) -> None:
    """Nine were recorded, and ten are allowed."""
    guesser = service.client(address="192.0.2.9")
    wrong = {"username": BOSS, "password": "Wr0ng-9"}
    assert (await guesser.refused("POST", "login", **wrong))[0] == 401
    assert (await guesser.refused("POST", "login", **wrong | {"password": "Wr0ng-10"}))[0] == 429


async def the_rename_is_ended(service: Service) -> None:
    """It had moved the policies; the same request again moves the account to them."""
    root = await service.root()
    assert (await root.ok("GET", "throttle/u@ex.com/outbound")).get("max_msgs") is None
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    assert (await root.ok("GET", "throttle/n@ex.com/outbound"))["max_msgs"] == 7
    assert await service.store.rows("SELECT * FROM renames", "state") == []


async def the_journal_is_finished(service: Service) -> None:
    """The half change is taken back by the program that finds it, without a request."""
    for _ in range(400):
        if not await service.store.rows("SELECT 1 FROM journal", "state"):
            break
        await asyncio.sleep(0.05)
    assert await service.store.rows("SELECT 1 FROM journal", "state") == []
    entry = service.store.directory.entry(account_dn("a@ex.com"))
    assert entry is not None
    assert entry["mailQuota"] == [str(5 * 2**20)]
    assert "x@ex.com" not in entry["shadowAddress"]


def test_a_console_script_of_the_earlier_version_works() -> None:
    """pip wrote this import into ``bin/iredapi``; an upgrade of the sources does not rewrite it."""
    script = "import sys; from iredapi.cli import main; sys.argv = ['iredapi', '--version']; main()"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == f"iredapi {__version__}\n"
