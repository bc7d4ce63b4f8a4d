"""`iredapi export` and `iredapi apply` as an administrator types them, here and at a service."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from iredapi.cli.commands import app
from tests.clients import PASSWORD
from tests.contract.histories import HASH
from tests.servers.api import COMMAND, environment, running

FILE = f"""
domains:
  example.com: {{name: Example}}
users:
  alice@example.com: {{password_env: ALICE_PASSWORD}}
  bob@example.com: {{password_hash: "{HASH}"}}
"""


def run(*arguments: object, typed: str = "") -> Result:
    """Run a command in a thread of its own, because it has an event loop of its own."""
    words = [str(word) for word in arguments]
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, app, words, typed).result(timeout=60)


@pytest.fixture(name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to apply, and a configuration with SQLite databases of its own."""
    monkeypatch.setenv("IREDAPI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALICE_PASSWORD", PASSWORD)
    path = tmp_path / "state.yaml"
    path.write_text(FILE)
    return path


def test_apply_twice(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = run("apply", file, "--plan")
    assert (plan.exit_code, plan.stdout.splitlines()[-1]) == (
        2, "3 changes: 3 would be created, 0 would be changed, 0 would be removed",
    )  # fmt: skip
    assert "+ user alice@example.com\n" in plan.stdout
    assert "    password: ***\n" in plan.stdout
    assert PASSWORD not in plan.output
    done = run("apply", file)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        0, "3 changes: 3 created, 0 changed, 0 removed",
    )  # fmt: skip
    for words in ((), ("--plan",), ("--prune",)):
        again = run("apply", file, *words)
        assert (again.exit_code, again.stdout) == (0, "0 changes\n")
    # What is not in the file stays, unless somebody agrees.
    file.write_text(FILE.replace("  bob@", "  #"))
    assert run("apply", file).stdout == "0 changes\n"
    asked = run("apply", file, "--prune")
    assert (asked.exit_code, asked.stdout) == (1, "- user bob@example.com\n")
    assert "add --yes" in asked.stderr
    removed = run("apply", file, "--prune", "--yes")
    assert (removed.exit_code, removed.stdout.splitlines()[-1]) == (
        0, "1 change: 0 created, 0 changed, 1 removed",
    )  # fmt: skip
    # Errors are no changes: nothing is done, and the status differs.
    monkeypatch.delenv("ALICE_PASSWORD")
    missing = run("apply", file, "--plan")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "the environment has no ALICE_PASSWORD" in missing.stderr
    file.write_text("domains: {example.com: {nme: x}, new.com: {}}")
    wrong = run("apply", file)
    assert wrong.exit_code == 1
    assert "domain example.com: IGNORED_PARAMETER: nme" in wrong.stderr
    assert "new.com" not in run("export").stdout


def on_terminal(*arguments: object, typed: str, **more: str) -> tuple[int, str]:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    given = {name: os.environ[name] for name in ("IREDAPI_DATA_DIR", "ALICE_PASSWORD")}
    words = [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(
        words, env=environment(**given, **more), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


def test_on_a_terminal(file: Path) -> None:
    """There are colours, unless somebody wants none; and a question before something goes."""
    status, shown = on_terminal("apply", file, typed="")
    assert (status, "\x1b[32m+ domain example.com" in shown) == (0, True), shown
    file.write_text(FILE.replace("  bob@", "  #"))
    status, shown = on_terminal("apply", file, "--prune", typed="n\n", NO_COLOR="1")
    assert (status, "\x1b[" in shown) == (1, False), shown
    assert "Remove these 1? [y/N]" in shown
    assert "bob@example.com" in run("export").stdout
    status, shown = on_terminal("export", "--output", file.with_name("out"), typed="")
    assert (status, "\r5 records" in shown) == (0, True), shown


def test_export(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("apply", file).exit_code == 0
    every = run("export")
    types = [json.loads(line)["type"] for line in every.stdout.splitlines()]
    assert types[:3] == ["domain", "user", "user"]
    assert "without hashes of passwords" in every.stderr
    monkeypatch.setenv("IREDAPI_HIDDEN_USER_FIELDS", "")
    output = file.with_name("out.ndjson")
    done = run("export", "EXAMPLE.com", "--output", output)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "3 records\n")
    assert (output.stat().st_mode & 0o777, HASH in output.read_text()) == (0o600, True)
    before = output.read_text()
    wrong = run("export", "never.com", "--output", output)
    assert (wrong.exit_code, wrong.stderr) == (
        1, "NO_SUCH_DOMAIN: There is no mail domain never.com.\n"
    )  # fmt: skip
    assert output.read_text() == before
    assert not [path for path in file.parent.iterdir() if path.name.endswith(".part")]


def test_failed_rows_of_csv_are_records(file: Path) -> None:
    """Also those that begin with a brace, as hashes do."""
    rows, failed = file.with_name("rows.csv"), file.with_name("failed")
    rows.write_text(f"password_hash,mail,quota\n{HASH},a@never.com,1\n")
    done = run("import", rows, "--failed", failed)
    assert (done.exit_code, done.stdout) == (1, "1 failed\n"), done.output
    record = {"type": "user", "password_hash": HASH, "mail": "a@never.com", "quota": "1"}
    assert json.loads(failed.read_text()) == record


def test_remote(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same at a service, with a token of the environment or of a file."""
    assert run("apply", file).exit_code == 0
    typed = run("admin", "create", "root@admins.test", "--global", typed=f"{PASSWORD}\n")
    assert typed.exit_code == 0, typed.output
    token = run("token", "create", "root@admins.test", "--label", "x").stdout.splitlines()[-1]
    # Other programs store what str.splitlines takes for the end of a line.
    with closing(sqlite3.connect(file.parent / "vmail.db")) as database, database:
        database.execute("UPDATE mailbox SET name = ?", ("a\u2028b\x85c",))
    local = run("export", "example.com").stdout
    lines = file.with_name("lines")
    lines.write_bytes(f'{{"type":"user","mail":"\u2028@example.com"}}\n{local}'.encode())
    given = {"IREDAPI_DATA_DIR": str(file.parent)}
    with running(given, directory=file.parent) as api:
        service = ("--url", f"{api.address}/api")
        unknown = run("export", *service)
        assert (unknown.exit_code, "IREDAPI_TOKEN" in unknown.stderr) == (2, True)
        monkeypatch.setenv("IREDAPI_TOKEN", "iredapi_wrong")
        refused = run("export", *service)
        assert (refused.exit_code, "INVALID_TOKEN" in refused.stderr) == (1, True)
        refused = run("apply", file, *service)
        assert (refused.exit_code, "INVALID_TOKEN" in refused.stderr) == (1, True)
        secret = file.with_name("token")
        secret.write_text(f"{token}\n")
        assert run(
            "export", "example.com", "--url", api.address, "--token-file", secret
        ).stdout == (local)
        monkeypatch.setenv("IREDAPI_TOKEN", token)
        done = run("import", lines, *service)
        assert (done.exit_code, done.stdout) == (1, "3 unchanged, 1 failed\n"), done.output
        assert run("apply", file, *service).stdout == "0 changes\n"
        file.write_text(FILE.replace("Example}", "Other}"))
        changed = run("apply", file, *service)
        assert changed.stdout.splitlines()[:2] == [
            "~ domain example.com",
            "    name: Example → Other",
        ]
        missing = run("export", "never.com", *service)
        assert (missing.exit_code, "NO_SUCH_DOMAIN" in missing.stderr) == (1, True)
    away = run("export", *service)
    assert (away.exit_code, api.address in away.stderr) == (1, True)
