"""A recorded corpus of published calls is answered with the same bytes as in November 2026."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.clients import serving
from tests.published.calls import Call, calls
from tests.published.record import ADDED, play, without
from tests.servers.store import Store

RECORDED = Path(__file__).parents[1] / "published" / "answers.jsonl"
"""Recorded from commit 4809920."""


def recorded() -> list[Any]:
    return [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]


@pytest.mark.stores("sqlite")
async def test_published_calls_are_answered_as_before(store: Store) -> None:
    """``docs/compatibility.md`` says what is frozen; the named rules say what is not compared."""
    lines = recorded()
    every = [Call(who, method, path, form, kind) for who, method, path, kind, form, *_ in lines]
    async with serving(store) as service:
        answers = await play(service, every)
    different = [
        (call, (status, body), (line[5], line[6]))
        for (call, status, body), line in zip(answers, lines, strict=True)
        if (status, without(ADDED, body)) != (line[5], without(ADDED, line[6]))
    ]
    assert different == []


def test_the_corpus_is_whole() -> None:
    """It has what ``calls`` makes, and many answers of each kind."""
    made = [[c.who, c.method, c.path, c.kind, dict(c.form)] for c in calls()]
    assert [line[:5] for line in recorded()] == made
    statuses = Counter(line[5] // 100 for line in recorded())
    assert (len(made) > 480, statuses[2] > 300, statuses[4] > 80) == (True, True, True), statuses
