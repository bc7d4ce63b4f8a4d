"""Health checks of the servers behind this process, and the state "shutting down".

A probe is registered for each server. It is a coroutine function that raises when the server cannot
be used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

PATIENCE = 1.5
"""Seconds after which a server that does not answer counts as unreachable."""
FRESH = 0.5
"""Seconds for which a result is cached, so that frequent requests cause one check."""

AWAY = "away"
"""Result for a server that cannot be reached."""
READS_ONLY = "reads only"
"""Result of a probe whose server can be read, but accepts no writes."""

Probe = Callable[[], Awaitable[object]]


class Described(Protocol):
    """What a server says of itself."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for the answer."""


Describe = Callable[[], Awaitable[Described | None]]


class NotUsable(Exception):
    """A server answers, but cannot be used. ``status`` is one word for the reason."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Condition:
    """The result of the health check of one server."""

    status: str
    """``ok``, ``reads only``, ``away`` (it cannot be reached), or the word of a ``NotUsable``."""
    needed: bool
    """Whether no operation works without it. Without other servers some operations answer 503."""
    milliseconds: float

    @property
    def ok(self) -> bool:
        """Whether it can be used, at least for reading."""
        return self.status in {"ok", READS_ONLY}

    @property
    def reads_only(self) -> bool:
        """Whether it can only be read; changes that need it answer 503."""
        return self.status == READS_ONLY


class Probes:
    """The health checks of all servers behind this process, by name."""

    def __init__(self) -> None:
        self._probes: dict[str, tuple[Probe, bool]] = {}
        self._describe: dict[str, Describe] = {}
        self._last: tuple[float, dict[str, Condition]] | None = None
        self._asking = asyncio.Lock()
        self.leaving = False
        """Set after SIGTERM: requests are still served, but no new ones should be sent here."""

    def add(
        self, name: str, probe: Probe, *, needed: bool = True, describe: Describe | None = None
    ) -> None:
        """Register a server; ``describe`` tells more of it than whether it can be used."""
        self._probes[name] = (probe, needed)
        if describe is not None:
            self._describe[name] = describe

    async def describe(self, found: Mapping[str, Condition]) -> dict[str, dict[str, Any]]:
        """Return what the servers that answer say of themselves. Never raises.

        Servers that ``ask`` has found unreachable are not asked again: that would take as long.
        """
        names = [name for name in self._describe if found[name].status != AWAY]
        items = await asyncio.gather(*(self._described(name) for name in names))
        return {name: item for name, item in zip(names, items, strict=True) if item}

    async def _described(self, name: str) -> dict[str, Any]:
        task = asyncio.ensure_future(self._describe[name]())
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        if not done:
            task.cancel()
            task.add_done_callback(_forget)
            return {}
        if task.cancelled() or task.exception() is not None:
            return {}
        described = task.result()
        return {} if described is None else described.to_dict()

    async def ask(self) -> dict[str, Condition]:
        """Check all servers in parallel; takes at most ``PATIENCE``. Never raises."""
        async with self._asking:
            if self._last is None or time.monotonic() - self._last[0] > FRESH:
                names = list(self._probes)
                found = await asyncio.gather(*(self._one(name) for name in names))
                self._last = (time.monotonic(), dict(zip(names, found, strict=True)))
            return self._last[1]

    async def _one(self, name: str) -> Condition:
        probe, needed = self._probes[name]
        started = time.perf_counter()
        task = asyncio.ensure_future(probe())
        # In a task: a probe that cannot be cancelled at once must not delay the answer.
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        status = AWAY
        if done and not task.cancelled():
            error = task.exception()
            if error is None:
                status = READS_ONLY if task.result() == READS_ONLY else "ok"
            elif isinstance(error, NotUsable):
                status = error.status
        if not done:
            task.cancel()
            task.add_done_callback(_forget)
        return Condition(status, needed, round((time.perf_counter() - started) * 1000, 1))


def _forget(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # retrieved, because asyncio logs exceptions that never are
