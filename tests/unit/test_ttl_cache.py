"""Values expire, and a value that was read before an invalidation is not stored after it."""

from __future__ import annotations

import asyncio
import time

import pytest

from iredapi.concurrency import ttl_cache
from iredapi.concurrency.ttl_cache import TTLCache


def test_a_value_expires_after_its_time_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values = TTLCache[str]()
    assert values.get("key") is None
    values.put("key", "value", values.generation)
    assert values.get("key") == "value"
    clock[0] += ttl_cache.SECONDS - 0.01
    assert values.get("key") == "value"
    clock[0] += 0.02
    assert values.get("key") is None


def test_a_value_read_before_an_invalidation_is_not_stored() -> None:
    values = TTLCache[str]()
    before = values.generation
    values.invalidate()
    values.put("key", "value", before)
    assert values.get("key") is None
    values.put("key", "value", values.generation)
    assert values.get("key") == "value"


def test_a_selective_invalidation_removes_only_what_it_chooses() -> None:
    values = TTLCache[str]()
    values.put("one", "gone", values.generation)
    values.put("two", "kept", values.generation)
    before = values.generation
    values.invalidate(lambda _, value: value == "gone")
    assert (values.get("one"), values.get("two")) == (None, "kept")
    # Both were read before the invalidation.
    values.put("one", "gone", before)
    values.put("three", "kept", before)
    assert (values.get("one"), values.get("three")) == (None, "kept")
    values.put("one", "gone", values.generation)
    assert values.get("one") == "gone"


@pytest.mark.parametrize("first_everything", [False, True])
def test_invalidations_that_are_no_longer_recorded_count_for_all(*, first_everything: bool) -> None:
    values = TTLCache[str]()
    before = values.generation
    if first_everything:
        values.invalidate()
        values.invalidate(lambda *_: False)
    else:
        for _ in range(1000):
            values.invalidate(lambda *_: False)
    values.put("key", "value", before)
    assert values.get("key") is None


def test_its_size_is_bounded() -> None:
    values = TTLCache[int]()
    for number in range(25_000):
        values.put(str(number), number, values.generation)
    assert len(values._values) <= 10_000
    assert values.get("24999") == 24_999


class _Source:
    """A load that takes a moment."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: str | None = "value"
        self.error: Exception | None = None
        self.go = asyncio.Event()

    async def load(self) -> str | None:
        self.asked += 1
        answer = self.answer
        await self.go.wait()
        if self.error:
            raise self.error
        return answer


async def test_concurrent_callers_share_one_load() -> None:
    values, source = TTLCache[str](), _Source()
    tasks = [asyncio.create_task(values.get_or_load("key", source.load)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    source.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == ["value"] * 4
    assert await values.get_or_load("key", source.load) == "value"
    assert source.asked == 1


async def test_a_failed_load_fails_all_callers_and_is_not_cached() -> None:
    values, source = TTLCache[str](), _Source()
    source.error = ValueError()
    source.go.set()
    found = await asyncio.gather(
        *(values.get_or_load("key", source.load) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in found] == [ValueError] * 3
    source.error = None
    assert await values.get_or_load("key", source.load) == "value"


async def test_a_value_is_loaded_again_before_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values, source = TTLCache[str](), _Source()
    values.put("key", "old", values.generation)
    clock[0] += ttl_cache.SECONDS * 0.4
    assert await values.get_or_load("key", source.load) == "old"
    await asyncio.sleep(0)
    assert source.asked == 0
    clock[0] += ttl_cache.SECONDS * 0.2
    assert [await values.get_or_load("key", source.load) for _ in range(3)] == ["old"] * 3
    source.go.set()
    await values.drain()
    assert source.asked == 1
    assert values.get("key") == "value"
    # The next load finds that it does not exist any more.
    source.answer = None
    clock[0] += ttl_cache.SECONDS * 0.6
    assert await values.get_or_load("key", source.load) == "value"
    await values.drain()
    assert values.get("key") is None
    # A failed load reaches nobody while the value is valid.
    values.put("key", "kept", values.generation)
    clock[0] += ttl_cache.SECONDS * 0.6
    source.error = ValueError()
    assert await values.get_or_load("key", source.load) == "kept"
    await values.drain()
    assert await values.get_or_load("key", source.load) == "kept"
    await values.drain()


async def test_an_invalidation_makes_later_callers_load_again() -> None:
    values, source = TTLCache[str](), _Source()
    source.answer = "before"
    first = asyncio.create_task(values.get_or_load("key", source.load))
    await asyncio.sleep(0.01)
    values.invalidate(lambda key, _: key == "key")
    source.answer = "after"
    second = asyncio.create_task(values.get_or_load("key", source.load))
    await asyncio.sleep(0.01)
    source.go.set()
    assert (await first, await second) == ("before", "after")
    assert values.get("key") == "after"


async def test_a_load_whose_value_will_be_expired_is_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session that ended elsewhere lives a second on, however long it takes to find out."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values, slow, fast = TTLCache[str](), _Source(), _Source()
    slow.answer, fast.answer = "old", "new"
    first = asyncio.create_task(values.get_or_load("key", slow.load))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock[0] += ttl_cache.SECONDS * 0.9
    second = asyncio.create_task(values.get_or_load("key", fast.load))
    await asyncio.sleep(0)
    assert fast.asked == 0
    clock[0] += ttl_cache.SECONDS * 0.2
    third = asyncio.create_task(values.get_or_load("key", fast.load))
    fast.go.set()
    assert await third == "new"
    slow.go.set()
    assert (await first, await second) == ("old", "old")
    assert values.get("key") == "new"
    # The value of a load that began a second ago is expired.
    slow.go.clear()
    values.invalidate()
    fourth = asyncio.create_task(values.get_or_load("key", slow.load))
    await asyncio.sleep(0)
    clock[0] += ttl_cache.SECONDS * 1.1
    slow.go.set()
    assert await fourth == "old"
    assert values.get("key") is None
