"""How long nobody can write: as a bare driver sees it, and as a client of the service does."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

import httpx

EVERY: Final = 0.05
"""Seconds between two tries."""
PAUSE: Final = 1.0
"""Seconds without a write that count as a pause."""
STEADY: Final = 1.5
"""Seconds without a pause after which a pause counts as the last one."""
LONGEST: Final = 60.0
"""Seconds after which that is not waited for any more."""
LONGER: Final = 2.0
"""Seconds that a failover may take longer for a client than for a bare driver."""
LIMIT: Final = 90.0
"""Seconds that one try may take."""


class Trouble(NamedTuple):
    """A try that failed or took long; times are monotonic, in seconds."""

    began: float
    ended: float
    answer: str


@dataclass
class Writer:
    """Writes again and again; ``moments`` are those at which a write was acknowledged."""

    name: str
    write: Callable[[], Awaitable[str]]
    """Returns why it failed; empty: it was acknowledged."""
    moments: list[float] = field(default_factory=list)
    """Monotonic, in seconds."""
    troubles: list[Trouble] = field(default_factory=list)
    """Tries that failed or took long."""
    over: bool = False
    """Set at the end. Python 3.11 may lose a cancellation while aiomysql connects."""

    async def run(self) -> None:
        """Write until ``over``."""
        while not self.over:
            began = time.monotonic()
            try:
                async with asyncio.timeout(LIMIT):
                    answer = await self.write()
            except Exception as error:
                answer = repr(error)
            ended = time.monotonic()
            if not answer:
                self.moments.append(ended)
            if answer or ended - began > PAUSE:
                self.troubles.append(Trouble(began, ended, answer or "written"))
            await asyncio.sleep(EVERY)

    def told_since(self, moment: float) -> list[str]:
        """Return the tries after a moment that failed or took long."""
        return [
            f"{self.name}: {each.began - moment:+.2f} to {each.ended - moment:+.2f} s: "
            f"{each.answer}"
            for each in self.troubles
            if each.ended > moment
        ]

    def since(self, moment: float) -> list[float]:
        """Return a moment and those of all writes after it."""
        return [moment, *self.moments[bisect_right(self.moments, moment) :]]

    def steady_after(self, moment: float, now: float) -> float | None:
        """Return when the servers were back, or None: not yet.

        That is the end of the last long pause; what was on its way when a server was killed may
        still be acknowledged before the pause begins, and there may be two of them.
        """
        points = self.since(moment)
        ends = [later for earlier, later in pairwise(points) if later - earlier > PAUSE]
        if len(points) == 1 or now - points[-1] > PAUSE:
            return None
        back = ends[-1] if ends else points[1]
        return back if now - back > STEADY or now - moment > LONGEST else None

    def back_after(self, moment: float, servers: float, now: float) -> float | None:
        """Return when writes were acknowledged again, or None: not yet.

        ``servers`` is when the servers were back.
        """
        points = [*self.since(moment), now]
        ends = [
            later
            for earlier, later in pairwise(points)
            if later - earlier > PAUSE and earlier <= servers + PAUSE / 2
        ]
        if ends:
            return None if ends[-1] == now else ends[-1]
        return next((point for point in points[1:-1] if point >= servers), None)


def through(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[str]]:
    """Return a write through the service: another display name each time."""
    number = 0

    async def write() -> str:
        nonlocal number
        number += 1
        response = await client.put(path, data={"name": f"P{number}"})
        return "" if response.status_code == 200 else f"{response.status_code} {response.text}"

    return write


@dataclass(frozen=True)
class Outage:
    """One fault."""

    what: str
    bare: float
    """Seconds until a bare driver wrote again."""
    client: float
    """Seconds until the slowest client of the services did."""
    troubles: tuple[str, ...] = ()
    """When a client waited longer than ``LONGER``: tries that failed or took long."""

    @property
    def longer(self) -> float:
        """How much longer a client waited than the engine took."""
        return self.client - self.bare

    def __str__(self) -> str:
        """Return one line, and one for each trouble."""
        line = (
            f"{self.what}: a bare driver {self.bare:.2f} s, "
            f"a client {self.client:.2f} s ({self.longer:+.2f} s)"
        )
        return "\n    ".join([line, *self.troubles])


@dataclass
class Probes:
    """A bare driver and a client of each service, side by side."""

    bare: Writer
    clients: Sequence[Writer]

    async def measure(self, what: str, moment: float, seconds: float = 120.0) -> Outage:
        """Wait until all of them write again after a fault that was over at a moment."""
        deadline = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            bare = self.bare.steady_after(moment, now)
            clients = [
                None if bare is None else writer.back_after(moment, bare, now)
                for writer in self.clients
            ]
            known = [back for back in clients if back is not None]
            if bare is not None and len(known) == len(clients):
                outage = Outage(what, bare - moment, max(known) - moment)
                if outage.longer > LONGER:
                    writers = (self.bare, *self.clients)
                    told = [line for each in writers for line in each.told_since(moment)]
                    outage = replace(outage, troubles=tuple(told))
                return outage
            if now > deadline:
                raise AssertionError(f"{what}: no writes again: {bare}, {clients}")
            await asyncio.sleep(EVERY)
