"""``doctor --fix`` removes with care: what it holds back, and how what it removed comes back."""

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
"""What a careless writer of SQL trips over."""
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
    """Everything that a repair may touch, in any order."""
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


async def test_what_is_removed_can_be_put_back(store: Store, doctor: Any, tmp_path: Path) -> None:
    """By the file that the report names, with the server's own program, and twice at that."""
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
    """An account storage that was not restored yet, or is another one: not even one row goes."""
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
    assert "What was removed from amavisd is in " in done.stdout


async def test_much_of_a_table_is_not_removed(store: Store, doctor: Any, tmp_path: Path) -> None:
    """More than 20 rows and a tenth: only by their number."""
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
    # Twenty go, however few others there are.
    await store.insert("greylisting", *rows[:20], database="iredapd")
    assert doctor(*only).exit_code == 0


@pytest.mark.stores("sqlite")
async def test_what_cannot_be_written_is_not_removed(
    store: Store, doctor: Any, tmp_path: Path
) -> None:
    await add_domain(store)
    await plant(store, ["gone@ex.com"])
    before = await dump(store)
    (tmp_path / "file").touch()
    done = doctor("--fix", "--removed-to", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "--removed-to: what is to be removed cannot be written" in done.stderr
    assert "Traceback" not in done.output
    assert (await dump(store))["users"] == before["users"]


async def test_it_is_said_where_something_is_changed(store: Store, doctor: Any) -> None:
    """By every command that changes something; without the passwords."""
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
