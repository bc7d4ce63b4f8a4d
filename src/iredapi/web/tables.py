"""Answers that are tables: JSON, or CSV (RFC 4180) when the client asks for ``text/csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from iredapi.domain import listing
from iredapi.errors import problem
from iredapi.web import responses
from iredapi.web.admission import Stream, slot_of
from iredapi.web.operation_route import OperationRequest

CSV: Final = "text/csv"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of texts that spreadsheets run as formulas."""


def wants_csv(call: OperationRequest[Any]) -> bool:
    """Return whether the client prefers CSV to JSON."""
    return bool(responses.preferred(call.request.headers.get("accept", ""), [CSV]))


def columns(call: OperationRequest[Any], known: list[str]) -> list[str]:
    """Return the columns that are asked for. Raises InvalidParameters."""
    chosen = [name.lower() for name in call.form.only_fields or ()]
    listing.check_fields(chosen, known)
    if call.form.is_paged and wants_csv(call):
        name = "cursor" if call.form.cursor else "limit"
        raise problem(name, "INVALID_VALUE", "A table in CSV has no pages.")
    return [name for name in known if name.lower() in chosen] if chosen else known


_TYPE: Final = f"{CSV}; charset=utf-8"
_HEADERS: Final = {"Vary": "Accept", "X-Content-Type-Options": "nosniff"}


async def answer(
    call: OperationRequest[Any],
    fetch: responses.Fetch,
    key: Callable[[Any], str],
    columns: Sequence[str],
    extra: Mapping[str, Any],
    *,
    first: int = responses.PAGE,
) -> Response:
    """Answer with all rows, which ``fetch`` reads page by page; see ``responses.listing``.

    ``key`` returns that after which the next page begins. ``columns`` are the keys that are shown.
    ``extra`` is for JSON only. ``first`` rows are read before the answer begins.
    """
    reached = ""

    async def chosen(_after: str, limit: int) -> list[Any]:
        nonlocal reached
        rows = await fetch(reached, limit)
        reached = key(rows[-1]) if rows else reached
        return listing.only(rows, columns)

    if not wants_csv(call):
        response = await call.pages(chosen, lambda _row: "further", extra, first=first)
        response.headers["Vary"] = "Accept"
        return response
    slot, timeout = slot_of(call.request.scope), call.context.settings.request_timeout
    async with slot.page(first=True, seconds=timeout):
        rows = await chosen("", first)
    if len(rows) == first:

        async def following() -> list[Any]:
            async with slot.page(first=False, seconds=timeout):
                return await chosen("", responses.PAGE)

        return Stream(_lines(columns, rows, following), headers=_HEADERS, media_type=_TYPE)
    return Response(_text([columns]) + _rows(rows), headers=_HEADERS, media_type=_TYPE)


async def _lines(
    columns: Sequence[str], first: list[Any], following: Callable[[], Awaitable[list[Any]]]
) -> AsyncIterator[str]:
    """Yield the text; a failure in the middle breaks the connection off, as CSV cannot tell it."""
    yield _text([columns]) + _rows(first)
    page = await following()
    while page:
        yield _rows(page)
        page = await following() if len(page) == responses.PAGE else []


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    return _text([[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        value = orjson.dumps(value).decode() if value else ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _text(rows: Sequence[Sequence[Any]]) -> str:
    target = io.StringIO()
    csv.writer(target).writerows(rows)
    return target.getvalue()
