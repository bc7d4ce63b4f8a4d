"""What may be believed for a second: what was forgotten meanwhile is not."""

from __future__ import annotations

import asyncio
import time

import pytest

from iredapi.concurrency import ttl_cache
from iredapi.concurrency.ttl_cache import TTLCache


def test_a_value_is_believed_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values = TTLCache[str]()
    assert values.get("key") is None
    values.put("key", "value", values.now)
    assert values.get("key") == "value"
    clock[0] += ttl_cache.SECONDS - 0.01
    assert values.get("key") == "value"
    clock[0] += 0.02
    assert values.get("key") is None


def test_what_was_read_before_everything_was_forgotten_is_not_kept() -> None:
    values = TTLCache[str]()
    before = values.now
    values.forget()
    values.put("key", "value", before)
    assert values.get("key") is None
    values.put("key", "value", values.now)
    assert values.get("key") == "value"


def test_a_choice_forgets_what_it_chooses_and_nothing_else() -> None:
    values = TTLCache[str]()
    values.put("one", "gone", values.now)
    values.put("two", "kept", values.now)
    before = values.now
    values.forget(lambda _, value: value == "gone")
    assert (values.get("one"), values.get("two")) == (None, "kept")
    # Both were read before the choice was made.
    values.put("one", "gone", before)
    values.put("three", "kept", before)
    assert (values.get("one"), values.get("three")) == (None, "kept")
    values.put("one", "gone", values.now)
    assert values.get("one") == "gone"


@pytest.mark.parametrize("first_everything", [False, True])
def test_choices_that_are_no_longer_known_forget_everything(*, first_everything: bool) -> None:
    values = TTLCache[str]()
    before = values.now
    if first_everything:
        values.forget()
        values.forget(lambda *_: False)
    else:
        for _ in range(1000):
            values.forget(lambda *_: False)
    values.put("key", "value", before)
    assert values.get("key") is None


def test_it_does_not_grow_without_end() -> None:
    values = TTLCache[int]()
    for number in range(25_000):
        values.put(str(number), number, values.now)
    assert len(values._values) <= 10_000
    assert values.get("24999") == 24_999


class _Source:
    """Something that takes a moment to find out."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: str | None = "value"
        self.error: Exception | None = None
        self.go = asyncio.Event()

    async def find(self) -> str | None:
        self.asked += 1
        answer = self.answer
        await self.go.wait()
        if self.error:
            raise self.error
        return answer


async def test_who_asks_meanwhile_waits_for_the_same_answer() -> None:
    values, source = TTLCache[str](), _Source()
    tasks = [asyncio.create_task(values.of("key", source.find)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    source.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == ["value"] * 4
    assert await values.of("key", source.find) == "value"
    assert source.asked == 1


async def test_a_failure_is_everybodys_and_is_not_remembered() -> None:
    values, source = TTLCache[str](), _Source()
    source.error = ValueError()
    source.go.set()
    found = await asyncio.gather(
        *(values.of("key", source.find) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in found] == [ValueError] * 3
    source.error = None
    assert await values.of("key", source.find) == "value"


async def test_an_old_value_is_asked_for_before_it_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values, source = TTLCache[str](), _Source()
    values.put("key", "old", values.now)
    clock[0] += ttl_cache.SECONDS * 0.4
    assert await values.of("key", source.find) == "old"
    await asyncio.sleep(0)
    assert source.asked == 0
    clock[0] += ttl_cache.SECONDS * 0.2
    assert [await values.of("key", source.find) for _ in range(3)] == ["old"] * 3
    source.go.set()
    await values.settle()
    assert source.asked == 1
    assert values.get("key") == "value"
    # It is asked for by those who come later, and is not there any more.
    source.answer = None
    clock[0] += ttl_cache.SECONDS * 0.6
    assert await values.of("key", source.find) == "value"
    await values.settle()
    assert values.get("key") is None
    # Nobody is told of a failure while there is a value.
    values.put("key", "kept", values.now)
    clock[0] += ttl_cache.SECONDS * 0.6
    source.error = ValueError()
    assert await values.of("key", source.find) == "kept"
    await values.settle()
    assert await values.of("key", source.find) == "kept"
    await values.settle()


async def test_nobody_waits_for_an_answer_that_was_asked_for_before_something_was_forgotten() -> (
    None
):
    values, source = TTLCache[str](), _Source()
    source.answer = "before"
    first = asyncio.create_task(values.of("key", source.find))
    await asyncio.sleep(0.01)
    values.forget(lambda key, _: key == "key")
    source.answer = "after"
    second = asyncio.create_task(values.of("key", source.find))
    await asyncio.sleep(0.01)
    source.go.set()
    assert (await first, await second) == ("before", "after")
    assert values.get("key") == "after"


async def test_nobody_waits_for_an_answer_that_will_be_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session that ended elsewhere lives a second on, however long it takes to find out."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values, slow, fast = TTLCache[str](), _Source(), _Source()
    slow.answer, fast.answer = "old", "new"
    first = asyncio.create_task(values.of("key", slow.find))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock[0] += ttl_cache.SECONDS * 0.9
    second = asyncio.create_task(values.of("key", fast.find))
    await asyncio.sleep(0)
    assert fast.asked == 0
    clock[0] += ttl_cache.SECONDS * 0.2
    third = asyncio.create_task(values.of("key", fast.find))
    fast.go.set()
    assert await third == "new"
    slow.go.set()
    assert (await first, await second) == ("old", "old")
    assert values.get("key") == "new"
    # What was asked for a second ago is not believed any more.
    slow.go.clear()
    values.forget()
    fourth = asyncio.create_task(values.of("key", slow.find))
    await asyncio.sleep(0)
    clock[0] += ttl_cache.SECONDS * 1.1
    slow.go.set()
    assert await fourth == "old"
    assert values.get("key") is None
