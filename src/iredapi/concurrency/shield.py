"""Work that a cancelled request must not interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

Result = TypeVar("Result")


class Background:
    """Clean-up work that runs to its end although the request that began it was cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run ``work`` in a task of its own, with an empty context."""
        # Context variables of the request (its query counter, its id) must not leak into the task.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run ``work`` and wait for it. A cancelled caller stops waiting at once; the work goes on.

        Unlike ``finish``, which keeps the caller waiting: a client that has gone away may cancel
        again and again (anyio does so at every turn of the event loop).
        """
        return await asyncio.shield(self.start(work))

    async def drain(self) -> None:
        """Wait until nothing runs any more."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


async def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Run ``work`` to its end, however often the caller is cancelled; then raise CancelledError."""
    task = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cut = error
    if cut is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # retrieved, or asyncio logs it
    raise cut
