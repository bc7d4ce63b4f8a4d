"""Places that are handed over, and work that is not cut."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from iredapi.concurrency.shield import finish
from iredapi.database.pool import FairSemaphore


async def test_a_place_that_comes_in_the_last_moment_is_not_lost() -> None:
    turns = FairSemaphore(1, 0.05)
    await turns.take()
    waiting = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    await asyncio.sleep(0.04)
    time.sleep(0.05)  # noqa: ASYNC251 (the turn of the loop is late: both come in the next)
    turns.give()
    await asyncio.gather(waiting, return_exceptions=True)
    if waiting.exception() is None:
        turns.give()
    assert turns.left == 1


async def test_who_is_called_and_cannot_come_hands_the_place_on() -> None:
    turns = FairSemaphore(1, 5)
    await turns.take()
    first, second = (asyncio.create_task(turns.take()) for _ in range(2))
    await asyncio.sleep(0)
    turns.give()
    first.cancel()
    async with asyncio.timeout(1):
        await second
    assert first.cancelled()
    assert turns.left == 0
    turns.give()
    assert turns.left == 1


async def test_nobody_passes_those_who_wait() -> None:
    turns, order = FairSemaphore(1, 5), list[str]()

    async def use(name: str) -> None:
        await turns.take()
        order.append(name)
        await asyncio.sleep(0)
        turns.give()

    await turns.take()
    waiting = [asyncio.create_task(use(name)) for name in "ab"]
    await asyncio.sleep(0)
    turns.give()
    waiting.append(asyncio.create_task(use("c")))
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_who_waits_too_long_is_told_so() -> None:
    turns = FairSemaphore(1, 0.02)
    await turns.take()
    with pytest.raises(PoolTimeout):
        await turns.take()
    turns.give()
    await turns.take()


async def test_work_is_finished_however_often_its_request_is_cancelled() -> None:
    done: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append(1)

    request = asyncio.create_task(finish(work()))
    for _ in range(3):
        await asyncio.sleep(0.005)
        request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert done == [1]
