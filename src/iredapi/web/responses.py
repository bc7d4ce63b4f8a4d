"""The JSON envelope of all answers (``_success``, ``_data``, ``_msg`` …)."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import islice
from typing import Any, Final

import orjson
from starlette.responses import Response

from iredapi.errors import ApiError
from iredapi.web.admission import Stream

JSON: Final = "application/json"
PAGE: Final = 500
"""Maximum items of the first page of a list. Two pages are in memory at a time."""
_NAMES: Final = 4 * PAGE
"""Maximum names of each further page."""
_PROFILES: Final = 200
"""Maximum profiles of each further page; encoding a page blocks the event loop."""


_SUCCESS: Final = b'{"_success":true}'


class Json(Response):
    """Encoded JSON. Its headers are built here, in half the time of Starlette's."""

    def __init__(self, body: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *[(key.lower().encode(), value.encode()) for key, value in headers.items()],
        ]


def success(
    data: Any = None,
    *,
    changed: Sequence[str] | None = None,
    skipped: Sequence[Mapping[str, str]] = (),
    ignored: Sequence[str] = (),
    adjusted: Sequence[Mapping[str, Any]] = (),
    varies: bool = False,
    more: Mapping[str, Any] = {},
) -> Response:
    """Return a successful answer, with data if there are any.

    ``changed`` is None for creations and deletions. ``varies`` adds ``Vary: Accept`` for caches.
    """
    if data is None and changed is None and not (skipped or ignored or adjusted or varies or more):
        return Json(_SUCCESS)
    body: dict[str, Any] = {"_success": True}
    if data is not None:
        body["_data"] = data
    if changed is not None:
        body["_changed"] = list(changed)
    if skipped:
        body["_skipped"] = list(skipped)
    if ignored:
        body["_ignored"] = list(ignored)
    if adjusted:
        body["_adjusted"] = list(adjusted)
    body |= more
    return Json(orjson.dumps(body), headers={"Vary": "Accept"} if varies else {})


def preferred(accept: str, kinds: Sequence[str]) -> str:
    """Return which of some media types the client prefers to JSON; empty: none.

    Only types that the Accept header names count: for ``*/*`` the answer is JSON.
    """
    wishes: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, *options = (part.strip() for part in item.split(";"))
        wishes[name] = 1.0
        for option in options:
            key, _, value = option.partition("=")
            if key.strip() == "q":
                try:
                    wishes[name] = float(value)
                except ValueError:
                    wishes[name] = 0.0
    best = max(kinds, key=lambda kind: wishes.get(kind, 0.0))
    return best if wishes.get(best, 0.0) > wishes.get(JSON, 0.0) else ""


def download(chunks: Iterator[str], kind: str, name: str) -> Response:
    """Return a text as a file, sent in chunks."""
    # The name is an address or a domain. Quotes and backslashes must not get into the header.
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "@._-+") else "_" for c in name)
    headers = {
        "Content-Disposition": f'attachment; filename="{plain}"',
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(chunks, headers=headers, media_type=f"{kind}; charset=utf-8")


def failure(
    error: ApiError, request_id: str, *, always_200: bool = False, challenge: str = ""
) -> Response:
    """Return the answer to a request that was refused or failed.

    ``challenge`` is the value of ``WWW-Authenticate`` when its status is 401.
    """
    code = error.code
    if always_200 and code == "LOGIN_REQUIRED":
        code = "LOGIN REQUIRED"  # old clients compare with this spelling
    body: dict[str, Any] = {"_success": False, "_msg": code}
    if error.detail:
        body["_detail"] = error.detail
    if error.errors:
        body["_errors"] = [
            {"param": item.param, "code": item.code, "detail": item.detail} for item in error.errors
        ]
    body["_request_id"] = request_id
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    # A crash keeps its status 500, also with always_200.
    status = 200 if always_200 and error.code != "SERVER_ERROR" else error.status
    if status == 401:
        headers["WWW-Authenticate"] = challenge
    return Json(orjson.dumps(body), status, headers)


Fetch = Callable[[str, int], Awaitable[list[Any]]]


async def listing(
    fetch: Fetch,
    key: Callable[[Any], str],
    request_id: str,
    extra: Mapping[str, Any] = {},
    size: int = 0,
) -> Response:
    """Return a list that is sent page by page, so that memory does not grow with the data.

    The first page is fetched before the answer begins, so that most failures get an error status.
    In a longer list ``_success`` is the last key: a failure in the middle makes it false. ``extra``
    has further keys of the answer; it may be filled by the first ``fetch``. ``size`` is the maximum
    number of items of the first page; 0: ``PAGE``.
    """
    size = size or PAGE
    first = await fetch("", size)
    if len(first) < size:
        if extra:
            return Json(orjson.dumps({"_success": True, "_data": first, **extra}))
        return success(first)
    return Stream(_stream(first, fetch, key, request_id, extra, size), media_type=JSON)


async def _stream(
    page: list[Any],
    fetch: Fetch,
    key: Callable[[Any], str],
    request_id: str,
    extra: Mapping[str, Any],
    asked: int,
) -> AsyncIterator[bytes]:
    opening = b'{"_data":'
    lead = b"["
    yield opening
    limit = _NAMES if isinstance(page[0], str) else _PROFILES
    following: asyncio.Future[list[Any]] | None = None
    try:
        while page:
            # The next page is fetched while this one is encoded and sent.
            following = None
            if len(page) == asked:
                following = asyncio.ensure_future(fetch(key(page[-1]), limit))
                asked = limit
                await asyncio.sleep(0)  # lets the task start
            yield lead + orjson.dumps(page)[1:-1]
            lead = b","
            page = await following if following else []
    except Exception as error:
        code = error.code if isinstance(error, ApiError) else "SERVER_ERROR"
        yield b'],"_msg":' + orjson.dumps(code) + b',"_request_id":' + orjson.dumps(request_id)
        yield b',"_success":false}'
        if not isinstance(error, ApiError):
            raise
    else:
        yield b"]," + orjson.dumps({**extra, "_success": True})[1:]
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def with_list(
    data: Mapping[str, Any], key: str, items: Iterable[Mapping[str, Any]], count: int
) -> Response:
    """Return data with a list of ``count`` items in it; a long list is sent in chunks."""
    if count < PAGE:
        return success({**data, key: list(items)})
    return Stream(_pieces(data, key, items), media_type=JSON)


async def _pieces(
    data: Mapping[str, Any], key: str, items: Iterable[Mapping[str, Any]]
) -> AsyncIterator[bytes]:
    yield b'{"_data":' + orjson.dumps(data)[:-1] + b"," + orjson.dumps(key) + b":"
    lead, rest = b"[", iter(items)
    while some := list(islice(rest, PAGE)):
        yield lead + orjson.dumps(some)[1:-1]
        lead = b","
    yield b']},"_success":true}'
