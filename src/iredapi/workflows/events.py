"""Reading events: the rights are in the account storage, the events in the state database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iredapi.domain.actors import Actor
from iredapi.domain.change_events import LATEST, Cursor, Visible
from iredapi.errors import ApiError
from iredapi.operations import events as rights
from iredapi.runtime.context import AppContext

_MANY: Final = 1000
"""Events that are read together while there are none that may be shown."""


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
    """Return the next events that an admin may see; there are some if there are ``more``."""
    visible = await context.read(actor, rights.visible, wanted.domain, wanted.kinds)
    events = context.state.events
    end, position = await events.last(), after.position or 0
    if visible.domains is not None and not visible.domains:
        return EventPage((), end, more=False, visible=visible)
    limit = wanted.limit
    while True:
        found = await events.chosen(position, end.position or 0, limit, visible)
        deleted = {}
        if found and visible.domains is not None and not actor.is_global:
            deleted = await events.deletions(visible.domains)
        shown = [event for event in found if visible.shows(event, deleted)]
        more = len(found) == limit
        if shown or not more:
            break
        # Events of former domains of these names: they are many, or there are none.
        position, limit = found[-1].position, _MANY
    last = found[-1] if more else None
    if len(shown) > wanted.limit:
        shown, more = shown[: wanted.limit], True
        last = shown[-1]
    items = [(Cursor(event.position, event.id), visible.to_response(event)) for event in shown]
    following = end if last is None else Cursor(last.position, last.id)
    return EventPage(items, following, more, visible)
