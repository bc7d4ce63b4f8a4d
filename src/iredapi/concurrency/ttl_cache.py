"""What was read a moment ago and may be believed for a moment, in one process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")

SECONDS: Final = 1.0
"""How long sessions, principals and the panel's settings are believed (decision 10)."""
_MOST: Final = 10_000
_CHOICES: Final = 100


class TTLCache(Generic[Value]):
    """Values by key. What this process changes it forgets at once.

    Who reads a value takes ``now`` before, and hands it in with the value: nothing is remembered
    that was read before something was forgotten.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._values: dict[str, tuple[float, Value]] = {}
        self._forgotten = 0
        self._choices: deque[tuple[int, Callable[[str, Value], bool]]] = deque(maxlen=_CHOICES)
        """What was forgotten since everything was, the last time."""
        self._asked: dict[str, tuple[float, asyncio.Task[Value | None]]] = {}
        """What is being found out, since when, for all who want to know it."""
        self._tasks: set[asyncio.Task[Value | None]] = set()

    @property
    def now(self) -> int:
        """How often something was forgotten so far."""
        return self._forgotten

    async def of(
        self, key: str, find: Callable[[], Coroutine[Any, Any, Value | None]]
    ) -> Value | None:
        """Return what is remembered, or what ``find`` finds out. Raises what it raises.

        Who asks while somebody finds it out waits for that answer, unless it will be too old. What
        is about to be too old is found out beforehand: then nobody waits, and nobody is told of a
        failure while there is a value.
        """
        found, now = self._values.get(key), time.monotonic()
        if found is not None and now < found[0]:
            if now > found[0] - self._seconds / 2 and self._under_way(key, now) is None:
                self._ask(key, find, now)
            return found[1]
        # Who goes away does not take the answer from the others.
        return await asyncio.shield(self._under_way(key, now) or self._ask(key, find, now))

    async def settle(self) -> None:
        """Wait for what is being found out."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _under_way(self, key: str, now: float) -> asyncio.Task[Value | None] | None:
        begun, task = self._asked.get(key, (0.0, None))
        return task if now < begun + self._seconds else None

    def _ask(
        self, key: str, find: Callable[[], Coroutine[Any, Any, Value | None]], begun: float
    ) -> asyncio.Task[Value | None]:
        found = self._found(key, find, self._forgotten, begun)
        task = asyncio.get_running_loop().create_task(found)
        self._asked[key] = (begun, task)
        self._tasks.add(task)
        task.add_done_callback(partial(self._answered, key))
        return task

    async def _found(
        self,
        key: str,
        find: Callable[[], Coroutine[Any, Any, Value | None]],
        now: int,
        begun: float,
    ) -> Value | None:
        value = await find()
        known = self._values.get(key)
        if known is not None and known[0] > begun + self._seconds:
            pass  # somebody who asked later was faster
        elif value is None:
            self._values.pop(key, None)
        else:
            self._put(key, value, now, begun)
        return value

    def _answered(self, key: str, task: asyncio.Task[Value | None]) -> None:
        self._tasks.discard(task)
        if self._asked.get(key, (0.0, None))[1] is task:
            del self._asked[key]
        if not task.cancelled():
            task.exception()  # whoever waits is told; nobody may be waiting

    def get(self, key: str) -> Value | None:
        """Return what is remembered, if anything."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= time.monotonic():
            del self._values[key]
            return None
        return found[1]

    def put(self, key: str, value: Value, now: int) -> None:
        """Remember a value that was read after ``now``."""
        self._put(key, value, now, time.monotonic())

    def _put(self, key: str, value: Value, now: int, begun: float) -> None:
        if now != self._forgotten and self._was_forgotten(key, value, now):
            return
        if len(self._values) >= _MOST:
            self._values.clear()
        self._values[key] = (begun + self._seconds, value)

    def forget(self, which: Callable[[str, Value], bool] | None = None) -> None:
        """Forget what is chosen, or everything."""
        self._forgotten += 1
        self._asked.clear()  # who asks from now on wants to know what is so now
        if which is None:
            self._values.clear()
            self._choices.clear()
            return
        self._choices.append((self._forgotten, which))
        for key in [key for key, (_, value) in self._values.items() if which(key, value)]:
            del self._values[key]

    def _was_forgotten(self, key: str, value: Value, now: int) -> bool:
        if not self._choices or self._choices[0][0] > now + 1:
            return True  # everything was, or it is not known any more what
        return any(number > now and which(key, value) for number, which in self._choices)
