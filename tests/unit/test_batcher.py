"""Items that arrive while a batch runs form the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from iredapi.concurrency.batcher import MAX_BATCH, MAX_CONCURRENT_BATCHES, Batcher


class _Recorder:
    """Runs batches, which wait until ``go`` is set, and records their items."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()
        self.batcher: Batcher[int, int] = Batcher(self._run)

    async def _run(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.seen.append(list(items))
        await self.go.wait()
        return [ValueError(item) if item < 0 else item * 10 for item in items]


async def test_a_single_item_starts_at_once_and_later_ones_form_batches() -> None:
    batches = _Recorder()
    tasks = [asyncio.create_task(batches.batcher.submit(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [
        asyncio.create_task(batches.batcher.submit(number)) for number in range(2, MAX_BATCH + 4)
    ]
    await asyncio.sleep(0)
    assert batches.seen == [[1]]
    batches.go.set()
    assert await asyncio.gather(*tasks) == [number * 10 for number in range(1, MAX_BATCH + 4)]
    assert batches.seen == [[1], list(range(2, MAX_BATCH + 2)), [MAX_BATCH + 2, MAX_BATCH + 3]]


async def test_each_item_has_its_own_result() -> None:
    batches = _Recorder()
    batches.go.set()
    found = await asyncio.gather(
        *(batches.batcher.submit(number) for number in (1, -2, 3)), return_exceptions=True
    )
    assert found[0] == 10
    assert isinstance(found[1], ValueError)
    assert found[2] == 30


async def test_items_do_not_wait_for_a_slow_batch() -> None:
    batches = _Recorder()
    tasks = []
    for number in range(MAX_CONCURRENT_BATCHES + 2):
        tasks.append(asyncio.create_task(batches.batcher.submit(number)))
        await asyncio.sleep(0.03)
    assert batches.seen == [[number] for number in range(MAX_CONCURRENT_BATCHES)]
    batches.go.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_item_is_dropped_and_the_others_are_processed() -> None:
    batches = _Recorder()
    first = asyncio.create_task(batches.batcher.submit(1))
    await asyncio.sleep(0.001)
    second, third = (asyncio.create_task(batches.batcher.submit(number)) for number in (2, 3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    batches.go.set()
    assert await third == 30
    assert batches.seen == [[1], [3]]
    await batches.batcher.close()


async def test_an_item_that_comes_while_a_batch_ends_is_processed() -> None:
    """As soon as a batch has ended, and before its callers have run."""
    batches = _Recorder()
    batches.go.set()

    async def again(number: int) -> int:
        found = await batches.batcher.submit(number)
        return found if number > 200 else await again(number + 1)

    async with asyncio.timeout(5):
        await asyncio.gather(*(again(number) for number in range(100, 110)))


async def test_an_exception_of_the_batch_goes_to_all_items() -> None:
    async def fail(items: Sequence[int]) -> Sequence[int | Exception]:
        raise OSError(len(items))

    batcher: Batcher[int, int] = Batcher(fail)
    found = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert all(isinstance(item, OSError) for item in found)
    with pytest.raises(OSError, match="1"):
        await batcher.submit(3)


async def test_the_last_item_does_not_wait_for_a_slow_batch_either() -> None:
    batches = _Recorder()
    tasks = [asyncio.create_task(batches.batcher.submit(1))]
    await asyncio.sleep(0.005)
    tasks.append(asyncio.create_task(batches.batcher.submit(2)))
    await asyncio.sleep(0.1)
    assert batches.seen == [[1], [2]]
    batches.go.set()
    assert await asyncio.gather(*tasks) == [10, 20]


async def test_items_wait_for_queue_timeout_at_most() -> None:
    batches = _Recorder()
    batcher: Batcher[int, int] = Batcher(batches._run, queue_timeout=0.05)
    held = [asyncio.create_task(batcher.submit(number)) for number in range(MAX_CONCURRENT_BATCHES)]
    for _ in range(MAX_CONCURRENT_BATCHES + 1):
        await asyncio.sleep(0.03)
        held.append(asyncio.create_task(batcher.submit(100)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await batcher.submit(200)
    batches.go.set()
    await asyncio.gather(*held, return_exceptions=True)


async def test_items_of_a_cancelled_batch_get_a_timeout_error() -> None:
    batches = _Recorder()
    first = asyncio.create_task(batches.batcher.submit(1))
    await asyncio.sleep(0.001)
    second = asyncio.create_task(batches.batcher.submit(2))
    await asyncio.sleep(0)
    for task in batches.batcher._tasks:
        task.cancel()
    with pytest.raises(TimeoutError):
        await first
    batches.go.set()
    async with asyncio.timeout(2):
        assert await second == 20


async def test_futures_do_not_delay_the_next_batch() -> None:
    later: list[asyncio.Future[int]] = []

    async def run(items: Sequence[int]) -> Sequence[asyncio.Future[int]]:
        later.extend(asyncio.get_running_loop().create_future() for _ in items)
        return later[-len(items) :]

    batcher: Batcher[int, int] = Batcher(run, max_concurrent_batches=1)
    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(batcher.submit(number)))
        await asyncio.sleep(0.01)
    assert len(later) == 4
    assert not any(task.done() for task in tasks)
    later[0].set_result(7)
    later[1].set_exception(ValueError())
    later[2].cancel()
    tasks[3].cancel()
    later[3].set_result(8)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert found[0] == 7
    assert [type(one) for one in found[1:]] == [ValueError, TimeoutError, asyncio.CancelledError]


async def test_no_more_batches_than_allowed_run_at_once() -> None:
    under_way = 0

    async def run(items: Sequence[int]) -> Sequence[int]:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(0.05)
        under_way -= 1
        return items

    batcher: Batcher[int, int] = Batcher(run, max_concurrent_batches=1)
    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(batcher.submit(number)))
        await asyncio.sleep(0.03)
    assert await asyncio.gather(*tasks) == list(range(5))


class _WithFutures:
    """Batches that return at once, with a future for their items."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.futures: list[asyncio.Future[int]] = []
        self.batcher: Batcher[int, int] = Batcher(self._run, wait_for_previous=True)

    async def _run(self, items: Sequence[int]) -> Sequence[asyncio.Future[int]]:
        self.seen.append(list(items))
        self.futures.append(asyncio.get_running_loop().create_future())
        return [self.futures[-1]] * len(items)


async def test_wait_for_previous_waits_for_its_future() -> None:
    batches = _WithFutures()
    tasks = [asyncio.create_task(batches.batcher.submit(1))]
    await asyncio.sleep(0.002)
    tasks += [asyncio.create_task(batches.batcher.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0.002)
    assert batches.seen == [[1]]
    batches.futures[0].set_result(7)
    await asyncio.sleep(0.002)
    assert batches.seen == [[1], [2, 3]]
    batches.futures[1].set_result(8)
    assert await asyncio.gather(*tasks) == [7, 8, 8]
    await batches.batcher.close()


async def test_wait_for_previous_a_full_batch_does_not_wait() -> None:
    batches = _WithFutures()
    tasks = [asyncio.create_task(batches.batcher.submit(1))]
    await asyncio.sleep(0.002)
    tasks += [
        asyncio.create_task(batches.batcher.submit(number)) for number in range(2, MAX_BATCH + 2)
    ]
    await asyncio.sleep(0.002)
    assert batches.seen == [[1], list(range(2, MAX_BATCH + 2))]
    for future in batches.futures:
        future.set_result(0)
    await asyncio.gather(*tasks)


async def test_wait_for_previous_waits_only_for_a_moment() -> None:
    batches = _WithFutures()
    tasks = [asyncio.create_task(batches.batcher.submit(1))]
    await asyncio.sleep(0.002)
    tasks.append(asyncio.create_task(batches.batcher.submit(2)))
    await asyncio.sleep(0.2)
    assert batches.seen == [[1], [2]]
    batches.futures[1].set_result(2)
    assert await tasks[1] == 2
    batches.futures[0].set_result(1)
    assert await tasks[0] == 1
