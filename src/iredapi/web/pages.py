"""Answers of lists that are asked for in pages: ``_next``, ``_total`` (docs/adr/0015)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
from starlette.responses import Response

from iredapi.domain import cursors, listing
from iredapi.domain.listing import Key, ListQuery, Page
from iredapi.schemas.listing import Paged
from iredapi.web import responses
from iredapi.web.admission import slot_of
from iredapi.web.operation_route import OperationRequest

Form = TypeVar("Form", bound=Paged)
ReadPage = Callable[[Key | None, int, bool], Awaitable[Page]]
"""Reads at most so many items after a place; True: counts all of them, too."""
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
    first one), the maximum number of items, and whether to count all of them. The query is
    that of the form, or another one. ``bound_to`` has what else chooses items.
    """
    form = call.form
    asked = form.query if query is None else query

    async def read(after: Key | None, limit: int, total: bool) -> Page:
        return await call.read(operation, *args, asked, after, limit, total, **kwargs)

    if not form.is_paged:
        return await _whole(call, read)
    parts = [
        call.request.scope["iredapi.action"],
        call.target.named,
        call.actor.username,
        *asked.parts(),
        *bound_to,
    ]
    bound = cursors.query_hash(parts)
    secret = await call.context.state.signing_keys.get(_SIGNING_KEY)
    after = cursors.decode(secret, bound, form.cursor) if form.cursor else None
    async with slot_of(call.request.scope).page(
        first=True, seconds=call.context.settings.request_timeout
    ):
        page = await read(after, form.page_size, bool(form.total))
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


async def _whole(call: OperationRequest[Form], read: ReadPage) -> Response:
    """Answer with all items, which are read page by page and sent as they come."""
    reached: Key | None = None
    ended = False
    extra: dict[str, Any] = {}

    async def fetch(_after: str, limit: int) -> list[Any]:
        nonlocal reached, ended
        found: list[Any] = []
        # A short page ends the list, so those that were deleted meanwhile are made up for.
        while not ended and (asked := limit - len(found)) > 0:
            count = bool(call.form.total) and reached is None and not found
            page = await read(reached, asked, count)
            if page.total is not None:
                extra["_total"] = page.total
            found += _chosen(page.items, call.form)
            reached, ended = page.last or reached, not page.more
        return found

    return await call.pages(fetch, lambda _item: "further", extra)
