"""What domains and their users use: tables for billing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.usage import Sums
from iredapi.operations import usage
from iredapi.schemas.usage import DomainUsageRow, UsageFilter, UserUsageRow
from iredapi.web import pages, tables
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Usage"])


_FIRST_DOMAINS = 10
"""Domains that are read before the answer begins: their users are counted meanwhile."""


def _stored(row: Mapping[str, Any]) -> str:
    return str(row[usage.STORED])


@router.operation(
    "GET",
    "/usage",
    Action.USAGE_LIST,
    UsageFilter,
    answer=list[DomainUsageRow],
    errors=["INVALID_CURSOR"],
    also=[tables.CSV],
)
async def list_usage(call: OperationRequest[UsageFilter]) -> Response:
    """Show what each domain uses, of those that the admin manages, sorted by name.

    Quotas, sizes of mailboxes, numbers of accounts, limits, and the last login. With `Accept:
    text/csv` the answer is CSV, without pages.
    """
    columns = tables.columns(call, await call.read(usage.columns, of_users=False))
    if call.form.is_paged:
        return await pages.answer(call, usage.domain_page)
    extra: dict[str, Any] = {}
    strays: Mapping[str, Sums] = {}

    async def fetch(after: str, limit: int) -> list[Any]:
        nonlocal strays
        if not after:
            strays = await call.read(usage.strays)
            if call.form.total:
                extra["_total"] = await call.read(usage.number_of_domains)
        return await call.read(usage.domains, after, limit, strays)

    return await tables.answer(call, fetch, _stored, columns, extra, first=_FIRST_DOMAINS)


@router.operation(
    "GET",
    "/usage/{domain}",
    Action.USAGE_READ,
    UsageFilter,
    answer=list[UserUsageRow],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
    also=[tables.CSV],
)
async def list_usage_of_domain(call: OperationRequest[UsageFilter]) -> Response:
    """Show what each user of a domain uses, sorted by address.

    Quota, size of the mailbox, last logins, and the last delivery. With `Accept: text/csv` the
    answer is CSV, without pages.
    """
    columns = tables.columns(call, await call.read(usage.columns, of_users=True))
    if call.form.is_paged:
        return await pages.answer(call, usage.user_page, call.target.domain)
    domain, spelled = await call.read(usage.spelled_domain, call.target.domain)
    extra: dict[str, Any] = {}
    if call.form.total:
        extra["_total"] = await call.read(usage.number_of_users, domain.name)

    async def fetch(after: str, limit: int) -> list[Any]:
        return await call.read(usage.users, spelled, after, limit, active=domain.active)

    return await tables.answer(call, fetch, _stored, columns, extra)
