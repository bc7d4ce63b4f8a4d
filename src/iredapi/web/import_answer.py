"""The answer to an import, sent while the body is still being received."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from iredapi.auth.permissions import Action
from iredapi.errors import ApiError
from iredapi.schemas.imports import ImportOptions
from iredapi.transfer.importing import Import
from iredapi.transfer.kinds import Caller
from iredapi.transfer.lines import FileFormat
from iredapi.transfer.outcomes import OnExisting, Summary
from iredapi.transfer.pace import Pace
from iredapi.web.admission import slot_of
from iredapi.web.import_body import NDJSON, GoneError, ImportBody
from iredapi.web.operation_route import OperationRequest
from iredapi.web.renewed_caller import renewed


class ImportAnswer(Response):
    """The lines of the answer, sent while the body is still being received.

    Starlette's streaming response would read the body, too, to see whether the client goes away.
    """

    def __init__(self, body: ImportBody, work: Import) -> None:
        super().__init__(None, 200, {"X-Accel-Buffering": "no"}, NDJSON)
        del self.headers["content-length"]
        self._import_body = body
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out the import."""
        del receive
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        work = self._work
        try:
            async for entries in self._import_body.entries():
                async for told in work.lines(entries):
                    await send({"type": "http.response.body", "body": told, "more_body": True})
                if work.stopped is not None:
                    break
                self._import_body.resume()
        except ApiError as error:
            work.stopped = error
        except GoneError:
            return
        finally:
            self._import_body.close()
        if work.stopped is not None:
            scope["iredapi.code"] = work.stopped.code
        await send({"type": "http.response.body", "body": work.summary.last_line(work.stopped)})


async def begun(call: OperationRequest[ImportOptions]) -> Response:
    """Begin an import: the first lines have arrived. Raises ApiError."""
    options = call.form.changes()
    chosen = options.get("format")
    body = ImportBody(
        call.request,
        None if chosen is None else FileFormat(chosen),
        str(options.get("type", "user")),
    )
    slot = slot_of(call.request.scope)
    slot.start_import()
    await body.begin()
    dry_run = bool(options.get("dry_run"))
    rule = OnExisting(options.get("on_existing", "skip"))
    caller = Caller(call.context, call.actor, rule, dry_run)

    renew = partial(renewed, call, Action.IMPORT)
    pace = Pace(lambda: slot.others_wait)
    work = Import(caller, renew, pace, Summary(dry_run=dry_run))
    return ImportAnswer(body, work)
