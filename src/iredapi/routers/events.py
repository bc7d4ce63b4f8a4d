"""Events of changes."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.change_events import LATEST, Cursor
from iredapi.errors import problem
from iredapi.schemas.events import ChangeEventRow, EventFilter
from iredapi.web import event_stream
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import events
from iredapi.workflows.events import Wanted

router = Router(tags=["Events"])


@router.operation(
    "GET",
    "/events",
    Action.EVENTS_READ,
    EventFilter,
    answer=list[ChangeEventRow],
    errors=["INVALID_CURSOR", "EVENTS_EXPIRED", "EVENTS_NOT_KEPT"],
    also=[event_stream.STREAM],
    following="Send it as `after` next time, also if there was no event.",
)
async def list_events(call: OperationRequest[EventFilter]) -> Response:
    """Show what was changed, the oldest event first; wait for the next change if there is none.

    Normal admins see events of the domains that they manage, since these were created. With
    `Accept: text/event-stream` the answer is a stream that does not end (Server-sent events).
    See docs/events.md.
    """
    form = call.form
    wanted = Wanted(form.domain or "", form.kinds or (), form.limit or 100)
    after, streamed = form.after or "", event_stream.wants_stream(call)
    if streamed and (last := call.request.headers.get("last-event-id", "")):
        if last != LATEST and Cursor.of(last) is None:
            raise problem("after", "INVALID_CURSOR", "The header Last-Event-ID is malformed.")
        after = last
    start = await events.start(call.context, after)
    if streamed:
        return event_stream.EventStream(call, wanted, start)
    return await event_stream.poll(call, wanted, start, float(form.wait or 0))
