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
SETTLED: Final = 1.0
"""Seconds after which the servers have noticed that one is gone, or nobody needs it."""
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

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(LIMIT):
                    answer = await self.write()
            except Exception as error:
                answer = repr(error)
            ended = time.monotonic()
            if not answer:
                self.moments.append(ended)
            if answer or ended - began > SETTLED:
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

    def pause_after(self, moment: float) -> float | None:
        """Return the longest time without an acknowledged write, in seconds, or None.

        It is looked for from a moment to the first write after ``SETTLED``: what was on its way at
        the moment may still be acknowledged, before nothing is for some seconds.
        """
        first = bisect_right(self.moments, moment)
        last = bisect_right(self.moments, moment + SETTLED)
        if last >= len(self.moments):
            return None
        points = [moment, *self.moments[first : last + 1]]
        return max(later - earlier for earlier, later in pairwise(points))


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
    """The longest time without a write of a bare driver, in seconds."""
    client: float
    """That of the slowest client of the services."""
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
            bare = self.bare.pause_after(moment)
            clients = [writer.pause_after(moment) for writer in self.clients]
            known = [seconds for seconds in clients if seconds is not None]
            if bare is not None and len(known) == len(clients):
                outage = Outage(what, bare, max(known))
                if outage.longer > LONGER:
                    writers = (self.bare, *self.clients)
                    told = [line for each in writers for line in each.told_since(moment)]
                    outage = replace(outage, troubles=tuple(told))
                return outage
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: no writes again: {bare}, {clients}")
            await asyncio.sleep(EVERY)
