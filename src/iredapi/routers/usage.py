"""What domains and their users use: tables for billing."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.operations import accounts, usage
from iredapi.schemas.usage import DomainUsageRow, UsageFilter, UserUsageRow
from iredapi.web import pages, tables
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Usage"])


@router.operation(
    "GET",
    "/usage",
    Action.USAGE_LIST,
    UsageFilter,
    answer=list[DomainUsageRow],
    errors=["INVALID_CURSOR"],
)
async def list_usage(call: OperationRequest[UsageFilter]) -> Response:
    """Show what each domain uses, of those that the admin manages, sorted by name.

    Quotas, sizes of mailboxes, numbers of accounts, limits, and the last login. With `Accept:
    text/csv` the answer is CSV, without pages.
    """
    columns = tables.columns(call, _OF_DOMAINS)
    if call.form.is_paged:
        return await pages.answer(call, usage.domain_page)
    # All rows are read at once, with a constant number of statements, and sent in pieces.
    rows: list[Any] = []
    extra: dict[str, Any] = {}

    async def fetch(after: str, limit: int) -> list[Any]:
        nonlocal rows
        if not after:
            rows = await call.read(usage.domains)
            if call.form.total:
                extra["_total"] = len(rows)
        some, rows = rows[:limit], rows[limit:]
        return some

    return await tables.answer(call, fetch, lambda row: str(row["domain"]), columns, extra)


@router.operation(
    "GET",
    "/usage/{domain}",
    Action.USAGE_READ,
    UsageFilter,
    answer=list[UserUsageRow],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
)
async def list_usage_of_domain(call: OperationRequest[UsageFilter]) -> Response:
    """Show what each user of a domain uses, sorted by address.

    Quota, size of the mailbox, last logins, and the last delivery. With `Accept: text/csv` the
    answer is CSV, without pages.
    """
    columns = tables.columns(call, _OF_USERS)
    if call.form.is_paged:
        return await pages.answer(call, usage.user_page, call.target.domain)
    domain = (await call.read(accounts.get_domain, call.target.domain)).name
    extra: dict[str, Any] = {}
    if call.form.total:
        extra["_total"] = await call.read(usage.number_of_users, domain)

    async def fetch(after: str, limit: int) -> list[Any]:
        return await call.read(usage.users, domain, after, limit)

    return await tables.answer(call, fetch, lambda row: str(row["mail"]), columns, extra)


_OF_DOMAINS = [
    "domain", "status", "quota", "allocated_quota", "stored_bytes", "stored_messages",
    "numberOfUsers", "num_existing_users", "numberOfAliases", "num_existing_aliases",
    "numberOfLists", "num_existing_maillists", "last_login",
]  # fmt: skip
_OF_USERS = [
    "mail", "domain", "status", "quota", "stored_bytes", "stored_messages", "last_login",
    "last_login_imap", "last_login_pop3", "last_delivery",
]  # fmt: skip
