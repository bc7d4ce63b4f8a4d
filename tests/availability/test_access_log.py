"""The access log in the combined format: its lines, its file, and what is never in it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import COMMAND, ApiProcess, add_root, environment, running, urls_of
from tests.servers.process import run
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")
_COMBINED = re.compile(
    r"(?P<client>\S+) - (?P<user>\S+) "
    r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<method>\S+) (?P<path>\S+) HTTP/(?P<version>\S+)" (?P<status>\d{3}) (?P<size>\d+|-) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)"'
)  # fmt: skip


def _wait_for(api: ApiProcess, words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in api.output and time.monotonic() < deadline:
        time.sleep(0.05)


def _lines(file: Path, count: int) -> list[dict[str, str]]:
    """Wait for so many lines, and read them as a program of statistics would."""
    deadline = time.monotonic() + 10
    while True:
        lines = file.read_text("ascii").splitlines() if file.exists() else []
        if len(lines) >= count or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert len(lines) == count, lines
    found = [_COMBINED.fullmatch(line) for line in lines]
    assert all(found), lines
    return [one.groupdict() for one in found if one]


async def test_a_line_for_each_request(store: Store, tmp_path: Path) -> None:
    await add_root(store)
    file = tmp_path / "access.log"
    given = {
        "IREDAPI_ACCESS_LOG": str(file),
        "IREDAPI_TRUSTED_PROXIES": "127.0.0.1",
        "IREDAPI_QUERY_LOGIN": "yes",
    }
    with running(urls_of(store) | given) as api:
        agent = 'billing "2"\\ é'.encode()
        headers = {b"X-Forwarded-For": b"192.0.2.7", b"User-Agent": agent}
        async with httpx.AsyncClient(
            base_url=api.address, trust_env=False, headers=headers
        ) as client:
            file.write_text("", "ascii")  # what the start of the test has asked
            secret = {"username": ROOT, "password": PASSWORD}
            assert (await client.post("/api/login", params=secret)).status_code == 200
            await client.post("/api/domain/ex.com")
            made = await client.post("/api/tokens", data={"label": "x"})
            token = made.json()["_data"]["token"]
            referer = {"Referer": "https://panel.test/x?password=CANARY#CANARY"}
            shown = await client.get("/api/domain/ex.com", headers=referer)
            await client.get("/api/a%0Ab%20c%22/iredapi_CANARYCANARY")
            await client.get("/livez")
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as other:
            bearer = {"Authorization": f"Bearer {token}", "User-Agent": ""}
            assert (await other.get("/api/whoami", headers=bearer)).status_code == 200
        found = _lines(file, 6)
        login, _, _, read, odd, own = found
        assert {line["client"] for line in found[:5]} == {"192.0.2.7"}
        assert (login["method"], login["path"], login["status"]) == ("POST", "/api/login", "200")
        assert (login["user"], read["user"], read["path"]) == ("-", ROOT, "/api/domain/ex.com")
        assert read["size"] == str(len(shown.content))
        assert read["referer"] == "https://panel.test/x"
        assert login["agent"] == "billing \\x222\\x22\\x5c \\xc3\\xa9"
        assert (odd["path"], odd["status"]) == ("/api/a%0Ab%20c%22/iredapi_***", "404")
        assert (own["client"], own["user"], own["agent"]) == ("127.0.0.1", ROOT, "-")
        text = file.read_text("ascii")
        assert not any(word in text for word in (PASSWORD, token, "CANARY"))
        # logrotate moves the file; a new one is made.
        file.rename(tmp_path / "access.log.1")
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as other:
            await other.get("/api/whoami")
        (line,) = _lines(file, 1)
        assert (line["path"], line["status"], line["user"]) == ("/api/whoami", "401", "-")


async def test_on_standard_output(store: Store) -> None:
    await add_root(store)
    with running(urls_of(store) | {"IREDAPI_ACCESS_LOG": "-"}) as api:
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            await client.get("/api/whoami")
        _wait_for(api, '"GET /api/whoami')
        lines = [line for line in api.output.splitlines() if "/api/whoami" in line]
    assert sorted(bool(_COMBINED.fullmatch(line)) for line in lines) == [False, True]
    assert sum(line.startswith("{") and bool(json.loads(line)) for line in lines) == 1


@pytest.mark.parametrize(
    "path, reason",
    [("access.log", "from / on"), ("/nowhere/access.log", "No such file"), ("/tmp", "directory")],
)
def test_a_file_that_cannot_be_written(path: str, reason: str, tmp_path: Path) -> None:
    given = environment(IREDAPI_ACCESS_LOG=path, IREDAPI_DATA_DIR=str(tmp_path), IREDAPI_PORT="0")
    words = [f"{name}={value}" for name, value in given.items()]
    done = run(["/usr/bin/env", "-i", *words, *COMMAND, "serve"])
    assert done.returncode == 2
    assert "IREDAPI_ACCESS_LOG" in done.stderr
    assert reason in done.stderr
