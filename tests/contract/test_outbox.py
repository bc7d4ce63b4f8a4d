"""The outbox of changes in the state database: positions, their order, what is kept."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest_asyncio

from iredapi.domain.change_events import ChangeEvent, unconfirmed
from iredapi.runtime.outbox import Outbox, in_order
from iredapi.state import State
from tests.servers.store import Store

WRITERS = 6
EACH = 25
NOW = 1_700_000_000.25
Open = Callable[..., Awaitable[State]]


@pytest_asyncio.fixture
async def opened(store: Store) -> AsyncIterator[Open]:
    states: list[State] = []

    async def open_state(**options: Any) -> State:
        states.append(await State.open(store.state, **{"clock": lambda: NOW, **options}))
        return states[-1]

    yield open_state
    for state in states:
        await state.close()


def event(
    account: str = "alice@example.com", kind: str = "user.updated", **body: Any
) -> ChangeEvent:
    return ChangeEvent(secrets.token_hex(16), NOW, kind, account, account.partition("@")[2], body)


async def test_what_is_published_can_be_read_from_any_position(opened: Open) -> None:
    state = await opened()
    start = await state.events.end()
    first, second = event(actor="a@example.com", fields=["name"]), event("b@example.com")
    await state.events.write([first, second], due=NOW)
    assert (await state.events.pending())[0] == 2
    assert await state.events.overdue(10) == []  # not yet
    late = await opened(clock=lambda: NOW + 1)
    assert [found.event for found in await late.events.overdue(10)] == sorted(
        [first, second], key=lambda one: one.id
    )
    assert await state.events.read(start, 10) == []
    assert await state.events.publish([first, second]) == 2
    assert start + 2 == await state.events.end()
    assert (await state.events.pending())[0] == 0
    found = await state.events.read(start, 10)
    assert [(one.position, one.id) for one in found] == [
        (start + 1, first.id),
        (start + 2, second.id),
    ]
    assert found[0].to_response() == {
        "id": first.id,
        "time": "2023-11-14T22:13:20.250Z",
        "kind": "user.updated",
        "account": "alice@example.com",
        "domain": "example.com",
        "actor": "a@example.com",
        "fields": ["name"],
    }
    assert await state.events.read(start + 1, 10) == [found[1]]
    assert await state.events.read(start, 1) == [found[0]]


async def test_a_repeat_has_the_same_id(opened: Open) -> None:
    state = await opened()
    start, one = await state.events.end(), event()
    await state.events.publish([one])
    await state.events.publish([one])
    found = await state.events.read(start, 10)
    assert [again.id for again in found] == [one.id, one.id]


async def test_nothing_appears_below_a_position_that_was_read(opened: Open) -> None:
    """Several replicas publish at once, and one reads meanwhile."""
    states = [await opened() for _ in range(3)]
    start = await states[0].events.end()
    read: list[int] = []
    done = asyncio.Event()

    async def write(state: State) -> None:
        for number in range(EACH):
            some = [event() for _ in range(1 + number % 3)]
            await state.events.write(some, due=NOW)
            await state.events.publish(some)

    async def follow(state: State) -> None:
        after = start
        while True:
            last = done.is_set()
            found = await state.events.read(after, 100)
            read.extend(one.position for one in found)
            after = read[-1] if read else start
            if last and not found:
                return

    reader = asyncio.ensure_future(follow(states[2]))
    await asyncio.gather(*(write(states[number % 2]) for number in range(WRITERS)))
    done.set()
    await reader
    count = WRITERS * sum(1 + number % 3 for number in range(EACH))
    assert read == list(range(start + 1, start + count + 1))


async def test_old_events_are_removed_but_never_the_last_one(opened: Open) -> None:
    now = [NOW]
    state = await opened(clock=lambda: now[0])
    await state.events.publish([event(), event()])
    await state.events.publish([event()])
    assert await state.events.purge() == 0
    now[0] += state.events.days * 86400 + 1
    end = await state.events.end()
    await state.events.purge()
    assert [one.position for one in await state.events.read(0, 10)] == [end]


async def test_pending_events_can_be_given_up(opened: Open) -> None:
    state = await opened()
    one = event()
    await state.events.write([one], due=NOW)
    assert (await state.events.pending())[0] == 1
    await state.events.forget([one.id])
    assert (await state.events.pending()) == (0, 0.0)


def at(seconds: float, account: str = "alice@example.com") -> ChangeEvent:
    return replace(event(account), time=NOW + seconds)


async def test_an_event_waits_for_earlier_ones_of_its_account(opened: Open) -> None:
    """They are pending because another process is slow, or dead."""
    state = await opened()
    own, other = at(0.5), at(0.5, "bob@example.com")
    earlier, later, foreign = at(0.0), at(0.7), at(0.0, "carol@example.com")
    await state.events.write([own, other, earlier, later, foreign], due=NOW + 99)
    rows = await state.events.pending_of({own.account, other.account})
    assert {row.event.id for row in rows} == {own.id, other.id, earlier.id, later.id}
    assert in_order([own, other], rows, NOW + 0.9) == ([other], [])
    ready, kept = in_order([own, other], rows, NOW + 1.1)
    assert (ready, kept) == ([unconfirmed(earlier), own, other], [earlier.id])
    start = await state.events.end()
    assert await state.events.publish(ready, kept=kept) == 3
    # The first one is pending still, but nobody waits for it any more.
    rows = await state.events.pending_of({own.account})
    assert [row.event.id for row in rows] == [later.id]
    assert in_order([later], rows, NOW + 1.1) == ([later], [])
    await state.events.publish([earlier])
    told = [(one.id, "unconfirmed" in one.body) for one in await state.events.read(start, 10)]
    assert told == [(earlier.id, True), (own.id, False), (other.id, False), (earlier.id, False)]
    assert (await state.events.pending())[0] == 2


async def test_several_replicas_publish_what_is_overdue_once(opened: Open) -> None:
    states = [await opened(clock=lambda: NOW + 1) for _ in range(3)]
    some = [event(f"u{number}@example.com") for number in range(20)]
    start = await states[0].events.end()
    await states[0].events.write(some, due=NOW)
    boxes = [Outbox(state.events, wanted=True, timeout=1) for state in states]
    assert sum(await asyncio.gather(*(box.sweep() for box in boxes))) == len(some)
    found = await states[0].events.read(start, 100)
    assert sorted(one.id for one in found) == sorted(one.id for one in some)
    assert all(one.body["unconfirmed"] for one in found)


async def test_a_rename_is_before_what_follows_at_either_address(opened: Open) -> None:
    state = await opened()
    renamed = at(0.1)
    body = {**renamed.body, "new_account": "new@example.com"}
    renamed = replace(renamed, kind="user.renamed", body=body)
    there = at(0.0, "new@example.com")
    at_new, at_old = at(0.2, "new@example.com"), at(0.3)
    await state.events.write([renamed, there], due=NOW + 99)
    for own in (at_new, at_old):
        rows = await state.events.pending_of(own.names)
        assert in_order([own], rows, NOW + 0.9) == ([], [])
        ready, _ = in_order([own], rows, NOW + 1.2)
        assert [one.id for one in ready][-2:] == [renamed.id, own.id]
    # The rename waits for what was pending at its new address, and what follows waits for it.
    rows = await state.events.pending_of(renamed.names)
    assert in_order([renamed, at_old], rows, NOW + 0.9) == ([], [])
    ready, kept = in_order([renamed, at_old], rows, NOW + 1.2)
    assert (ready, kept) == ([unconfirmed(there), renamed, at_old], [there.id])
    await state.events.publish(ready, kept=kept)
    assert [row.event.id for row in await state.events.pending_of(at_new.names)] == []
