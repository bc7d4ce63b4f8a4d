"""Whether this process can work: what it needs, asked server by server; and whether it is leaving.

Whoever brings a server registers a probe for it. A probe is any coroutine function that raises when
its server cannot be used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

PATIENCE = 1.5
"""Seconds until a server that does not answer counts as away."""
FRESH = 0.5
"""Seconds for which an answer is believed, so that many askers cost one question."""

READS_ONLY = "reads only"
"""What a probe returns when its server can be read and takes no writes."""

Probe = Callable[[], Awaitable[object]]


class NotUsable(Exception):
    """A server answers and cannot be used all the same; ``status`` is a word for why."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of one server."""

    status: str
    """``ok``, ``reads only``, ``away`` (it cannot be reached), or the word of a ``NotUsable``."""
    needed: bool
    """Without it nothing works; without the others some operations answer 503."""
    milliseconds: float

    @property
    def ok(self) -> bool:
        """Whether it can be used, for reading at least."""
        return self.status in {"ok", READS_ONLY}

    @property
    def reads_only(self) -> bool:
        """Whether it can be read, and changes that would need it answer 503."""
        return self.status == READS_ONLY


class Probes:
    """The servers behind this process, by name."""

    def __init__(self) -> None:
        self._probes: dict[str, tuple[Probe, bool]] = {}
        self._last: tuple[float, dict[str, Condition]] | None = None
        self._asking = asyncio.Lock()
        self.leaving = False
        """SIGTERM came: requests are still served, but no new ones should be sent here."""

    def add(self, name: str, probe: Probe, *, needed: bool = True) -> None:
        """Register a server."""
        self._probes[name] = (probe, needed)

    async def ask(self) -> dict[str, Condition]:
        """Ask all servers at once; takes ``PATIENCE`` at most. Never raises."""
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
        # A task of its own: a probe that cannot be cancelled at once must not keep us waiting.
        done, _ = await asyncio.wait([task], timeout=PATIENCE)
        status = "away"
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


def _forget(task: asyncio.Future[object]) -> None:
    if not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
