"""Clients that hang up, at every point of every kind of request, while others write.

``make torture`` cuts ``HANG_UPS`` (1,000) requests on each storage, without it a tenth. Afterwards
every connection of the pool is there, memory and the time of an answer are what they were, all that
was acknowledged is stored, and the doctor finds nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.clients import PASSWORD
from tests.integration.test_doctor import examine
from tests.integration.test_torture import FULL, Figures, Target, Writer, storage
from tests.servers.api import add_root, found_on_this_host
from tests.servers.store import ALL_STORES

HANG_UPS: Final = 1000 if FULL else 100
_WRITERS: Final = 3
_AT_ONCE: Final = 8
_POOL: Final = 10
_USERS: Final = 1100 if FULL else 520
"""So many that their list is sent in pieces."""
_MEBIBYTE: Final = 1024 * 1024
_DOMAIN: Final = "hang.test"
_PROFILE = f"name=H&password={PASSWORD}&quota=5".encode()
_KINDS: Final[Sequence[tuple[str, str, bytes]]] = [
    ("GET", f"users/{_DOMAIN}", b""),
    ("GET", f"users/{_DOMAIN}?view=canonical", b""),
    ("GET", f"users/{_DOMAIN}?email_only=yes", b""),
    ("HEAD", f"users/{_DOMAIN}", b""),
    ("GET", f"user/u1@{_DOMAIN}", b""),
    ("GET", f"domain/{_DOMAIN}", b""),
    ("PUT", f"user/u2@{_DOMAIN}", b"name=Hung+up"),
    ("PUT", f"users/{_DOMAIN}", b"language=de_DE"),
    ("POST", f"user/new{{number}}@{_DOMAIN}", _PROFILE),
    ("DELETE", f"user/new{{number}}@{_DOMAIN}", b""),
    ("POST", f"alias/list{{number}}@{_DOMAIN}", b"name=L"),
    ("POST", "login", b"username=nobody%40hang.test&password=Wr0ng-Passw0rd"),
    ("POST", f"throttle/u3@{_DOMAIN}/outbound", b"period=60&max_msgs=5"),
    ("GET", f"wblist/inbound/whitelist/u3@{_DOMAIN}", b""),
]


async def _hang_up(port: int, cookie: str, number: int, chance: random.Random) -> None:
    """Send a request, or a part of it, read nothing or a little of the answer, and be gone."""
    method, path, body = _KINDS[number % len(_KINDS)]
    head = (
        f"{method} /api/{path.format(number=number)} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sent = head.encode() + body
    part = chance.choice(["half of the head", "half of the body", "all", "all", "all"])
    if part == "half of the head":
        sent = sent[: len(head) // 2]
    elif part == "half of the body":
        sent = sent[: len(head) + len(body) // 2]
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        if part == "all" and chance.random() < 0.7:
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(chance.choice([1, 100, 5000])), 5)
        await asyncio.sleep(chance.choice([0, 0.001, 0.01]))
        if chance.random() < 0.5:
            writer.transport.abort()  # a reset
        else:
            writer.close()


async def _latencies(client: httpx.AsyncClient, count: int) -> float:
    """Seconds within which 99 of 100 small reads are answered, when nobody else asks."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        answer = await client.get(f"user/u1@{_DOMAIN}")
        taken.append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.text
    return statistics.quantiles(taken, n=100)[98]


async def _lasting(client: httpx.AsyncClient, count: int, limit: float) -> float:
    """As ``_latencies``, but measured up to three times: only other work on this machine passes."""
    found = await _latencies(client, count)
    for _ in range(2):
        if found <= limit:
            break
        await asyncio.sleep(1)
        found = await _latencies(client, count)
    return found


def _memory(pid: int) -> float:
    """MiB of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEBIBYTE


async def _fill(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"domain/{_DOMAIN}")).status_code == 200
    gate = asyncio.Semaphore(_AT_ONCE)

    async def add(number: int) -> None:
        async with gate:
            form = {"password_hash": "{PLAIN}Corr3ct-Horse", "name": "x" * 100}
            answer = await client.post(f"user/u{number}@{_DOMAIN}", data=form)
            assert answer.status_code == 200, answer.text

    await asyncio.gather(*(add(number) for number in range(_USERS)))


async def _cut(port: int, cookie: str, numbers: range, chance: random.Random) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await _hang_up(port, cookie, number, chance)

    await asyncio.gather(*(one(number) for number in numbers))


@pytest.mark.parametrize("name", ALL_STORES)
async def test_hang_ups_leave_nothing_behind(name: str) -> None:
    figures, chance = Figures(), random.Random(2)
    async with storage(name) as (store, _):
        await add_root(store)
        target = Target(store, None, figures)
        try:
            await target.start()
            assert target.api is not None
            port = int(target.api.address.rsplit(":", 1)[1])
            cookie = "; ".join(f"{key}={value}" for key, value in target.cookies.items())
            async with target.client() as client:
                await _fill(client)
                writers = [Writer(number, target, figures) for number in range(_WRITERS)]
                for writer in writers:
                    await writer.write("create domain", "POST", f"domain/{writer.domain}")
                # Warm: what is loaded once is no leak.
                await _cut(port, cookie, range(HANG_UPS // 5), chance)
                for _ in range(3):
                    await client.get(f"users/{_DOMAIN}")
                reads = 400 if FULL else 100
                before, memory = await _latencies(client, reads), _memory(target.api.pid)
                cutting = asyncio.create_task(
                    _cut(port, cookie, range(HANG_UPS // 5, HANG_UPS * 6 // 5), chance)
                )

                async def work(writer: Writer) -> None:
                    while not cutting.done():
                        await writer.one()

                await asyncio.gather(cutting, *(work(writer) for writer in writers))
                await asyncio.sleep(1)
                # Each connection of the pool is there: more lists at once than it has.
                lists: list[Any] = [
                    client.get(f"users/{_DOMAIN}?email_only=yes") for _ in range(2 * _POOL)
                ]
                answers = await asyncio.gather(*lists)
                assert {answer.status_code for answer in answers} == {200}
                assert all(answer.json()["_success"] for answer in answers)
                ready = await client.get(f"{target.api.address}/readyz")
                assert ready.status_code == 200, ready.text
                limit = 2 * before + 0.01
                after = await _lasting(client, reads, limit)
                grown = _memory(target.api.pid) - memory
            print(
                f"\n{name}: {HANG_UPS} hang-ups among {figures.done.total()} writes; p99 "
                f"{before * 1000:.1f} ms before, {after * 1000:.1f} ms after; {grown:+.1f} MiB"
            )
            assert grown <= 20
            assert after <= limit
            assert '"unforeseen"' not in target.log()
            for writer in writers:
                await writer.verify()
        finally:
            target.close()
        found, result = await examine(store, **found_on_this_host())
        assert (found, result.status) == ([], 0)
