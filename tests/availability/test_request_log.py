"""The line that each request leaves in the log, and what never gets into one."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
from pathlib import Path

import httpx
import pytest
import structlog

from iredapi.observability import logging as logs
from iredapi.observability.logging import configure, masked
from tests.clients import PASSWORD, ROOT, Client, Service
from tests.servers.api import add_root, running, urls_of
from tests.servers.store import ALL_STORES, Store


@pytest.mark.stores(*ALL_STORES)
async def test_one_json_line_per_request(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await root.ok("POST", "domain/ex.com")
    secret = (await root.ok("POST", "tokens", label="x"))["token"]
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    configure("INFO")
    try:
        bearer = {"Authorization": f"Bearer {secret}"}
        client = service.client()
        await client.http.get("domain/ex.com", headers=bearer, params={"password": "s3cret"})
        await client.http.get("domain/ex.com")
        await root.http.post("user/u@ex.com", data={"password": "short"})
        await root.http.get("nothing")
        await client.http.get("http://server/livez")
        await asyncio.sleep(0)  # lines are written when the turn of the loop ends
    finally:
        monkeypatch.undo()
        configure("ERROR")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = [line for line in lines if line["event"] == "request"]
    assert len(found) == 4
    first = found[0]
    assert first.keys() >= {"request_id", "timestamp", "milliseconds", "database_milliseconds"}
    assert (first["actor"], first["via"] != "", first["action"]) == (ROOT, True, "domain.read")
    assert (first["target"], first["status"], first["code"]) == ("ex.com", 200, "")
    # Token, admitted networks, owner and domain, at least; three questions about the owner in LDAP.
    assert first["round_trips"] >= (6 if service.store.name == "openldap" else 4)
    assert first["database_milliseconds"] > 0
    assert [line["code"] for line in found[1:]] == [
        "LOGIN_REQUIRED", found[2]["code"], "NO_SUCH_OPERATION",
    ]  # fmt: skip
    assert found[2]["code"].startswith("PW_")
    assert found[2]["target"] == "u@ex.com"
    assert secret not in stream.getvalue()
    assert "s3cret" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "token iredapi_CANARYCANARYCANARY here",
        "hash {SSHA512}CANARY/CANARY==",
        "hash $6$rounds=5$CANARY$CANARY",
        "hash $2b$12$CANARYCANARY",
        "postgresql+asyncpg://vmail:CANARY@127.0.0.1/vmail",
        "password=CANARY&x=1",
        '{"password": "CANARY"}',
        "Secret: CANARY",
        "PaſſWord=CANARY",
    ],
)
def test_lesson_35_masked_by_construction(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever logs it: by key, by value, in an exception, through another library."""
    assert "CANARY" not in masked(text)
    configure("INFO")
    try:
        log = structlog.get_logger("x")
        log.info(text, detail=text, password=text, nested={"a": [text]})
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")
            logging.getLogger("some.library").exception("failed: %s", text)
    finally:
        shown = capsys.readouterr().out
        configure("ERROR")
    assert shown.count("\n") == 3
    assert "CANARY" not in shown
    for line in shown.splitlines():
        json.loads(line)
    assert logs.masked("Update user profile: u@ex.com (password, name).").endswith("name).")


@pytest.mark.stores("sqlite")
async def test_a_real_process_logs_json_only(store: Store) -> None:
    await add_root(store)
    with running(urls_of(store)) as api:
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            assert (await client.get("/api/whoami")).status_code == 401
        printed = api.output
    after = printed[printed.index("API documentation") :].splitlines()[1:]
    assert any('"event":"request"' in line for line in after)
    for line in after:
        json.loads(line)


@pytest.mark.parametrize("matches", [True, False])
def test_lines_for_the_journal_begin_with_their_priority(
    matches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when standard output itself is the journal: a pipe behind it gets plain JSON."""
    file = tmp_path / "out"
    with file.open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        inode = found.st_ino if matches else found.st_ino + 1
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{inode}")
        monkeypatch.setattr(sys, "stdout", stream)
        configure("INFO")
        try:
            log = structlog.get_logger("x")
            log.info("one")
            log.warning("two")
            log.error("three")
            logging.getLogger("some.library").error("four")
            logs.line("five", "id")
        finally:
            monkeypatch.undo()
            configure("ERROR")
    lines = file.read_text("utf-8").splitlines()
    wanted = ["", "<4>", "<3>", "<3>", ""] if matches else [""] * 5
    assert [line.partition("{")[0] for line in lines] == wanted
    names = [json.loads(line[line.index("{") :])["event"] for line in lines]
    assert names == ["one", "two", "three", "four", "five"]


@pytest.mark.stores("sqlite")
async def test_the_page_shows_lines_as_a_real_process_prints_them(
    store: Store, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    shown = {
        line["event"]: line for line in map(json.loads, re.findall(r'^\{".*$', page, re.MULTILINE))
    }
    await add_root(store)
    with running(urls_of(store), directory=tmp_path) as api:
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            wrong = {"username": ROOT, "password": "Wrong-1-wrong"}
            assert (await client.post("/api/login", data=wrong)).status_code == 401
            right = wrong | {"password": PASSWORD}
            assert (await client.post("/api/login", data=right)).status_code == 200
            assert (await client.post("/api/domain/ex.com")).status_code == 200
    # Stopped: all lines are there.
    printed = [line for line in api.output.splitlines() if line.startswith("{")]
    for event in ("request", "audit", "login_failed"):
        lines = [json.loads(line) for line in printed if f'"event":"{event}"' in line]
        assert lines, event
        assert [*lines[0]] == [*shown[event]]  # in this order, too
        assert lines[0]["level"] == shown[event]["level"]
    found = re.search(r"^failregex = (.*)$", page, re.MULTILINE)
    assert found is not None
    pattern = re.compile(found[1].replace("<HOST>", r"(?P<host>\S+)"))
    hosts = [match["host"] for line in printed if (match := pattern.search(line))]
    assert hosts == ["127.0.0.1"]
