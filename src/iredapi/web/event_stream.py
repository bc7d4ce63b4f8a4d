"""Events as they come: long polls, and ``text/event-stream`` (HTML, Server-sent events)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.change_events import Cursor
from iredapi.errors import ApiError
from iredapi.schemas.events import EventFilter
from iredapi.state import StateUnavailable
from iredapi.web import responses
from iredapi.web.admission import Slot, Stream, slot_of
from iredapi.web.operation_route import OperationRequest
from iredapi.web.renewed_caller import renewed
from iredapi.workflows import events
from iredapi.workflows.events import EventPage, Wanted

STREAM: Final = "text/event-stream"
_HEARTBEAT: Final = 15.0
"""Seconds without an event after which a comment is sent: proxies end silent connections."""
_RETRY: Final = 2000
"""Milliseconds after which a client connects again."""
Call = OperationRequest[EventFilter]


def wants_stream(call: Call) -> bool:
    """Return whether the client prefers a stream to JSON."""
    return bool(responses.preferred(call.request.headers.get("accept", ""), [STREAM]))


async def poll(call: Call, wanted: Wanted, after: Cursor, seconds: float) -> Response:
    """Answer with the next events; wait up to some seconds until there are any."""
    loop = asyncio.get_running_loop()
    end, slot, actor = loop.time() + seconds, slot_of(call.request.scope), call.actor
    while True:
        page = await events.read(call.context, actor, wanted, after)
        left = end - loop.time()
        if page.items or left <= 0:
            break
        after = page.following
        slot.wait(actor)
        arrived = await call.context.event_feed.beyond(after, page.visible, left)
        slot.acquire()
        if not arrived:
            break
        actor = await renewed(call, Action.EVENTS_READ)
    return responses.Json(
        orjson.dumps(
            {
                "_success": True,
                "_data": [item for _, item in page.items],
                "_next": str(page.following),
            }
        ),
        headers={"Vary": "Accept"},
    )


class EventStream(Stream):
    """A stream of events that ends when the client, the service or its rights go away."""

    def __init__(self, call: Call, wanted: Wanted, after: Cursor) -> None:
        headers = {"Vary": "Accept", "X-Accel-Buffering": "no"}
        self._actor = call.actor
        super().__init__(self._chunks(call, wanted, after), headers=headers, media_type=STREAM)

    def take(self, slot: Slot) -> None:
        """Take a place among those who wait. Raises Overloaded."""
        slot.wait(self._actor)

    @staticmethod
    async def _chunks(call: Call, wanted: Wanted, after: Cursor) -> AsyncIterator[bytes]:
        context = call.context
        yield b"retry: %d\n\n" % _RETRY
        try:
            while not context.probes.leaving:
                actor = await renewed(call, Action.EVENTS_READ)
                page = await events.read(context, actor, wanted, after)
                if page.items:
                    yield _encoded(page)
                after = page.following
                if page.more:
                    continue
                if not await context.event_feed.beyond(after, page.visible, _HEARTBEAT):
                    # The id: further events may have been read that the client does not want.
                    yield b"id: %s\n:\n\n" % str(after).encode()
        except (ApiError, StateUnavailable):
            return  # the client connects again, and is told why it may not


def _encoded(page: EventPage) -> bytes:
    return b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (str(cursor).encode(), _kind(item).encode(), orjson.dumps(item))
        for cursor, item in page.items
    )


def _kind(item: dict[str, Any]) -> str:
    return str(item["kind"])
