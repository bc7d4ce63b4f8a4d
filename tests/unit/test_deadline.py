"""Time limits that share one timer: they end as those of asyncio do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iredapi.concurrency.deadline import Deadline, TimeLimit
from iredapi.errors import ServerDown

LIMITS: list[Callable[[float], Any]] = [asyncio.timeout, TimeLimit]


async def _outcome(limit: Callable[[float], Any], seconds: float, work: float) -> str:
    try:
        async with limit(seconds):
            await asyncio.sleep(work)
    except TimeoutError:
        return "late"
    return "done"


@pytest.mark.parametrize("limit", LIMITS)
async def test_limits_of_any_order_end_on_time(limit: Callable[[float], Any]) -> None:
    begun = asyncio.get_running_loop().time()
    times = [(0.08, 9), (0.02, 9), (9, 0.01), (0.04, 9), (9, 0)]
    found = await asyncio.gather(*(_outcome(limit, *one) for one in times))
    assert found == ["late", "late", "done", "late", "done"]
    assert 0.07 < asyncio.get_running_loop().time() - begun < 5


@pytest.mark.parametrize("limit", LIMITS)
async def test_the_inner_or_the_outer_limit_ends_first(limit: Callable[[float], Any]) -> None:
    with pytest.raises(TimeoutError):
        async with limit(0.02):
            assert await _outcome(limit, 9, 9) == "never"
    async with limit(9):
        assert await _outcome(limit, 0.02, 9) == "late"
        # The task is not cancelled any more.
        await asyncio.sleep(0)


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_cancelled_task_stays_cancelled(limit: Callable[[float], Any]) -> None:
    async def work() -> None:
        async with limit(9):
            await asyncio.sleep(9)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_ends_as_a_server_that_is_down() -> None:
    with pytest.raises(ServerDown):
        async with Deadline(0.02):
            await asyncio.sleep(9)
    with pytest.raises(ServerDown):
        async with Deadline(9), TimeLimit(0.02):
            await asyncio.sleep(9)
    with pytest.raises(KeyError):
        async with Deadline(9):
            raise KeyError
