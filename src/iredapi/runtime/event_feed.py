"""Waiting for events: one look at the state database serves all clients of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from typing import Final

from iredapi.domain.change_events import Cursor, PublishedEvent, Visible
from iredapi.observability.health_checks import Probes
from iredapi.state import StateUnavailable
from iredapi.state.events import Events

_SECONDS: Final = 0.5
"""Seconds between two looks. Events of this process are known at once."""
_MOST: Final = 200
"""Events that are compared with what clients want; when there are more, all clients look."""


class EventFeed:
    """Tells clients that there are further events. It does nothing while nobody waits."""

    def __init__(self, events: Events, probes: Probes) -> None:
        self._events = events
        self._probes = probes
        self._waiting: dict[asyncio.Future[bool], Visible] = {}
        self._seen = 0
        """The position up to which the clients that wait have read."""
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look at once: this process has published something."""
        self._woken.set()

    async def beyond(self, after: Cursor, visible: Visible, seconds: float) -> bool:
        """Wait until there may be an event after a cursor that the client wants.

        Returns whether there may be. It also ends when the process is about to end. Raises
        StateUnavailable.
        """
        if seconds <= 0 or self._probes.leaving:
            return False
        position, loop = after.position or 0, asyncio.get_running_loop()
        found: asyncio.Future[bool] = loop.create_future()
        if self._task is not None and position < self._seen:
            return True
        self._waiting[found] = visible
        if self._task is None:
            self._seen = position
            # Empty context: this is no work of the request that happens to be the first.
            self._task = loop.create_task(self._look(), context=Context())
        try:
            async with asyncio.timeout(seconds):
                return await found
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(found, None)

    async def _look(self) -> None:
        try:
            while self._waiting:
                self._woken.clear()
                try:
                    await self._tell(await self._events.end())
                except Exception as error:
                    self._fail(error)
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS):
                        await self._woken.wait()
        finally:
            self._task = None
            self._fail(StateUnavailable("Nobody looks for events any more."))

    async def _tell(self, end: int) -> None:
        """Wake the clients that want an event up to ``end``; all of them if there are many."""
        new: Sequence[PublishedEvent] | None = None
        if self._seen < end <= self._seen + _MOST:
            new = await self._events.read(self._seen, _MOST)
            end = new[-1].position if new else end
        many = new is None and self._seen < end
        for found, visible in self._waiting.items():
            arrived = many or any(visible.wants(event) for event in new or ())
            if (arrived or self._probes.leaving) and not found.done():
                found.set_result(arrived)
        self._seen = max(self._seen, end)

    def _fail(self, error: Exception) -> None:
        for found in self._waiting:
            if not found.done():
                found.set_exception(error)

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)
