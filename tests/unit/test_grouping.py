"""What arrives while others are on their way goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from iredapi.concurrency.batcher import LANES, MOST, Group


class _Journeys:
    """Each waits until it is let go; notes who went together."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()
        self.group: Group[int, int] = Group(self._run)

    async def _run(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.seen.append(list(items))
        await self.go.wait()
        return [ValueError(item) if item < 0 else item * 10 for item in items]


async def test_who_comes_alone_goes_at_once_and_others_together() -> None:
    journeys = _Journeys()
    tasks = [asyncio.create_task(journeys.group.do(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(journeys.group.do(number)) for number in range(2, MOST + 4)]
    await asyncio.sleep(0)
    assert journeys.seen == [[1]]
    journeys.go.set()
    assert await asyncio.gather(*tasks) == [number * 10 for number in range(1, MOST + 4)]
    assert journeys.seen == [[1], list(range(2, MOST + 2)), [MOST + 2, MOST + 3]]


async def test_each_has_an_outcome_of_its_own() -> None:
    journeys = _Journeys()
    journeys.go.set()
    found = await asyncio.gather(
        *(journeys.group.do(number) for number in (1, -2, 3)), return_exceptions=True
    )
    assert found[0] == 10
    assert isinstance(found[1], ValueError)
    assert found[2] == 30


async def test_nobody_waits_for_a_slow_journey() -> None:
    journeys = _Journeys()
    tasks = []
    for number in range(LANES + 2):
        tasks.append(asyncio.create_task(journeys.group.do(number)))
        await asyncio.sleep(0.03)
    assert journeys.seen == [[number] for number in range(LANES)]
    journeys.go.set()
    await asyncio.gather(*tasks)


async def test_who_went_away_is_left_out_and_those_on_their_way_arrive() -> None:
    journeys = _Journeys()
    first = asyncio.create_task(journeys.group.do(1))
    await asyncio.sleep(0.001)
    second, third = (asyncio.create_task(journeys.group.do(number)) for number in (2, 3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    journeys.go.set()
    assert await third == 30
    assert journeys.seen == [[1], [3]]
    await journeys.group.close()


async def test_who_comes_while_the_last_one_leaves_is_taken_along() -> None:
    """As soon as a journey has ended, and before anybody has noticed."""
    journeys = _Journeys()
    journeys.go.set()

    async def again(number: int) -> int:
        found = await journeys.group.do(number)
        return found if number > 200 else await again(number + 1)

    async with asyncio.timeout(5):
        await asyncio.gather(*(again(number) for number in range(100, 110)))


async def test_what_a_journey_raises_is_for_all() -> None:
    async def fail(items: Sequence[int]) -> Sequence[int | Exception]:
        raise OSError(len(items))

    group: Group[int, int] = Group(fail)
    found = await asyncio.gather(group.do(1), group.do(2), return_exceptions=True)
    assert all(isinstance(item, OSError) for item in found)
    with pytest.raises(OSError, match="1"):
        await group.do(3)


async def test_the_last_one_to_come_does_not_wait_for_a_slow_journey_either() -> None:
    journeys = _Journeys()
    tasks = [asyncio.create_task(journeys.group.do(1))]
    await asyncio.sleep(0.005)
    tasks.append(asyncio.create_task(journeys.group.do(2)))
    await asyncio.sleep(0.1)
    assert journeys.seen == [[1], [2]]
    journeys.go.set()
    assert await asyncio.gather(*tasks) == [10, 20]


async def test_nobody_waits_for_ever() -> None:
    journeys = _Journeys()
    group: Group[int, int] = Group(journeys._run, patience=0.05)
    held = [asyncio.create_task(group.do(number)) for number in range(LANES)]
    for _ in range(LANES + 1):
        await asyncio.sleep(0.03)
        held.append(asyncio.create_task(group.do(100)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await group.do(200)
    journeys.go.set()
    await asyncio.gather(*held, return_exceptions=True)


async def test_who_was_on_a_journey_that_was_cut_is_told_so() -> None:
    journeys = _Journeys()
    first = asyncio.create_task(journeys.group.do(1))
    await asyncio.sleep(0.001)
    second = asyncio.create_task(journeys.group.do(2))
    await asyncio.sleep(0)
    for task in journeys.group._tasks:
        task.cancel()
    with pytest.raises(TimeoutError):
        await first
    journeys.go.set()
    async with asyncio.timeout(2):
        assert await second == 20


async def test_what_comes_later_holds_no_journey_up() -> None:
    later: list[asyncio.Future[int]] = []

    async def run(items: Sequence[int]) -> Sequence[asyncio.Future[int]]:
        later.extend(asyncio.get_running_loop().create_future() for _ in items)
        return later[-len(items) :]

    group: Group[int, int] = Group(run, lanes=1)
    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(group.do(number)))
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


async def test_as_many_journeys_as_lanes() -> None:
    under_way = 0

    async def run(items: Sequence[int]) -> Sequence[int]:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(0.05)
        under_way -= 1
        return items

    group: Group[int, int] = Group(run, lanes=1)
    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(group.do(number)))
        await asyncio.sleep(0.03)
    assert await asyncio.gather(*tasks) == list(range(5))


class _ToldLater:
    """Journeys that return at once, and are told later."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.told: list[asyncio.Future[int]] = []
        self.group: Group[int, int] = Group(self._run, wait_for_previous=True)

    async def _run(self, items: Sequence[int]) -> Sequence[asyncio.Future[int]]:
        self.seen.append(list(items))
        self.told.append(asyncio.get_running_loop().create_future())
        return [self.told[-1]] * len(items)


async def test_in_step_the_next_journey_waits_for_what_is_told() -> None:
    journeys = _ToldLater()
    tasks = [asyncio.create_task(journeys.group.do(1))]
    await asyncio.sleep(0.002)
    tasks += [asyncio.create_task(journeys.group.do(number)) for number in (2, 3)]
    await asyncio.sleep(0.002)
    assert journeys.seen == [[1]]
    journeys.told[0].set_result(7)
    await asyncio.sleep(0.002)
    assert journeys.seen == [[1], [2, 3]]
    journeys.told[1].set_result(8)
    assert await asyncio.gather(*tasks) == [7, 8, 8]
    await journeys.group.close()


async def test_in_step_a_full_journey_does_not_wait() -> None:
    journeys = _ToldLater()
    tasks = [asyncio.create_task(journeys.group.do(1))]
    await asyncio.sleep(0.002)
    tasks += [asyncio.create_task(journeys.group.do(number)) for number in range(2, MOST + 2)]
    await asyncio.sleep(0.002)
    assert journeys.seen == [[1], list(range(2, MOST + 2))]
    for told in journeys.told:
        told.set_result(0)
    await asyncio.gather(*tasks)


async def test_in_step_nobody_waits_long_for_what_is_not_told() -> None:
    journeys = _ToldLater()
    tasks = [asyncio.create_task(journeys.group.do(1))]
    await asyncio.sleep(0.002)
    tasks.append(asyncio.create_task(journeys.group.do(2)))
    await asyncio.sleep(0.2)
    assert journeys.seen == [[1], [2]]
    journeys.told[1].set_result(2)
    assert await tasks[1] == 2
    journeys.told[0].set_result(1)
    assert await tasks[0] == 1
