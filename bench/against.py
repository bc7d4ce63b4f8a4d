"""Compares this working tree's service with another revision's, on equal databases, in turn.

``make bench BENCH_ARGS="--against REV"`` prints for each request what both reach, their ratio
(above 1: this tree is faster) and the CPU time that a request costs in each. ``--against HEAD``
compares a revision with itself: the spread of its ratios is the noise of the machine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import seed
from bench.drive import Failed, Rate, Request, transfer, wrk
from bench.programs import Memory, cpu_seconds, login, service
from bench.seed import BIG, Size
from tests.servers.api import ApiProcess
from tests.servers.store import Store

MIB = 1024 * 1024
_ROOT = Path(__file__).parents[1]


@contextmanager
def checked_out(revision: str) -> Iterator[str]:
    """Check a revision out into a temporary directory; gives its ``src``. Raises SystemExit."""
    with tempfile.TemporaryDirectory(prefix="bench-rev-") as directory:
        place = Path(directory) / "tree"
        git = ["git", "-C", str(_ROOT), "worktree"]
        added = subprocess.run(
            [*git, "add", "--detach", place, revision], capture_output=True, text=True, check=False
        )
        if added.returncode:
            raise SystemExit(f"--against {revision}: {added.stderr.strip()}")
        try:
            yield str(place / "src")
        finally:
            subprocess.run([*git, "remove", "--force", place], check=True, capture_output=True)


@dataclass(slots=True)
class Side:
    """One revision's service."""

    address: str
    cookie: str
    pid: int
    tag: str
    """A letter in the names of created users: both revisions create in the same domains."""

    def rate(self, request: Request, size: Size, seconds: int) -> tuple[Rate, float]:
        """Drive it for some seconds; the rate, and microseconds of CPU time per request."""
        path = request.path.replace("/new#", f"/{self.tag}#")
        before = cpu_seconds(self.pid)
        rate = wrk(
            self.address, Request(request.method, f"/api{path}", request.body), seconds=seconds,
            cookie=self.cookie, users=size.users, domains=size.domains,
        )  # fmt: skip
        return rate, (cpu_seconds(self.pid) - before) / rate.requests * 1e6


def _line(name: str, own: str, other: str, ratios: Sequence[float], more: str = "") -> None:
    """Print one line: both medians, the median ratio, and the spread of the rounds."""
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
    middle = statistics.median(ratios)
    print(f"  {name:<34}{own:>12}{other:>12}{middle:>8.2f}  {spread:<12} {more}", flush=True)


def _small(
    name: str, request: Request, both: Sequence[Side], size: Size, seconds: int, rounds: int
) -> None:
    for side in both:  # pools and caches fill
        side.rate(request, size, 1)
    found = []
    for number in range(rounds):
        # The first one finds colder caches of the database: alternate.
        order = both if number % 2 else both[::-1]
        measured = {side.tag: side.rate(request, size, seconds) for side in order}
        found.append([measured[side.tag] for side in both])
    own, other = (statistics.median(r[i][0].per_second for r in found) for i in (0, 1))
    cpu = [statistics.median(r[i][1] for r in found) for i in (0, 1)]
    _line(
        name, f"{own:.0f}/s", f"{other:.0f}/s",
        [a.per_second / b.per_second for (a, _), (b, _) in found],
        f"CPU per request {cpu[0]:.0f} and {cpu[1]:.0f} µs ({cpu[0] / cpu[1]:.2f})",
    )  # fmt: skip


def _long(name: str, path: str, both: Sequence[Side], rounds: int) -> None:
    request = Request("GET", f"/api{path}")
    memories = [Memory(side.pid) for side in both]
    for side in both:
        transfer(side.address, request, side.cookie)
    idle = [memory.now() for memory in memories]
    for memory in memories:
        memory.forget_peak()
    found = [[transfer(side.address, request, side.cookie) for side in both] for _ in range(rounds)]
    own, other = (statistics.median(r[i].total for r in found) for i in (0, 1))
    first = [1000 * max(r[i].first for r in found) for i in (0, 1)]
    grown = [(memory.peak() - at) / MIB for memory, at in zip(memories, idle, strict=True)]
    _line(
        name, f"{own:.2f} s", f"{other:.2f} s", [b.total / a.total for a, b in found],
        f"first byte {first[0]:.0f} and {first[1]:.0f} ms, memory +{grown[0]:.0f} and"
        f" +{grown[1]:.0f} MiB",
    )  # fmt: skip


async def _bulk(stores: Sequence[Store], both: Sequence[Side], size: Size, rounds: int) -> None:
    for name, method, path, body in (
        ("bulk update", "PUT", "/api/users/", "language=de_DE"),
        ("delete a domain", "DELETE", "/api/domain/", ""),
    ):
        found: list[list[float]] = []
        for number in range(rounds):
            row = []
            for store, side in zip(stores, both, strict=True):
                domain = f"bulk{number}-{side.tag}.test"
                if method == "PUT":
                    await seed.big(store, domain, size.big)
                request = Request(method, path + domain, body)
                done = await asyncio.to_thread(transfer, side.address, request, side.cookie)
                row.append(done.total)
            found.append(row)
        own, other = (statistics.median(row[i] for row in found) for i in (0, 1))
        _line(f"{name} ({size.big:,})", f"{own:.2f} s", f"{other:.2f} s", [b / a for a, b in found])


def timed(command: Sequence[str], source: str, rounds: int) -> float:
    """Return the median of the seconds that a command of a revision takes."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "iredapi.cli", *command], check=True, capture_output=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": source}, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextmanager
def _started(store: Store, source: str, state: str) -> Iterator[tuple[ApiProcess, float]]:
    begun = time.perf_counter()
    with service(store, PYTHONPATH=source, IREDAPI_STATE_URL=state) as process:
        yield process, time.perf_counter() - begun


async def compare(
    stores: tuple[Store, Store],
    other_state: str,
    source: str,
    size: Size,
    requests: dict[str, Request],
    *,
    seconds: int,
    rounds: int,
    long_rounds: int,
) -> None:
    """Measure everything. ``stores`` are those of this tree and of the other revision.

    They are the same one, except on SQLite, whose files one service has for itself. ``other_state``
    is the other revision's state database.
    """
    ours = str(_ROOT / "src")
    print(
        f"  {'':<34}{'this tree':>12}{'other':>12}{'ratio':>8}  {'rounds':<12} each: this, other",
        flush=True,
    )
    with (
        _started(stores[0], ours, stores[0].state) as (one, one_start),
        _started(stores[1], source, other_state) as (two, two_start),
    ):
        both = [
            Side(
                process.address, login(process.address, seed.ADMIN, seed.PASSWORD), process.pid, tag
            )
            for process, tag in ((one, "ours"), (two, "theirs"))
        ]
        idle = [Memory(side.pid).now() / MIB for side in both]

        def attempt(work: Callable[[], None]) -> None:
            try:
                work()
            except Failed as error:
                print(f"  failed: {error}", flush=True)

        for name, request in requests.items():
            attempt(lambda: _small(name, request, both, size, seconds, rounds))  # noqa: B023
        for name, path in (
            ("list names", f"/users/{BIG}?email_only=yes"),
            ("list full profiles", f"/users/{BIG}"),
        ):
            attempt(lambda: _long(f"{name} ({size.big:,})", path, both, long_rounds))  # noqa: B023
        if stores[0].name != "openldap":
            try:
                await _bulk(stores, both, size, long_rounds)
            except Failed as error:
                print(f"  failed: {error}", flush=True)
        _line("idle memory", f"{idle[0]:.0f} MiB", f"{idle[1]:.0f} MiB", [idle[1] / idle[0]])
        _line(
            "start to first answer", f"{one_start:.2f} s", f"{two_start:.2f} s",
            [two_start / one_start],
        )  # fmt: skip
    version = [timed(["--version"], tree, 3) for tree in (ours, source)]
    _line(
        "iredapi --version", f"{version[0]:.2f} s", f"{version[1]:.2f} s", [version[1] / version[0]]
    )
