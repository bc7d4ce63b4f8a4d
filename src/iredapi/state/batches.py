"""Batches of work on the state database: what is asked for at the same moment shares a commit."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from iredapi.concurrency.batcher import Batcher
from iredapi.observability.query_counter import METER
from iredapi.state.connections import CALL_TIMEOUT, StateUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """A ``Batcher`` whose items count as one round trip of the request that waits for them."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        kind: str = "logins",
    ) -> None:
        self._batcher: Batcher[Item, Result] = Batcher(run, queue_timeout=CALL_TIMEOUT, kind=kind)

    async def submit(self, item: Item) -> Result:
        """Return the result of an item. Raises its exception, or StateUnavailable."""
        begun = time.perf_counter()
        try:
            return await self._batcher.submit(item)
        except TimeoutError:
            raise StateUnavailable("The state database does not answer in time.") from None
        finally:
            meter = METER.get()
            if meter is not None:
                meter.count(time.perf_counter() - begun)

    async def close(self) -> None:
        """Wait for running batches."""
        await self._batcher.close()
