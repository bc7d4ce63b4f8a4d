"""An import of many users: how fast, beside single calls, and what a killed one leaves behind.

``make import-test`` imports ``IMPORT_USERS`` (20,000) users with hashes on each storage, a tenth on
OpenLDAP: into a service of its own, over HTTP, while somebody else reads. Without the variable only
the kills are tried, with few users.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import pytest

from bench.drive import Request, wrk
from tests.clients import PASSWORD, ROOT
from tests.integration.test_doctor import examine
from tests.integration.test_torture import nothing_begun, storage
from tests.servers.api import ApiProcess, add_root, found_on_this_host, urls_of
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.snapshot import dump
from tests.servers.store import ALL_STORES, Store

FULL: Final = "IMPORT_USERS" in os.environ
USERS: Final = int(os.environ.get("IMPORT_USERS", "200"))
KILLS: Final = 10 if FULL else 2
HASH: Final = "{SSHA512}q+0R05jSyeEetqfhSwLRarIfsiOlYByGxXfT1DhSYYQAOVxCYtj8vjUCOPr8coR9K4m25vl/jq85oHB7JtUIswKzHUCh+DRv"  # noqa: E501
PER_DOMAIN: Final = 100
SINGLES: Final = 50
"""Domains for single calls."""
_SECONDS: Final = 4


def the_file(users: int, name: str = "d") -> bytes:
    """Domains, and users with hashes."""
    lines = [
        json.dumps({"type": "domain", "domain": f"{name}{number}.com"})
        for number in range(max(users // PER_DOMAIN, 2))
    ]
    for number in range(users):
        domain = number * max(users // PER_DOMAIN, 2) // users
        lines.append(
            json.dumps(
                {
                    "type": "user", "mail": f"u{number}@{name}{domain}.com",
                    "name": f"User {number}", "quota": 1024, "password_hash": HASH,
                }
            )
        )  # fmt: skip
    return "\n".join(lines).encode() + b"\n"


@dataclass
class Served:
    """A running service, and a session."""

    store: Store
    directory: Path
    api: ApiProcess
    cookie: str = ""

    async def login(self) -> None:
        async with httpx.AsyncClient(base_url=f"{self.api.address}/api/") as client:
            answer = await client.post("login", data={"username": ROOT, "password": PASSWORD})
            assert answer.json()["_success"] is True
            self.cookie = "; ".join(f"{key}={value}" for key, value in answer.cookies.items())

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"{self.api.address}/api/", headers={"Cookie": self.cookie}, timeout=60
        )

    def restart(self) -> None:
        given = urls_of(self.store) | {"IREDAPI_DATA_DIR": str(self.directory)}
        self.api = ApiProcess(given, directory=self.directory)

    @property
    def memory(self) -> int:
        """The resident memory of the process and its children, in KiB."""
        found = 0
        for pid in [self.api.pid, *_children(self.api.pid)]:
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        found += int(line.split()[1])
        return found

    async def send(self, body: bytes) -> dict[str, Any]:
        """Import a file, as curl would: reading while it sends. Returns the last line."""
        place = urlsplit(self.api.address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        head = (
            f"POST /api/import HTTP/1.1\r\nHost: x\r\nCookie: {self.cookie}\r\n"
            f"Connection: close\r\nContent-Type: application/x-ndjson\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )

        async def write() -> None:
            writer.write(head.encode())
            for at in range(0, len(body), 65536):
                writer.write(body[at : at + 65536])
                await writer.drain()

        writing = asyncio.ensure_future(write())
        answer = b""
        try:
            while piece := await reader.read(1 << 16):
                answer = answer[-4096:] + piece
            await writing
        finally:
            writing.cancel()
            writer.close()
        lines = [line for line in answer.splitlines() if line.startswith(b'{"_success"')]
        assert lines, answer[-500:]
        found: dict[str, Any] = json.loads(lines[-1])
        assert found["_success"] is True, found
        return dict(found["summary"])


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


@asynccontextmanager
async def served(store: Store) -> AsyncIterator[Served]:
    await add_root(store)
    directory = temporary_directory("import")
    given = urls_of(store) | {"IREDAPI_DATA_DIR": str(directory)}
    found = Served(store, directory, ApiProcess(given, directory=directory))
    try:
        await found.login()
        yield found
    finally:
        found.api.stop()
        remove_directory(directory)


async def p99_of_reads(api: Served, path: str, until: asyncio.Event, seconds: float) -> float:
    """Read an account again and again; return the 99th percentile in milliseconds."""
    taken = []
    async with api.client() as client:
        end = time.monotonic() + seconds
        while not until.is_set() and (not seconds or time.monotonic() < end):
            began = time.perf_counter()
            assert (await client.get(path)).status_code == 200
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.01)
    taken.sort()
    return taken[int(len(taken) * 0.99)] if taken else 0.0


async def rows_and_log(store: Store) -> tuple[Any, int]:
    log = await store.rows("SELECT count(*) AS n FROM log", "iredadmin")
    return await dump(store), int(log[0]["n"])


@pytest.mark.skipif(not FULL, reason="make import-test")
@pytest.mark.parametrize("name", ALL_STORES)
async def test_an_import_is_much_faster_than_single_calls(name: str) -> None:
    users = USERS // 10 if name == "openldap" else USERS
    wanted = 3 if name == "openldap" else 5
    async with storage(name) as (store, _), served(store) as api:
        singles = "".join(
            json.dumps({"type": "domain", "domain": f"s{number}.com"}) + "\n"
            for number in range(SINGLES)
        )
        await api.send(singles.encode())
        await api.send(the_file(100, "warm"))
        alone = await asyncio.to_thread(
            wrk, api.api.address,
            Request("POST", "/api/user/w#i@s#d.com", f"quota=1024&password_hash={quote(HASH)}"),
            seconds=_SECONDS, cookie=api.cookie, users=100_000, domains=SINGLES,
        )  # fmt: skip
        never = asyncio.Event()
        quiet = await p99_of_reads(api, "user/u1@warm0.com", never, 5)
        body, before = the_file(users), api.memory
        most = before

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, api.memory)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        began = time.monotonic()
        summary = await api.send(body)
        first = time.monotonic() - began
        assert (summary["done"], summary["failed"]) == (summary["lines"], 0), summary
        stored = await rows_and_log(store)
        began = time.monotonic()
        summary = await api.send(body)
        again = time.monotonic() - began
        watching.cancel()
        assert summary["unchanged"] == summary["lines"], summary
        assert await rows_and_log(store) == stored
        ended = asyncio.Event()
        reading = asyncio.ensure_future(p99_of_reads(api, "user/u1@warm0.com", ended, 0))
        await api.send(the_file(users, "busy"))
        ended.set()
        busy = await reading
        rate = users / first
        print(
            f"\n{name}: {users} users in {first:.1f} s, {rate:.0f}/s; single calls "
            f"{alone.per_second:.0f}/s: {rate / alone.per_second:.1f} times as fast; again "
            f"{again:.2f} s: {first / again:.1f} times as fast; memory "
            f"+{(most - before) / 1024:.1f} MiB; p99 of reads {busy:.1f} ms, quiet {quiet:.1f} ms"
        )
        found, _ = await examine(store, **found_on_this_host())
        assert found == []
        wrong = []
        if rate < wanted * alone.per_second:
            wrong.append(f"{rate / alone.per_second:.1f} times as fast as single calls")
        if first < 10 * again:
            wrong.append(f"an unchanged file is {first / again:.1f} times as fast")
        if most - before > 32 * 1024:
            wrong.append(f"+{(most - before) // 1024} MiB")
        if busy > 2 * quiet:
            wrong.append(f"reads take {busy:.1f} ms, not {quiet:.1f}")
        assert not wrong, (name, wrong)


def _named(line: str) -> str:
    record = json.loads(line)
    return str(record.get("mail") or record["domain"])


async def completed(api: Served, body: bytes) -> dict[str, Any]:
    """Send a file until it is not cut: locks of a killed process on OpenLDAP last for a while."""
    for _ in range(20):
        with suppress(AssertionError):
            return await api.send(body)
        await asyncio.sleep(2)
    return await api.send(body)


@pytest.mark.parametrize("name", ALL_STORES if FULL else ["sqlite"])
async def test_a_killed_import_is_completed_by_sending_it_again(name: str) -> None:
    users = min(USERS, 2000)
    users = users // 4 if name == "openldap" else users
    body = the_file(users)
    mails = sorted(_named(line) for line in body.decode().splitlines() if "mail" in line)
    async with storage(name) as (store, _), served(store) as api:
        random_ = random.Random(1)
        cut, wait = 0, 0.3 if not FULL else 1.5
        for _ in range(KILLS):
            sending = asyncio.ensure_future(api.send(body))
            await asyncio.wait([sending], timeout=random_.uniform(0.02, wait))
            os.killpg(api.api.pid, signal.SIGKILL)
            with suppress(Exception):
                await sending
            cut += not sending.done() or sending.exception() is not None
            await asyncio.to_thread(api.restart)
        assert cut, "no import was cut"
        await api.login()
        await nothing_begun(store)
        summary = await completed(api, body)
        assert (summary["failed"], summary["skipped"]) == (0, 0), summary
        summary = await api.send(body)
        assert summary["unchanged"] == summary["lines"], summary
        async with api.client() as client:
            answer = (await client.get("users", params={"email_only": "yes"})).json()
            found = [item if isinstance(item, str) else item["mail"] for item in answer["_data"]]
            assert sorted(found) == mails
            for at in range(0, max(users // PER_DOMAIN, 2), 7):
                shown = (await client.get(f"domain/d{at}.com?view=canonical")).json()["_data"]
                in_domain = [mail for mail in mails if mail.endswith(f"@d{at}.com")]
                assert shown["existingUsers"] == len(in_domain)
                assert shown["allocatedQuota"] == 1024 * len(in_domain)
        problems, _ = await examine(store, **found_on_this_host())
        assert problems == []
