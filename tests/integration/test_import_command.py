"""``iredapi import``: into the local storage, and into a running service with a token."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import COMMAND, ApiProcess, add_root, environment, running, urls_of
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")
HASH = "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQAOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUIswKzHUCh+DRv"  # noqa: E501


def run(given: dict[str, str], *words: str | Path) -> tuple[int, str, str]:
    """Run the command; returns status, stdout and stderr."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        env=environment(**given), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout.strip(), done.stderr


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


async def test_local(store: Store, tmp_path: Path) -> None:
    given = urls_of(store) | {"IREDAPI_DATA_DIR": str(tmp_path)}
    wrong = {"type": "user", "mail": "no hash@ex.com", "password_hash": HASH}
    file = lines(
        tmp_path / "in", {"type": "domain", "domain": "ex.com"},
        {"type": "user", "mail": "a@ex.com", "password_hash": HASH}, wrong,
    )  # fmt: skip
    with file.open("a") as more:
        more.write("{broken\n")
    kept = tmp_path / "failed"
    status, out, _ = run(given, "import", file, "--dry-run")
    assert (status, out) == (1, "2 done, 2 failed (dry run)")
    status, out, err = run(given, "import", file, "--failed", kept)
    assert (status, out) == (1, "2 done, 2 failed")
    assert "in:3: no hash@ex.com INVALID_MAIL: mail" in err
    assert kept.read_text().splitlines() == [json.dumps(wrong), "{broken"]
    assert kept.stat().st_mode & 0o777 == 0o600
    rows = tmp_path / "mailbox.csv"
    rows.write_text(f"username,password,quota\na@ex.com,{HASH},0\nb@ex.com,{HASH},1048576\n")
    goto = tmp_path / "alias.csv"
    goto.write_text('address,goto\nb@ex.com,"b@ex.com,x@far.org"\ns@ex.com,a@ex.com\n')
    status, out, err = run(given, "import", "--from", "postfixadmin", rows, goto)
    assert (status, out) == (0, "3 done, 1 unchanged"), err
    (found,) = await store.rows("SELECT quota FROM mailbox WHERE username='b@ex.com'")
    assert found["quota"] == 1
    for words in (["--on-existing", "merge"], ["--from", "exim"], ["--failed", str(file)]):
        assert run(given, "import", file, *words)[0] == 2, words
    assert run(given, "import", tmp_path / "none")[0] == 2


async def test_remote(store: Store, tmp_path: Path) -> None:
    await add_root(store)
    given = urls_of(store) | {"IREDAPI_DATA_DIR": str(tmp_path)}
    file = lines(
        tmp_path / "in", {"type": "domain", "domain": "ex.com"},
        *({"type": "user", "mail": f"u{n}@ex.com", "password_hash": HASH} for n in range(600)),
        {"type": "user", "mail": "z@ex.com"},
    )  # fmt: skip
    status, out, _ = run(given, "token", "create", ROOT, "--label", "import")
    secret = out.splitlines()[-1]
    assert (status, bool(PASSWORD)) == (0, True)

    def remote(api: ApiProcess, token: str, *words: str) -> tuple[int, str, str]:
        to = ["import", str(file), "--url", f"{api.address}/api", *words]
        return run({"IREDAPI_TOKEN": token} if token else {}, *to)

    with running(given, directory=tmp_path) as api:
        assert remote(api, secret)[:2] == (1, "601 done, 1 failed")
        (tmp_path / "token").write_text(secret + "\n")
        words = ("--token-file", str(tmp_path / "token"), "--on-existing", "fail")
        assert remote(api, "", *words)[:2] == (1, "601 unchanged, 1 failed")
        status, out, err = remote(api, "iredapi_wrong")
        assert (status, out, "INVALID_TOKEN" in err) == (1, "no line", True)
        assert remote(api, "")[0] == 2
    plan = tmp_path / "plan.yaml"
    plan.write_text("domains:\n  ex.com: {name: x}\n")
    # 2 is "there is something to do" of apply.
    for wrong, word, what in ((2, "import", file), (2, "export", "ex.com"), (1, "apply", plan)):
        far = (word, str(what), "--url", "http://far.test/api")
        status, out, err = run({"IREDAPI_TOKEN": secret}, *far)
        assert (status, "https only" in err) == (wrong, True), word
