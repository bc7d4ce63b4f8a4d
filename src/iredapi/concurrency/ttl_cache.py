"""A cache whose values expire after a short time, in one process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

Value = TypeVar("Value")

SECONDS: Final = 1.0
"""Time to live of sessions, principals and iRedAdmin's settings, in seconds."""
_MAX_VALUES: Final = 10_000
_MAX_INVALIDATIONS: Final = 100


class TTLCache(Generic[Value]):
    """Values by key. What this process changes is invalidated at once.

    A caller of ``put`` reads ``generation`` before it reads the value, and passes both: a value
    that was read before an invalidation is not stored after it.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._values: dict[str, tuple[float, Value]] = {}
        self._generation = 0
        self._invalidations: deque[tuple[int, Callable[[str, Value], bool]]] = deque(
            maxlen=_MAX_INVALIDATIONS
        )
        """The last selective invalidations: the generation of each, and what it chose."""
        self._loading: dict[str, tuple[float, asyncio.Task[Value | None]]] = {}
        """Loads in progress: start time and task, shared by all callers."""
        self._tasks: set[asyncio.Task[Value | None]] = set()

    @property
    def generation(self) -> int:
        """The number of invalidations so far."""
        return self._generation

    async def get_or_load(
        self, key: str, load: Callable[[], Coroutine[Any, Any, Value | None]]
    ) -> Value | None:
        """Return the cached value, or what ``load`` returns. Raises what ``load`` raises.

        Callers of the same key share one load, unless its value would be expired when it arrives.
        A value in the second half of its life is loaded again in the background: nobody waits, and
        a failure of that load reaches nobody while the value is valid.
        """
        found, now = self._values.get(key), time.monotonic()
        if found is not None and now < found[0]:
            if now > found[0] - self._seconds / 2 and self._in_progress(key, now) is None:
                self._start_load(key, load, now)
            return found[1]
        # A cancelled caller must not cancel the load that others wait for.
        return await asyncio.shield(self._in_progress(key, now) or self._start_load(key, load, now))

    async def drain(self) -> None:
        """Wait for all loads in progress."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _in_progress(self, key: str, now: float) -> asyncio.Task[Value | None] | None:
        begun, task = self._loading.get(key, (0.0, None))
        return task if now < begun + self._seconds else None

    def _start_load(
        self, key: str, load: Callable[[], Coroutine[Any, Any, Value | None]], begun: float
    ) -> asyncio.Task[Value | None]:
        found = self._load(key, load, self._generation, begun)
        task = asyncio.get_running_loop().create_task(found)
        self._loading[key] = (begun, task)
        self._tasks.add(task)
        task.add_done_callback(partial(self._loaded, key))
        return task

    async def _load(
        self,
        key: str,
        load: Callable[[], Coroutine[Any, Any, Value | None]],
        generation: int,
        begun: float,
    ) -> Value | None:
        value = await load()
        known = self._values.get(key)
        if known is not None and known[0] > begun + self._seconds:
            pass  # a load that began later has finished earlier
        elif value is None:
            self._values.pop(key, None)
        else:
            self._put(key, value, generation, begun)
        return value

    def _loaded(self, key: str, task: asyncio.Task[Value | None]) -> None:
        self._tasks.discard(task)
        if self._loading.get(key, (0.0, None))[1] is task:
            del self._loading[key]
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it: perhaps nobody waits

    def get(self, key: str) -> Value | None:
        """Return the cached value, or None."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= time.monotonic():
            del self._values[key]
            return None
        return found[1]

    def put(self, key: str, value: Value, generation: int) -> None:
        """Store a value that was read after ``generation``."""
        self._put(key, value, generation, time.monotonic())

    def _put(self, key: str, value: Value, generation: int, begun: float) -> None:
        if generation != self._generation and self._was_invalidated(key, value, generation):
            return
        if len(self._values) >= _MAX_VALUES:
            self._values.clear()
        self._values[key] = (begun + self._seconds, value)

    def invalidate(self, chosen: Callable[[str, Value], bool] | None = None) -> None:
        """Remove the values that ``chosen`` chooses, or all."""
        self._generation += 1
        self._loading.clear()  # callers from now on need a newer value
        if chosen is None:
            self._values.clear()
            self._invalidations.clear()
            return
        self._invalidations.append((self._generation, chosen))
        for key in [key for key, (_, value) in self._values.items() if chosen(key, value)]:
            del self._values[key]

    def _was_invalidated(self, key: str, value: Value, generation: int) -> bool:
        if not self._invalidations or self._invalidations[0][0] > generation + 1:
            return True  # all were, or the invalidation is no longer recorded
        return any(
            number > generation and chosen(key, value) for number, chosen in self._invalidations
        )
