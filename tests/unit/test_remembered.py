"""What may be believed for a second: what was forgotten meanwhile is not."""

from __future__ import annotations

import time

import pytest

from iredapi import remembered
from iredapi.remembered import Remembered


def test_a_value_is_believed_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    values = Remembered[str]()
    assert values.get("key") is None
    values.put("key", "value", values.now)
    assert values.get("key") == "value"
    clock[0] += remembered.SECONDS - 0.01
    assert values.get("key") == "value"
    clock[0] += 0.02
    assert values.get("key") is None


def test_what_was_read_before_everything_was_forgotten_is_not_kept() -> None:
    values = Remembered[str]()
    before = values.now
    values.forget()
    values.put("key", "value", before)
    assert values.get("key") is None
    values.put("key", "value", values.now)
    assert values.get("key") == "value"


def test_a_choice_forgets_what_it_chooses_and_nothing_else() -> None:
    values = Remembered[str]()
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
    values = Remembered[str]()
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
    values = Remembered[int]()
    for number in range(25_000):
        values.put(str(number), number, values.now)
    assert len(values._values) <= 10_000
    assert values.get("24999") == 24_999
