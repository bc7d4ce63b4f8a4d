"""How long nobody can write: as a bare driver sees it, and as a client of the service does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

EVERY: Final = 0.05
"""Seconds between two tries."""
LIMIT: Final = 90.0
"""Seconds that one try may take."""


@dataclass
class Writer:
    """Writes again and again; ``moments`` are those at which a write was acknowledged."""

    name: str
    write: Callable[[], Awaitable[bool]]
    moments: list[float] = field(default_factory=list)
    """Monotonic, in seconds."""

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LIMIT):
                    good = await self.write()
            except Exception:
                good = False
            if good:
                self.moments.append(time.monotonic())
            await asyncio.sleep(EVERY)

    def back_after(self, moment: float) -> float | None:
        """Return the seconds from a moment to the next acknowledged write, or None."""
        return next((later - moment for later in self.moments if later > moment), None)


def through(client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[bool]]:
    """Return a write through the service: another display name each time."""
    number = 0

    async def write() -> bool:
        nonlocal number
        number += 1
        response = await client.put(path, data={"name": f"P{number}"})
        return response.status_code == 200

    return write


@dataclass(frozen=True)
class Outage:
    """One fault."""

    what: str
    bare: float
    """Seconds until a bare driver wrote again."""
    client: float
    """Seconds until the slowest client of the services did."""

    @property
    def longer(self) -> float:
        """How much longer a client waited than the engine took."""
        return self.client - self.bare

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{self.what}: a bare driver {self.bare:.2f} s, "
            f"a client {self.client:.2f} s ({self.longer:+.2f} s)"
        )


@dataclass
class Probes:
    """A bare driver and a client of each service, side by side."""

    bare: Writer
    clients: Sequence[Writer]

    async def measure(self, what: str, moment: float, seconds: float = 120.0) -> Outage:
        """Wait until all of them write again after a fault that was over at a moment."""
        deadline = time.monotonic() + seconds
        while True:
            bare = self.bare.back_after(moment)
            clients = [writer.back_after(moment) for writer in self.clients]
            known = [seconds for seconds in clients if seconds is not None]
            if bare is not None and len(known) == len(clients):
                return Outage(what, bare, max(known))
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: no writes again: {bare}, {clients}")
            await asyncio.sleep(EVERY)
