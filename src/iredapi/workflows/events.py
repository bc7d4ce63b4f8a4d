"""Reading events: the rights are in the account storage, the events in the state database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from iredapi.domain.actors import Actor
from iredapi.domain.change_events import LATEST, Cursor, Visible
from iredapi.errors import ApiError
from iredapi.operations import events as rights
from iredapi.runtime.context import AppContext


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client has asked for; empty: of all domains, of all kinds."""

    domain: str = ""
    kinds: Collection[str] = ()
    limit: int = 100


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, as the client gets them, each with its cursor."""

    items: Sequence[tuple[Cursor, dict[str, Any]]]
    following: Cursor
    """Up to where was read; further events may have been left out."""
    more: bool
    """Whether there are further ones."""
    visible: Visible


async def start(context: AppContext, after: str) -> Cursor:
    """Return where a client goes on. Raises ApiError."""
    if not context.outbox.wanted:
        raise ApiError("EVENTS_NOT_KEPT")
    events = context.state.events
    if after == LATEST:
        return await events.last()
    if not after:
        return Cursor(-1)
    sent = Cursor.of(after)
    found = None if sent is None else await events.find(sent)
    if found is None:
        raise ApiError("EVENTS_EXPIRED")
    return found


async def read(context: AppContext, actor: Actor, wanted: Wanted, after: Cursor) -> EventPage:
    """Return the next events that an admin may see, in a constant number of statements."""
    visible = await context.read(actor, rights.visible, wanted.domain, wanted.kinds)
    events = context.state.events
    end, position = await events.last(), after.position or 0
    if visible.domains is not None and not visible.domains:
        return EventPage((), end, more=False, visible=visible)
    found = await events.chosen(position, end.position or 0, wanted.limit, visible)
    deleted = {}
    if found and visible.domains is not None and not actor.is_global:
        deleted = await events.deletions(visible.domains)
    items = [
        (Cursor(event.position, event.id), visible.to_response(event))
        for event in found
        if visible.shows(event, deleted)
    ]
    more = len(found) == wanted.limit
    following = Cursor(found[-1].position, found[-1].id) if more else end
    return EventPage(items, following, more, visible)
