"""Answers of lists that are asked for in pages: ``_next``, ``_total`` (docs/adr/0015)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from starlette.responses import Response

from iredapi.domain import cursors, listing
from iredapi.domain.listing import Key, ListQuery, Page
from iredapi.operations.pages import Part
from iredapi.schemas.listing import Paged
from iredapi.web import responses
from iredapi.web.admission import slot_of
from iredapi.web.operation_route import OperationRequest

Form = TypeVar("Form", bound=Paged)
ReadPart = Callable[[Part], Awaitable[Page]]
_SIGNING_KEY = "cursors"


async def answer(
    call: OperationRequest[Form],
    operation: Callable[..., Awaitable[Page]],
    *args: Any,
    query: ListQuery | None = None,
    bound_to: tuple[Any, ...] = (),
    **kwargs: Any,
) -> Response:
    """Answer with one page, or with the whole list when neither limit nor cursor was sent.

    After ``args`` the operation takes the query, the ``Key`` after which the page begins (None: the
    first one), the maximum number of items, and whether to count all of them. The query is that of
    the form, or another one. ``bound_to`` has what else chooses items (JSON values): a cursor is
    for a list with the same.
    """
    form = call.form
    asked = form.query if query is None else query

    async def read(part: Part) -> Page:
        return await call.read(
            operation, *args, part.query, part.after, part.limit, part.total, **kwargs
        )

    if not form.is_paged:
        return await _whole(call, read, asked)
    operation_of = (call.request.scope["iredapi.action"], call.target.named, call.actor.username)
    bound = cursors.query_hash([*operation_of, *asked.parts(), *bound_to])
    secret = await call.context.state.signing_keys.get(_SIGNING_KEY)
    after = cursors.decode(secret, bound, form.cursor) if form.cursor else None
    timeout = call.context.settings.request_timeout
    async with slot_of(call.request.scope).page(first=True, seconds=timeout):
        page = await read(Part(asked, after, form.page_size, bool(form.total)))
    following = page.last if page.more else None
    body: dict[str, Any] = {
        "_success": True,
        "_data": _chosen(page.items, form),
        "_next": following and cursors.encode(secret, bound, following),
    }
    if page.total is not None:
        body["_total"] = page.total
    return responses.Json(orjson.dumps(body))


def _chosen(items: list[Any], form: Paged) -> list[Any]:
    return listing.only(items, form.only_fields) if form.only_fields else items


async def _whole(call: OperationRequest[Form], read: ReadPart, asked: ListQuery) -> Response:
    """Answer with all items, which are read page by page and sent as they come."""
    reached: Key | None = None
    ended = False
    extra: dict[str, Any] = {}

    async def fetch(_after: str, limit: int) -> list[Any]:
        nonlocal reached, ended
        found: list[Any] = []
        # A short page ends the list, so those that were deleted meanwhile are made up for.
        while not ended and (missing := limit - len(found)) > 0:
            total = bool(call.form.total) and reached is None
            page = await read(Part(asked, reached, missing, total))
            if page.total is not None:
                extra["_total"] = page.total
            found += _chosen(page.items, call.form)
            reached, ended = page.last or reached, not page.more
        return found

    return await call.pages(fetch, lambda _item: "further", extra)
