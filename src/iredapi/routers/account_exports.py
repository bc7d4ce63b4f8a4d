"""Domains with all their accounts and policies, as records that can be imported anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.schemas.account_exports import ExportRecord
from iredapi.schemas.params import NoParams
from iredapi.web import responses
from iredapi.web.admission import Stream, slot_of
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import exports

router = Router(tags=["Export"])
NDJSON: Final = "application/x-ndjson"
_HEADERS: Final = {"Vary": "Accept", "X-Content-Type-Options": "nosniff"}


@router.operation(
    "GET",
    "/export",
    Action.EXPORT_LIST,
    NoParams,
    answer=list[ExportRecord],
    also=[NDJSON],
)
async def export_everything(call: OperationRequest[NoParams]) -> Response:
    """Export all domains, admins, accounts and policies.

    One JSON object in each line (NDJSON); with `Accept: application/json` a usual answer. Hashes of
    passwords are in it where the settings do not hide them, not for limited tokens.
    """
    return await _answer(call, "")


@router.operation(
    "GET",
    "/export/{domain}",
    Action.EXPORT_READ,
    NoParams,
    answer=list[ExportRecord],
    errors=["NO_SUCH_DOMAIN"],
    also=[NDJSON],
)
async def export_domain(call: OperationRequest[NoParams]) -> Response:
    """Export a domain with all its accounts and policies.

    One JSON object in each line (NDJSON); with `Accept: application/json` a usual answer. Hashes of
    passwords and standalone admins are for global admins, hashes only where the settings do not
    hide them, and not for limited tokens.
    """
    return await _answer(call, call.target.domain)


async def _answer(call: OperationRequest[NoParams], domain: str) -> Response:
    pages = exports.pages(call.context, call.actor, domain)
    if _wants_json(call.request.headers.get("accept", "")):
        left: list[Any] = []

        async def fetch(_after: str, limit: int) -> list[Any]:
            """Return the next records; fewer than ``limit`` only at the end."""
            while len(left) < limit and (page := await anext(pages, None)) is not None:
                left.extend(page)
            some, left[:] = left[:limit], left[limit:]
            return some

        response = await call.pages(fetch, lambda _record: "further")
        response.headers["Vary"] = "Accept"
        return response
    slot, timeout = slot_of(call.request.scope), call.context.settings.request_timeout

    async def following(*, first: bool) -> Sequence[Any] | None:
        # One page at a time: the list server may need long for a list.
        async with slot.page(first=first, seconds=timeout):
            return await anext(pages, None)

    found = await following(first=True)
    lines = _lines(found, lambda: following(first=False))
    return Stream(lines, headers=_HEADERS, media_type=NDJSON)


def _wants_json(accept: str) -> bool:
    """Return whether the client asks for JSON by its name, and not for NDJSON as well."""
    named = responses.JSON in accept.lower()
    return named and not responses.preferred(accept, [NDJSON])


async def _lines(
    page: Sequence[Any] | None, following: Callable[[], Awaitable[Sequence[Any] | None]]
) -> AsyncIterator[bytes]:
    """Yield the lines; a failure in the middle breaks the connection off, so that it is noticed."""
    while page is not None:
        yield b"".join(orjson.dumps(record) + b"\n" for record in page)
        page = await following()
