"""Time limits for servers behind the API.

``asyncio.timeout`` starts and stops a timer of the event loop each time. Here one timer serves all
time limits of an event loop: each request has several of them, and hardly any ever ends.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final
from weakref import WeakKeyDictionary

from iredapi.errors import ServerDown


class TimeLimit:
    """An asynchronous context manager that raises TimeoutError after some seconds.

    It is ``asyncio.timeout`` with a shared timer.
    """

    __slots__ = ("_alarm", "_cancelling", "_expired", "_seconds", "_task", "end")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        loop = task.get_loop()
        self._task, self._cancelling = task, task.cancelling()
        self.end = loop.time() + self._seconds
        alarm = _ALARMS.get(loop)
        if alarm is None:
            alarm = _ALARMS[loop] = _Alarm()
        self._alarm = alarm
        alarm.limits[self] = None
        if self.end < alarm.rings_at:  # the timer is started only if it would ring too late
            alarm.start(self.end, loop)

    async def __aexit__(self, kind: Any, error: Any, _: Any) -> None:
        self._alarm.limits.pop(self, None)
        # Otherwise somebody else has cancelled the task as well.
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task at the end of the time."""
        self._expired = True
        self._task.cancel()


class _Alarm:
    """The timer of one event loop."""

    __slots__ = ("_timer", "limits", "rings_at")

    def __init__(self) -> None:
        self.limits: dict[TimeLimit, None] = {}
        """Those that have not ended yet."""
        self.rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        """Ring at a loop time."""
        if self._timer is not None:
            self._timer.cancel()
        self.rings_at = at
        self._timer = loop.call_at(at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self.rings_at = None, math.inf
        now = loop.time()
        for limit in [limit for limit in self.limits if limit.end <= now]:
            del self.limits[limit]
            limit.expire()
        if self.limits:
            self.start(min(limit.end for limit in self.limits), loop)


_ALARMS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Alarm]] = WeakKeyDictionary()


class Deadline(TimeLimit):
    """An asynchronous context manager that raises ServerDown after some seconds.

    Also a TimeoutError of a shorter limit inside becomes ServerDown.
    """

    __slots__ = ()

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None and not self._expired:
            self._alarm.limits.pop(self, None)
            return
        try:
            await super().__aexit__(kind, error, traceback)
            if isinstance(error, TimeoutError):
                raise error
        except TimeoutError as late:
            raise ServerDown(detail="A server behind the API did not answer in time.") from late
