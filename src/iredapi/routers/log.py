"""The panel's log, with what is kept beside it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.listing import Key, ListQuery
from iredapi.errors import problem
from iredapi.operations import log
from iredapi.schemas.log import LogFilter, LogRow
from iredapi.web import pages, tables
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Log"])
_COLUMNS = list(LogRow.model_fields)
_BESIDE = frozenset({"request_id", "changes"})
"""Columns that are read from our own database."""


@router.operation(
    "GET",
    "/log",
    Action.LOG_READ,
    LogFilter,
    answer=list[LogRow],
    errors=["INVALID_CURSOR", "NOT_SUPPORTED_BY_BACKEND"],
    also=[tables.CSV],
)
async def list_log(call: OperationRequest[LogFilter]) -> Response:
    """Show the log of iRedAdmin and of this API, the newest entries first.

    Normal admins see entries of the domains that they manage, since these were created. With
    `Accept: text/csv` the answer is CSV, without pages.
    """
    form = call.form
    columns = tables.columns(call, _COLUMNS)
    filters = {name: value for name, value in form.changes().items() if name not in form.paging}
    if {"since", "until"} <= filters.keys() and filters["until"] <= filters["since"]:
        raise problem("until", "INVALID_VALUE", "It must be later than since.")
    details = call.context.log_details.of if _BESIDE.intersection(columns) else None
    if details is not None:
        await call.context.write_details()
    if form.is_paged:
        # The values that a cursor is bound to.
        chosen = sorted((name, str(value)) for name, value in filters.items())
        return await pages.answer(call, log.page, details, filters, bound_to=tuple(chosen))
    extra: dict[str, Any] = {}

    async def fetch(after: str, limit: int) -> list[Any]:
        start = Key(after) if after else None
        total = bool(form.total) and start is None
        page = await call.read(log.page, details, filters, ListQuery(), start, limit, total)
        if page.total is not None:
            extra["_total"] = page.total
        return page.items

    return await tables.answer(call, fetch, lambda row: str(row["id"]), columns, extra)
