"""Micro-batching: items that arrive while a batch runs form the next batch.

An item that finds no batch running starts one at once, so nothing waits when there is no load.
Under load up to ``MAX_BATCH`` items share the fixed cost of a batch (round trips, a commit).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final, Generic, TypeVar

from iredapi.observability import signals, spans

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH: Final = 8
"""Maximum number of items in a batch."""
MAX_CONCURRENT_BATCHES: Final = 4
"""Batches at the same time: as a rule one; more when the running ones are slow."""
SLOW: Final = 0.02
"""Seconds after which a running batch counts as slow, so that another one may start beside it."""


class Batcher(Generic[Item, Result]):
    """Collects items of one kind and passes them to ``run``, several at a time.

    ``run`` returns for each item a result, an exception, or a future of a result: with a future the
    batch counts as finished, and only the item waits on. An exception that ``run`` raises goes to
    all items of the batch. An item that waited ``queue_timeout`` seconds without being in a batch
    gets TimeoutError. With ``wait_for_previous`` a batch that is not full starts only when the
    futures of the previous one are done (for ``SLOW`` seconds at most): this halves the number of
    batches under load.
    """

    def __init__(
        self,
        run: Callable[
            [Sequence[Item]], Awaitable[Sequence[Result | Exception | asyncio.Future[Result]]]
        ],
        *,
        queue_timeout: float = 60.0,
        max_concurrent_batches: int = MAX_CONCURRENT_BATCHES,
        wait_for_previous: bool = False,
        kind: str = "",
    ) -> None:
        """``kind`` is the name of the work in metrics."""
        self._run = run
        self._kind = kind
        self._queue_timeout = queue_timeout
        self._max_concurrent_batches = max_concurrent_batches
        self._wait_for_previous = wait_for_previous
        self._waiting: list[tuple[Item, asyncio.Future[Result], float, spans.Mark | None]] = []
        self._workers = 0
        self._full: list[asyncio.Future[None]] = []
        """Futures that are resolved as soon as enough items wait for a full batch."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_start = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, item: Item) -> Result:
        """Return the result of an item. Raises its exception, or TimeoutError.

        An item whose caller is cancelled while it waits is dropped; one in a running batch is
        still processed.
        """
        if spans.tracer is None:
            return await self._enqueue(item, None)
        with spans.tracer.span(f"wait for {self._kind}"):
            return await self._enqueue(item, spans.tracer.here())

    def _enqueue(self, item: Item, mark: spans.Mark | None) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        now = time.perf_counter()
        self._waiting.append((item, result, now, mark))
        if self._full and len(self._waiting) >= MAX_BATCH:
            for full in self._full:
                if not full.done():
                    full.set_result(None)
        if self._may_start(now):
            self._start_worker()
        elif self._timer is None:
            self._timer = loop.call_later(SLOW, self._check_queue)
        return result

    async def close(self) -> None:
        """Wait until no batch runs any more."""
        while self._tasks:
            # Not gather: when this wait is cancelled, the batches must not be.
            await asyncio.wait(set(self._tasks))

    def _may_start(self, now: float) -> bool:
        return not self._workers or (
            self._workers < self._max_concurrent_batches and now - self._last_start > SLOW
        )

    def _start_worker(self) -> None:
        self._workers += 1
        # Empty context: context variables of the submitting request must not leak into the batch.
        task = asyncio.get_running_loop().create_task(self._work(), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check_queue(self) -> None:
        """Start a worker for waiting items and expire old ones, even if no item arrives."""
        self._timer = None
        now = time.perf_counter()
        while self._waiting and now - self._waiting[0][2] > self._queue_timeout:
            _, result, _, _ = self._waiting.pop(0)
            if not result.done():
                result.set_exception(TimeoutError())
        if not self._waiting:
            return
        if self._may_start(now):
            self._start_worker()
        self._timer = asyncio.get_running_loop().call_later(SLOW, self._check_queue)

    async def _work(self) -> None:
        try:
            while self._waiting:
                since = self._waiting[0][2]
                taken = [entry for entry in self._waiting[:MAX_BATCH] if not entry[1].done()]
                del self._waiting[:MAX_BATCH]
                if taken:
                    signals.batch_ran(self._kind, len(taken), time.perf_counter() - since)
                    batch = [(item, to) for item, to, _, _ in taken]
                    if spans.tracer is None:
                        pending = await self._process(batch)
                    else:
                        with spans.tracer.batch(self._kind, [mark for *_, mark in taken]):
                            pending = await self._process(batch)
                    if (
                        self._wait_for_previous
                        and pending is not None
                        and len(self._waiting) < MAX_BATCH
                    ):
                        await self._until_done(pending)
        finally:
            # Decrement here, not in a done callback; otherwise an item that is submitted in between
            # is never picked up.
            self._workers -= 1

    async def _until_done(self, pending: asyncio.Future[Result]) -> None:
        """Wait for the previous batch's future, until ``SLOW`` has passed or a batch is full."""
        full = asyncio.get_running_loop().create_future()
        self._full.append(full)
        try:
            await asyncio.wait({pending, full}, timeout=SLOW, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._full.remove(full)

    async def _process(
        self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]
    ) -> asyncio.Future[Result] | None:
        """Run a batch and pass the results on; return a future that is not done yet, if any."""
        self._last_start = time.perf_counter()
        try:
            found = await self._run([item for item, _ in batch])
            if len(found) != len(batch):
                raise AssertionError("a result for each item is expected")
        except Exception as error:
            found = [error] * len(batch)
        except BaseException:
            for _, result in batch:
                if not result.done():
                    result.set_exception(TimeoutError())
            raise
        pending: asyncio.Future[Result] | None = None
        for (_, result), outcome in zip(batch, found, strict=True):
            if isinstance(outcome, asyncio.Future):
                pending = outcome
                outcome.add_done_callback(partial(_pass_on, result))
            elif result.done():
                continue
            elif isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)
        return pending


def _pass_on(result: asyncio.Future[Result], finished: asyncio.Future[Result]) -> None:
    if result.done():
        return
    if finished.cancelled():
        result.set_exception(TimeoutError())
    elif error := finished.exception():
        result.set_exception(error)
    else:
        result.set_result(finished.result())
