"""``doctor --fix`` removes rows: limits of removal, and the file that restores removed rows."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.engine import make_url
from typer.testing import Result

from tests.clients import ROOT
from tests.integration.test_command_line import in_process
from tests.servers.api import add_root, urls_of
from tests.servers.openldap import domain_dn
from tests.servers.process import find_program
from tests.servers.rich import as_bytes
from tests.servers.store import ALL_STORES, Database, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
ODD = "it's \\ \"\u00e9\n$x; --"
"""Texts that are hard to quote in SQL."""
TABLES: dict[Database, list[str]] = {
    "amavisd": ["users", "policy", "wblist", "outbound_wblist", "mailaddr"],
    "iredapd": ["throttle", "throttle_tracking", "greylisting", "greylisting_whitelists"],
    "iredadmin": ["settings"],
}


async def plant(store: Store, accounts: list[str]) -> None:
    """Write policies of every kind for accounts."""
    friend = {"id": 900, "email": as_bytes(store, "friend@far.org"), "priority": 10}
    await store.insert("mailaddr", friend, database="amavisd")
    for number, account in enumerate(accounts, 100):
        policy = {"id": number, "policy_name": account, "spam_subject_tag2": ODD}
        await store.insert("policy", policy, database="amavisd")
        user = {"id": number, "policy_id": number, "email": as_bytes(store, account)}
        await store.insert("users", user | {"priority": 10}, database="amavisd")
        row = {"rid": number, "sid": 900, "wb": "W"}
        await store.insert("wblist", row, database="amavisd")
        row = {"rid": 900, "sid": number, "wb": "B"}
        await store.insert("outbound_wblist", row, database="amavisd")
        row = {"id": number, "account": account, "kind": "outbound", "priority": 100, "period": 60}
        await store.insert("throttle", row, database="iredapd")
        row = {"tid": number, "account": account, "period": 60}
        await store.insert("throttle_tracking", row, database="iredapd")
        row = {"account": account, "sender": "@.", "priority": 100, "comment": ODD}
        await store.insert("greylisting", row, database="iredapd")
        row = {"account": account, "sender": "@far.org", "comment": ODD}
        await store.insert("greylisting_whitelists", row, database="iredapd")
        row = {"account": account, "k": "k", "v": ODD}
        await store.insert("settings", row, database="iredadmin")


async def add_domain(store: Store) -> None:
    if store.name == "openldap":
        attributes = {"objectClass": "mailDomain", "domainName": "ex.com"}
        attributes |= {"accountStatus": "active", "mtaTransport": "dovecot"}
        store.directory.add(domain_dn("ex.com"), attributes)
    else:
        await store.insert("domain", {"domain": "ex.com", "transport": "dovecot"})


async def dump(store: Store) -> dict[str, list[str]]:
    """Return all rows that a repair may change, in any order."""
    found = {}
    for database, tables in TABLES.items():
        for table in tables:
            rows = await store.rows(f"SELECT * FROM {table}", database)
            found[table] = sorted(str(sorted(row.items())) for row in rows)
    return found


@pytest_asyncio.fixture
async def doctor(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    await add_root(store)
    for name, value in {**urls_of(store), "IREDAPI_DATA_DIR": str(tmp_path / "d")}.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> Result:
        return in_process("doctor", *words)

    yield run


def put_back(store: Store, database: Database, file: Path) -> None:
    """Run a file with the program that it names, as the administrator."""
    url = make_url(store.admin[database])
    if store.dialect == "sqlite":
        with sqlite3.connect(str(url.database)) as connection:
            connection.executescript(file.read_text(encoding="utf-8"))
        return
    place = [f"--host={url.host}", f"--port={url.port}"]
    if store.dialect == "postgresql":
        program = find_program("psql", "/usr/lib/postgresql/15/bin") or "psql"
        words = [program, *place, f"--username={url.username}", "-v", "ON_ERROR_STOP=1", "-q"]
        words += ["-f", str(file), str(url.database)]
    else:
        program = find_program("mariadb") or "mysql"
        words = [program, "--no-defaults", *place, f"--user={url.username}", str(url.database)]
    secrets = {"PGPASSWORD": str(url.password or ""), "MYSQL_PWD": str(url.password or "")}
    with file.open(encoding="utf-8") as given:
        subprocess.run(words, stdin=given, env=os.environ | secrets, check=True, timeout=60)


async def test_removed_rows_can_be_restored(store: Store, doctor: Any, tmp_path: Path) -> None:
    """The file that the report names restores the rows, also when it is applied twice."""
    await add_domain(store)
    await plant(store, ["gone@ex.com", "@gone.com", "gone.com", "it's@gone.com"])
    before = await dump(store)
    done = doctor("--fix", "--json", "--only", "POLICY_WITHOUT_ACCOUNT", "--only",
                  "THROTTLE_WITHOUT_ACCOUNT", "--only", "GREYLISTING_WITHOUT_ACCOUNT", "--only",
                  "PANEL_SETTING_WITHOUT_ACCOUNT")  # fmt: skip
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["summary"]["removed_to"]
    assert files.keys() == {"amavisd", "iredapd", "iredadmin"}
    assert {path.name for path in (tmp_path / "d").glob("*.sql")} == {
        Path(path).name for path in files.values()
    }
    after = await dump(store)
    assert sum(map(len, after.values())) < sum(map(len, before.values())) - 20
    for name, text in files.items():
        assert stat.S_IMODE(os.stat(text).st_mode) == 0o600  # noqa: PTH116
        put_back(store, name, Path(text))
        put_back(store, name, Path(text))
    assert await dump(store) == before


async def test_nothing_is_removed_without_a_domain(store: Store, doctor: Any) -> None:
    """With an empty account storage not a single row is removed."""
    await plant(store, ["u@ex.com"])
    before = await dump(store)
    done = doctor("--fix")
    assert done.exit_code == 1, done.output
    assert await dump(store) == before
    assert "REMOVAL_HELD_BACK" in done.stdout
    assert "holds no domain" in done.stdout
    number = re.search(r"amavisd\.users \((\d+) of (\d+) rows;.*--remove-strays (\d+)", done.stdout)
    assert number
    assert number[1] == number[3]
    done = doctor("--fix", "--remove-strays", "0")
    assert await dump(store) == before
    done = doctor("--fix", "--remove-strays", number[3], "--only", "POLICY_WITHOUT_ACCOUNT")
    assert (await dump(store))["wblist"] == []
    assert "The rows removed from amavisd are in " in done.stdout


async def test_large_removals_need_a_number(store: Store, doctor: Any, tmp_path: Path) -> None:
    """More than 20 rows and 10 percent of a table are removed only with --remove-strays."""
    await add_domain(store)
    rows = [{"account": f"u{n}@gone.com", "sender": "@.", "priority": 100} for n in range(21)]
    await store.insert("greylisting", *rows, database="iredapd")
    before = await dump(store)
    only = ("--fix", "--only", "GREYLISTING_WITHOUT_ACCOUNT")
    for words in ((), ("--remove-strays", "20")):
        done = doctor(*only, *words)
        assert done.exit_code == 1
        assert "21 of " in done.stdout
        assert await dump(store) == before
    done = doctor(*only, "--remove-strays", "21")
    assert done.exit_code == 0, done.output
    left = await store.rows("SELECT account FROM greylisting", "iredapd")
    assert not [row for row in left if "gone" in row["account"]]
    # Twenty rows may be removed, also from a small table.
    await store.insert("greylisting", *rows[:20], database="iredapd")
    assert doctor(*only).exit_code == 0


@pytest.mark.stores("sqlite")
async def test_nothing_is_removed_when_the_file_cannot_be_written(
    store: Store, doctor: Any, tmp_path: Path
) -> None:
    await add_domain(store)
    await plant(store, ["gone@ex.com"])
    before = await dump(store)
    (tmp_path / "file").touch()
    done = doctor("--fix", "--removed-to", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "--removed-to: the rows to remove cannot be written" in done.stderr
    assert "Traceback" not in done.output
    assert (await dump(store))["users"] == before["users"]


async def test_commands_report_the_storage_they_change(store: Store, doctor: Any) -> None:
    """Every command that changes something prints its databases, without passwords."""
    for words in (
        ("doctor", "--fix", "--only", "STATE_OUTDATED"),
        ("admin", "create", "new@admins.test", "--password", "Str0ng-Passw0rd!"),
        ("token", "create", ROOT, "--label", "x"),
    ):
        done = in_process(*words)
        assert done.exit_code == 0, done.output
        for url in map(make_url, store.urls().values()):
            assert str(url.database) in done.stderr
            assert url.password is None or str(url.password) not in done.output
        if store.name == "openldap":
            assert store.directory.uri in done.stderr


WIDER: dict[Database, tuple[str, ...]] = {
    "amavisd": ("bob", "@.com", "@.org"),
    "iredapd": ("192.0.2.1", "198.51.100.0/24", "@.com", "@192.0.2.9"),
}
SHOWN = ("u@ex.com", "@ex.com", "@.ex.com")
"""Of a domain that is hosted; a row of everybody is there."""


async def test_wider_settings_are_reported_and_removed_by_name(store: Store, doctor: Any) -> None:
    """Settings for networks, top-level domains and local parts may be meant so."""
    await add_domain(store)
    for database, accounts in WIDER.items():
        for number, account in enumerate((*accounts, *SHOWN), 500):
            row: dict[str, Any] = {"id": number, "account": account, "priority": 1, "period": 60}
            if database == "amavisd":
                row = {"id": number, "email": as_bytes(store, account), "priority": 1}
                await store.insert("users", row, database=database)
                continue
            await store.insert("throttle", row | {"kind": "inbound"}, database=database)
            await store.insert(
                "greylisting", {"account": account, "sender": "@."}, database=database
            )

    async def left() -> dict[str, set[str]]:
        queries = {"users": "email", "throttle": "account", "greylisting": "account"}
        found = {}
        for table, name in queries.items():
            place: Database = "amavisd" if table == "users" else "iredapd"
            rows = await store.rows(f"SELECT {name} AS name FROM {table}", place)
            texts = (row["name"] for row in rows)
            found[table] = {t if isinstance(t, str) else bytes(t).decode() for t in texts}
        return found

    before, only = await left(), ("--json", "--only", "WIDER_SETTING")
    for words in ((), ("--fix",), ("--fix", "--named", "u@ex.com")):
        done = doctor(*only, *words)
        assert done.exit_code == 0, done.output
        told = {(item["subject"], item["detail"]) for item in json.loads(done.stdout)["findings"]}
        assert told == {
            *((account, "users") for account in WIDER["amavisd"]),
            *((account, "throttle") for account in WIDER["iredapd"]),
            *((account, "greylisting") for account in WIDER["iredapd"]),
        }
        assert await left() == before
    done = doctor(*only, "--fix", "--named", "bob", "--named", "@.com", "--named", "192.0.2.1")
    assert done.exit_code == 0, done.output
    gone = {"bob", "@.com", "192.0.2.1"}
    assert await left() == {table: names - gone for table, names in before.items()}


@pytest.mark.sql_only("an address in a directory is an entry's")
async def test_routes_without_account_are_removed_by_name(store: Store, doctor: Any) -> None:
    await add_domain(store)
    flags = ("is_forwarding", "is_list", "")
    for number, flag in enumerate(flags):
        for name in ("gone", "kept"):
            row = {"address": f"{name}{number}@ex.com", "forwarding": "x@far.org",
                   "domain": "ex.com", "dest_domain": "far.org"}  # fmt: skip
            await store.insert("forwardings", row | ({flag: 1} if flag else {}))
    await store.insert("alias", {"address": "a@ex.com", "domain": "ex.com"})
    for account in ("a@ex.com", "@ex.com"):
        await store.insert("sender_relayhost", {"account": account, "relayhost": "[192.0.2.1]"})
    named = [word for number in range(3) for word in ("--named", f"gone{number}@ex.com")]
    told = doctor("--json")
    codes = {(i["code"], i["subject"]) for i in json.loads(told.stdout)["findings"]}
    assert codes >= {
        ("FORWARDING_WITHOUT_USER", "gone0@ex.com"), ("MEMBERS_WITHOUT_ALIAS", "gone1@ex.com"),
        ("ROUTE_WITHOUT_KIND", "gone2@ex.com"), ("RELAY_OF_ALIAS", "a@ex.com"),
    }  # fmt: skip
    doctor("--fix")
    assert len(await store.rows("SELECT id FROM forwardings")) == 6
    doctor("--fix", *named, "--named", "a@ex.com")
    left = await store.rows("SELECT address FROM forwardings ORDER BY address")
    assert [row["address"] for row in left] == [f"kept{number}@ex.com" for number in range(3)]
    assert [row["account"] for row in await store.rows("SELECT account FROM sender_relayhost")] == [
        "@ex.com"
    ]


async def test_greylisting_of_one_sender_is_removed_by_name(store: Store, doctor: Any) -> None:
    await add_domain(store)
    for account in ("@.", "@ex.com"):
        for sender in ("@.", "@far.org"):
            if (account, sender) != ("@.", "@."):  # that row is there
                row = {"account": account, "sender": sender}
                await store.insert("greylisting", row, database="iredapd")
    only = ("--only", "GREYLISTING_OF_SENDER", "--json")
    found = json.loads(doctor(*only, "--fix").stdout)["findings"]
    assert sorted(item["subject"] for item in found) == ["@.", "@ex.com"]
    doctor(*only, "--fix", "--named", "@.")
    left = await store.rows("SELECT account, sender FROM greylisting", "iredapd")
    assert ("@.", "@far.org") not in {(row["account"], row["sender"]) for row in left}
    assert ("@ex.com", "@far.org") in {(row["account"], row["sender"]) for row in left}


async def test_shared_folders_are_reported_on_demand(store: Store, doctor: Any) -> None:
    await add_domain(store)
    place = store.accounts
    rows = [{"from_user": "u@ex.com", "to_user": f"{name}@ex.com"} for name in "vw"]
    await store.insert("share_folder", *rows, {"from_user": "v@ex.com", "to_user": "u@ex.com"},
                       database=place)  # fmt: skip
    await store.insert("anyone_shares", {"from_user": "u@ex.com"}, database=place)
    assert "FOLDER_SHARED" not in doctor().stdout
    only = ("--only", "FOLDER_SHARED", "--json")
    found = json.loads(doctor(*only).stdout)["findings"]
    assert sorted((item["subject"], item["detail"]) for item in found) == [
        ("u@ex.com", "anyone"), ("u@ex.com", "v@ex.com"), ("u@ex.com", "w@ex.com"),
        ("v@ex.com", "u@ex.com"),
    ]  # fmt: skip
    doctor(*only, "--fix", "--named", "u@ex.com")
    left = await store.rows("SELECT from_user FROM share_folder", place)
    assert [row["from_user"] for row in left] == ["v@ex.com"]
    assert await store.rows("SELECT from_user FROM anyone_shares", place) == []
