"""The headers ``ETag``, ``If-None-Match`` and ``If-Match`` of profiles (RFC 9110)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from iredapi.auth.permissions import Target
from iredapi.errors import ApiError
from iredapi.operations.preconditions import (
    CANONICAL,
    PRECONDITION,
    STORED,
    EntityTags,
    Precondition,
    Versions,
    listed,
)
from iredapi.web import request_headers


def header(request: Request, name: bytes) -> str | None:
    found = request_headers.values(request.scope, name)
    return b",".join(found).decode("latin-1") if found else None


def tagged(
    request: Request, tags: EntityTags, response: Response, state: bytes, *, canonical: bool
) -> Response:
    """Return an answer with its entity tag, or 304 if the client has it already."""
    tag = tags.tag(CANONICAL if canonical else STORED, state, bytes(response.body))
    known = header(request, b"if-none-match")
    if known is not None and (
        known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(","))
    ):
        response = Response(status_code=304)
    response.raw_headers.append((b"etag", tag.encode()))
    return response


def require(request: Request, tags: EntityTags, versions: Versions | None, target: Target) -> None:
    """Make ``If-Match`` the condition of this request. Raises ApiError."""
    sent = header(request, b"if-match")
    if sent is None:
        PRECONDITION.set(None)
        return
    wanted = listed(sent)
    if versions is None:
        raise ApiError("PRECONDITION_FAILED", "This operation has no ETag for If-Match.")
    PRECONDITION.set(Precondition(tags, versions, target.domain or target.mail, wanted))
