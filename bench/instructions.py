"""Counts the instructions that a request costs the service's process, for this tree and another.

``make bench-instructions REV=4809920`` runs both revisions' ``iredapi serve`` under valgrind
(callgrind), one after the other, on equal databases, and prints instructions per request and their
ratio. Unlike times they hardly depend on what else the machine does. They are those of the
service's process in user mode: the kernel's work and the database's are not counted.

Valgrind makes the process about fifty times slower, so its clock is made slower, too: what is done
once a second (sessions are read again), and what counts as slow, would weigh too much otherwise.
Each number is the median of several windows of requests.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import statistics
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

from bench import against, directory, seed
from bench.__main__ import KINDS, databases
from bench.drive import Failed, Request
from bench.plan import SMALL_ONES
from bench.programs import login
from bench.seed import Size
from tests.servers import mariadb
from tests.servers.api import ApiProcess, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import Store

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_ROOT = Path(__file__).parents[1]
_SIZE = Size(20, 2_000, 500)
_WARM = 64
"""Requests before the first one that counts."""
_WINDOW = 32
_WINDOWS = 5
_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)
_CLOCK = """\
import time

def _slower(real):
    start = real()
    return lambda: start + (real() - start) / 50

time.monotonic, time.perf_counter = _slower(time.monotonic), _slower(time.perf_counter)
"""
"""``sitecustomize`` of the service."""
_CALLGRIND = (
    "valgrind", "--tool=callgrind", "--instr-atstart=no", "--fair-sched=yes", "-q",
    "--callgrind-out-file=counts",
)  # fmt: skip


class _Service:
    """One revision's service under valgrind."""

    def __init__(self, process: ApiProcess, tag: str) -> None:
        self._process = process
        self._tag = tag
        # Each has values of its own: what the other one has written is no change any more.
        self._made = 1_000_000 if tag == "ours" else 2_000_000
        self._random = random.Random(1)  # noqa: S311
        self.cookie = login(process.address, seed.ADMIN, seed.PASSWORD)

    def _control(self, *words: str) -> None:
        command = ["callgrind_control", *words, str(self._process.pid)]
        subprocess.run(command, check=True, capture_output=True, cwd=self._process.directory)

    def _next(self, request: Request) -> bytes:
        self._made += 1
        number = self._random.randrange(_SIZE.users)
        values = {"#n": str(number), "#d": str(number % _SIZE.domains), "#i": str(self._made)}
        path, body = request.path.replace("/new#", f"/{self._tag}#"), request.body
        for name, value in values.items():
            path, body = path.replace(name, value), body.replace(name, value)
        lines = [f"{request.method} /api{path} HTTP/1.1", "Host: bench", f"Cookie: {self.cookie}"]
        if body:
            lines += ["Content-Type: application/x-www-form-urlencoded"]
            lines += [f"Content-Length: {len(body)}"]
        return ("\r\n".join([*lines, "", body])).encode()

    @asynccontextmanager
    async def connected(self, number: int) -> AsyncIterator[list[Stream]]:
        """Open some connections."""
        place = urlsplit(self._process.address)
        streams = [await asyncio.open_connection(place.hostname, place.port) for _ in range(number)]
        try:
            yield streams
        finally:
            for _, writer in streams:
                writer.close()

    async def send(self, streams: Sequence[Stream], request: Request, count: int) -> None:
        """Send requests of one kind over all connections at once. Raises Failed."""
        left = count

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                writer.write(self._next(request))
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                if b'"_success":true' not in body:
                    raise Failed(f"{request.method} {request.path}: {head!r} {body[:300]!r}")

        await asyncio.gather(*[one(*stream) for stream in streams])

    async def count(self, request: Request, connections: int) -> float:
        """Return the instructions of one request."""
        found = []
        for number in range(_WINDOWS + 1):
            async with self.connected(connections) as streams:
                if number == 0:
                    await self.send(streams, request, _WARM)
                    continue
                self._control("-z")
                self._control("-i", "on")
                await self.send(streams, request, _WINDOW)
                await asyncio.sleep(0.1)
                self._control("-i", "off")
                self._control("-d")
            found.append(self._last_total() / _WINDOW)
        return statistics.median(found)

    def _last_total(self) -> int:
        dumps = self._process.directory.glob("counts*")
        last = max(dumps, key=lambda one: one.stat().st_mtime_ns)
        totals = _TOTALS.search(last.read_text(encoding="utf-8"))
        if totals is None:
            raise Failed(f"{last} has no total")
        return int(totals[1])


@contextmanager
def _service(store: Store, source: str, state: str, tag: str) -> Iterator[_Service]:
    place = temporary_directory("count")
    clock = place / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(_CLOCK, encoding="ascii")
    settings = {
        "IREDAPI_DATA_DIR": str(place), "IREDAPI_STATE_URL": state,
        "PYTHONPATH": f"{clock}:{source}",
        "PYTHONHASHSEED": "0", "IREDAPI_REQUEST_TIMEOUT": "600",
    }  # fmt: skip
    process = ApiProcess(urls_of(store) | settings, directory=place, under=_CALLGRIND)
    try:
        yield _Service(process, tag)
    finally:
        process.stop()
        remove_directory(place)


async def compare(kind: str, source: str, wanted: Sequence[tuple[str, int]]) -> None:
    """Print a table for one kind of storage. ``source`` is the other revision's, or empty."""
    beside: MariadbServer | None = None
    async with (
        databases("mariadb" if kind == "openldap" else kind) as make,
        AsyncExitStack() as end,
    ):
        if kind == "openldap":
            beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer(sync=True)
            end.callback(beside.stop)
            end.callback(server.stop)
            store = await beside.create_store("ldap", server)
            await directory.fill(store, _SIZE)
            wanted = [item for item in wanted if item[0] in ("read one user", "create user")]
        else:
            store = await make("a")
            await seed.fill(store, _SIZE)
        end.push_async_callback(store.close)
        own = str(_ROOT / "src")
        services = [end.enter_context(_service(store, own, store.state, "ours"))]
        if source:
            spare = await make("b")
            end.push_async_callback(spare.close)
            if kind == "sqlite":  # a file is one service's alone
                await seed.fill(spare, _SIZE)
            there = spare if kind == "sqlite" else store
            services.append(end.enter_context(_service(there, source, spare.state, "theirs")))
        print(f"\n{kind:<28}{'connections':>12}{'this tree':>12}{'other':>12}{'ratio':>8}")
        for name, number in wanted:
            both = [await service.count(SMALL_ONES[name], number) for service in services]
            shown = "".join(f"{value / 1000:>11.0f}k" for value in both)
            ratio = f"{both[0] / both[-1]:>8.3f}" if source else ""
            print(f"  {name:<26}{number:>12}{shown}{ratio}", flush=True)


async def measure(kinds: list[str], revision: str, wanted: Sequence[tuple[str, int]]) -> None:
    """Print all tables."""
    if not revision:
        for kind in kinds:
            await compare(kind, "", wanted)
        return
    with against.checked_out(revision) as source:
        for kind in kinds:
            await compare(kind, source, wanted)


def main() -> None:
    """Read the arguments and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="", metavar="REV", help="compare with a revision")
    parser.add_argument("--only", action="append", choices=SMALL_ONES, help="this request")
    parser.add_argument("--connections", type=int, action="append", help="1 and 16 by default")
    parser.add_argument("stores", nargs="*", default=KINDS)
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is missing")
    wanted = list(product(given.only or SMALL_ONES, given.connections or (1, 16)))
    asyncio.run(measure(given.stores, given.against, wanted))


if __name__ == "__main__":
    main()
