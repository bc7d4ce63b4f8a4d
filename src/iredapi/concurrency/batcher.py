"""What arrives while others of its kind are on their way goes together, the next time.

Nobody waits for company: who comes alone goes at once. Under load as many go together as came
meanwhile, and share what a journey costs, whatever it carries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST: Final = 8
"""Items that go together."""
LANES: Final = 4
"""Journeys at once: as a rule there is one, but nobody waits for a slow one."""
SLOW: Final = 0.02
"""Seconds after which a journey is slow."""


class Group(Generic[Item, Result]):
    """Items of one kind, and how several are dealt with at once.

    ``run`` returns a result or an exception for each item, or a future of it: then the next journey
    begins, and its item waits on. What ``run`` raises itself is for all. Who has waited for
    ``patience`` seconds without a journey gets a TimeoutError. At most ``lanes`` go at once.
    With ``wait_for_previous`` the next journey waits until the last one's items are told, unless it
    is full: as many go with half the journeys.
    """

    def __init__(
        self,
        run: Callable[
            [Sequence[Item]], Awaitable[Sequence[Result | Exception | asyncio.Future[Result]]]
        ],
        *,
        patience: float = 60.0,
        lanes: int = LANES,
        wait_for_previous: bool = False,
    ) -> None:
        self._run = run
        self._patience = patience
        self._most_lanes = lanes
        self._wait_for_previous = wait_for_previous
        self._waiting: list[tuple[Item, asyncio.Future[Result], float]] = []
        self._lanes = 0
        self._full: list[asyncio.Future[None]] = []
        """What is told when as many wait as go together."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def do(self, item: Item) -> Result:
        """Return what became of an item, or raise it.

        Who is cancelled while waiting is left out; what is on its way already arrives.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        now = time.perf_counter()
        self._waiting.append((item, result, now))
        if self._full and len(self._waiting) >= MOST:
            for full in self._full:
                if not full.done():
                    full.set_result(None)
        if not self._lanes or (self._lanes < self._most_lanes and now - self._left > SLOW):
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(SLOW, self._look)
        return await result

    async def close(self) -> None:
        """Wait for all that are on their way."""
        while self._tasks:
            # Not gather: who gives up waiting here must not cut them.
            await asyncio.wait(set(self._tasks))

    def _begin(self) -> None:
        self._lanes += 1
        # What one request knows of itself is not the others'.
        task = asyncio.get_running_loop().create_task(self._lane(), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look(self) -> None:
        """See to those who wait, now and then: nobody else may come."""
        self._timer = None
        now = time.perf_counter()
        while self._waiting and now - self._waiting[0][2] > self._patience:
            _, result, _ = self._waiting.pop(0)
            if not result.done():
                result.set_exception(TimeoutError())
        if not self._waiting:
            return
        if not self._lanes or (self._lanes < self._most_lanes and now - self._left > SLOW):
            self._begin()
        self._timer = asyncio.get_running_loop().call_later(SLOW, self._look)

    async def _lane(self) -> None:
        try:
            while self._waiting:
                some = [(item, to) for item, to, _ in self._waiting[:MOST] if not to.done()]
                del self._waiting[:MOST]
                if some:
                    later = await self._together(some)
                    if self._wait_for_previous and later is not None and len(self._waiting) < MOST:
                        await self._until_reported(later)
        finally:
            # Counted here, and not when the task is seen to be done: who comes in between would
            # wait for nobody.
            self._lanes -= 1

    async def _until_reported(self, later: asyncio.Future[Result]) -> None:
        """Wait for what is told later, but not for long, nor when there is a full journey."""
        full = asyncio.get_running_loop().create_future()
        self._full.append(full)
        try:
            await asyncio.wait({later, full}, timeout=SLOW, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._full.remove(full)

    async def _together(
        self, some: Sequence[tuple[Item, asyncio.Future[Result]]]
    ) -> asyncio.Future[Result] | None:
        self._left = time.perf_counter()
        try:
            found = await self._run([item for item, _ in some])
            if len(found) != len(some):
                raise AssertionError("a result for each item is expected")
        except Exception as error:
            found = [error] * len(some)
        except BaseException:
            for _, result in some:
                if not result.done():
                    result.set_exception(TimeoutError())
            raise
        later: asyncio.Future[Result] | None = None
        for (_, result), outcome in zip(some, found, strict=True):
            if isinstance(outcome, asyncio.Future):
                later = outcome
                outcome.add_done_callback(partial(_pass_on, result))
            elif result.done():
                continue
            elif isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)
        return later


def _pass_on(result: asyncio.Future[Result], later: asyncio.Future[Result]) -> None:
    if result.done():
        return
    if later.cancelled():
        result.set_exception(TimeoutError())
    elif error := later.exception():
        result.set_exception(error)
    else:
        result.set_result(later.result())
