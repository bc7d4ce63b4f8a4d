"""Clients that are slow, silent or many, against a real process: the others do not notice.

``make torture`` opens 2,000 silent connections, 500 with half a head and 500 with half a body at
the same time, and opens them again as they are closed. Without it there are 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess, running
from tests.servers.process import remove_directory, temporary_directory

FULL: Final = "TORTURE_WRITES" in os.environ
SILENT, HALF_HEADS, HALF_BODIES = (2000, 500, 500) if FULL else (120, 40, 40)
DESCRIPTORS: Final = 4096 if FULL else 512
PLACES: Final = 500 if FULL else 20
"""``IREDAPI_MAX_REQUESTS``: no more than there are half bodies."""
REQUESTS: Final = 4000 if FULL else 600
CLIENTS: Final = 4
TRIES: Final = 3
"""A machine that does something else at that moment is no proof."""
FACTOR: Final = 3 if FULL else 6
"""How much longer than without idle connections; a short run shares the machine with others."""
HALF_HEAD: Final = b"GET /api/whoami HTTP/1.1\r\nHost: x\r\n"
HALF_BODY: Final = (
    b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 50\r\n\r\nuser"
)


@contextmanager
def served(*, descriptors: int = 0, **given: str) -> Iterator[tuple[ApiProcess, Path, str]]:
    """Run a service on SQLite; returns it, its directory, and the cookie of the global admin."""
    place = temporary_directory("slow")
    settings = {
        "IREDAPI_DATA_DIR": str(place),
        "IREDAPI_ADMIN": ROOT,
        "IREDAPI_ADMIN_PASSWORD": PASSWORD,
        "IREDAPI_LOG_LEVEL": "INFO",
    }
    try:
        with running(settings | given, directory=place, descriptors=descriptors) as api:
            with httpx.Client(base_url=api.address, trust_env=False) as client:
                form = {"username": ROOT, "password": PASSWORD}
                assert client.post("/api/login", data=form).json()["_success"] is True
                for path in ("domain/ex.com", "user/u@ex.com"):
                    form = {"password": PASSWORD} if "user" in path else {}
                    assert client.post(f"/api/{path}", data=form).json()["_success"] is True
                cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
            yield api, place, cookie
    finally:
        remove_directory(place)


def _address(api: ApiProcess) -> tuple[str, int]:
    host, port = api.address.removeprefix("http://").split(":")
    return host, int(port)


def _request(path: str, cookie: str, *, close: bool = False) -> bytes:
    more = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n{more}\r\n".encode()


class IdleConnections:
    """Connections that send what they send and then nothing; opened again when they are closed."""

    def __init__(self, api: ApiProcess, *kinds: tuple[int, bytes]) -> None:
        self._address = _address(api)
        self._wanted = [text for count, text in kinds for _ in range(count)]
        self._open: list[socket.socket | None] = [None] * len(self._wanted)
        self.opened = 0

    async def open(self) -> None:
        """Open those that are not, in steps that the kernel's queue holds."""
        for at, text in enumerate(self._wanted):
            if self._open[at] is None:
                connection = socket.create_connection(self._address, timeout=20)
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.send(text)
                self._open[at] = connection
                self.opened += 1
                if self.opened % 8 == 0:
                    await asyncio.sleep(0.002)

    async def keep(self) -> None:
        """Look twice a second for those that were closed."""
        while True:
            await asyncio.sleep(0.5)
            for at, connection in enumerate(self._open):
                if connection is None:
                    continue
                try:
                    ended = connection.recv(4096) == b""
                except BlockingIOError:
                    ended = False
                except OSError:
                    ended = True
                if ended:
                    connection.close()
                    self._open[at] = None
                if at % 200 == 0:
                    await asyncio.sleep(0)
            await self.open()

    def close(self) -> None:
        """Close all."""
        for connection in self._open:
            if connection is not None:
                connection.close()


async def _latencies(api: ApiProcess, cookie: str, count: int) -> list[float]:
    """Ask for a user, half of the times on a new connection; returns the seconds of each."""
    found: list[float] = []

    async def client(number: int) -> None:
        reader = writer = None
        for turn in range(count // CLIENTS):
            started = time.perf_counter()
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(*_address(api))
            last = (turn + number) % 2 == 1
            writer.write(_request("/api/user/u@ex.com", cookie, close=last))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            found.append(time.perf_counter() - started)
            if last:
                writer.close()
                reader = writer = None

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return found


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process needs one for each connection, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_others_are_served_beside_many_slow_clients(many_descriptors: None) -> None:
    """The slowest of a hundred requests takes ``FACTOR`` times as long as without, at most."""
    with served(descriptors=DESCRIPTORS, IREDAPI_MAX_REQUESTS=str(PLACES)) as (api, _, cookie):
        await _latencies(api, cookie, REQUESTS // 2)
        ratios = []
        for _ in range(TRIES):
            quiet = _p99(await _latencies(api, cookie, REQUESTS))
            kinds = ((SILENT, b""), (HALF_HEADS, HALF_HEAD), (HALF_BODIES, HALF_BODY))
            idle = IdleConnections(api, *kinds)
            await idle.open()
            keeping = asyncio.create_task(idle.keep())
            try:
                beside = _p99(await _latencies(api, cookie, REQUESTS))
            finally:
                keeping.cancel()
                idle.close()
            ratios.append(beside / quiet)
            if FULL:
                print(
                    f"\n{idle.opened} slow connections: p99 {quiet * 1000:.1f} ms without, "
                    f"{beside * 1000:.1f} ms with them"
                )
            elif ratios[-1] <= FACTOR:
                break
        assert min(ratios) <= FACTOR, ratios


async def test_newcomers_get_in_when_descriptors_are_few(many_descriptors: None) -> None:
    """160 silent connections with 128 descriptors cut everybody else off, and nothing was said."""
    with served(descriptors=128) as (api, _, cookie):
        idle = IdleConnections(api, (160, b""))
        await idle.open()
        await asyncio.sleep(0.3)
        seconds = await _latencies(api, cookie, 60)
        idle.close()
        assert len(seconds) == 60
        assert '"event":"connections_closed"' in api.output
        assert '"most":32' in api.output


@pytest.fixture
async def busy_lists() -> AsyncIterator[tuple[ApiProcess, str]]:
    """A domain with more users than the buffers of a connection hold."""
    with served() as (api, place, cookie):
        with contextlib.closing(sqlite3.connect(place / "vmail.db", timeout=30)) as database:
            names = [row[1] for row in database.execute("PRAGMA table_info(mailbox)")]
            row = list(database.execute("SELECT * FROM mailbox").fetchone())
            marks = ", ".join("?" * len(row))
            for number in range(12_000):
                row[names.index("username")] = f"u{number:05d}@ex.com"
                database.execute(f"INSERT INTO mailbox VALUES ({marks})", row)
            database.commit()
        yield api, cookie


async def test_unread_lists_leave_the_rest_responsive(
    busy_lists: tuple[ApiProcess, str],
) -> None:
    """60 of them stalled a look at oneself for half a minute."""
    api, cookie = busy_lists
    connections = []
    for _ in range(60):
        connection = socket.create_connection(_address(api))
        connection.sendall(_request("/api/users/ex.com", cookie))
        connections.append(connection)
    async with httpx.AsyncClient(base_url=api.address, trust_env=False, timeout=30) as client:
        taken, ended = [], time.monotonic() + 6
        while time.monotonic() < ended:
            started = time.monotonic()
            response = await client.get("/api/whoami", headers={"Cookie": cookie})
            assert response.status_code == 200
            taken.append(time.monotonic() - started)
    for connection in connections:
        connection.close()
    assert max(taken) < 5


async def test_half_bodies_keep_nobody_out() -> None:
    """A place is counted when the body is there. The body of a login has seconds to arrive."""
    with served(IREDAPI_MAX_REQUESTS="5") as (api, _, cookie):
        idle = IdleConnections(api, (40, HALF_BODY))
        await idle.open()
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            for _ in range(3):
                response = await client.get("/api/whoami", headers={"Cookie": cookie})
                assert response.status_code == 200, response.text
                form = urlencode({"username": ROOT, "password": PASSWORD})
                response = await client.post(
                    "/api/login", content=form, headers={"Content-Type": "text/plain"}
                )
                assert response.status_code == 200, response.text
        idle.close()
