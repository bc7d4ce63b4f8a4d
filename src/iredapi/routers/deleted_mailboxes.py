"""Mailboxes of removed users, which stay on disk for some days or for ever."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain import listing
from iredapi.errors import NotFound
from iredapi.operations import deleted_mailboxes
from iredapi.schemas.deleted_mailboxes import (
    DeletedMailboxEdit,
    DeletedMailboxFilter,
    DeletedMailboxProfile,
)
from iredapi.web import pages
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Deleted Mailbox"])
_DIGITS = 18


@router.operation(
    "GET",
    "/deleted_mailboxes",
    Action.DELETED_MAILBOXES_LIST,
    DeletedMailboxFilter,
    answer=list[DeletedMailboxProfile],
)
async def list_deleted_mailboxes(call: OperationRequest[DeletedMailboxFilter]) -> Response:
    """List the mailboxes of deleted users, still on disk, of all domains that the admin manages.

    The oldest come first. Normal admins do not see mailboxes that are older than their domain:
    they belonged to an earlier domain of the same name.
    """
    return await _listed(call, "")


@router.operation(
    "GET",
    "/deleted_mailboxes/{domain}",
    Action.DELETED_MAILBOXES_READ,
    DeletedMailboxFilter,
    answer=list[DeletedMailboxProfile],
    errors=["NO_SUCH_DOMAIN"],
)
async def list_deleted_mailboxes_of_domain(
    call: OperationRequest[DeletedMailboxFilter],
) -> Response:
    """List the mailboxes of a domain's deleted users that are still on disk.

    For a global admin also those of a domain that was deleted.
    """
    return await _listed(call, call.target.domain)


async def _listed(call: OperationRequest[DeletedMailboxFilter], domain: str) -> Response:
    form = call.form
    listing.check_fields(form.only_fields or (), DeletedMailboxProfile.model_fields)
    filters = {name: value for name, value in form.changes().items() if name not in form.paging}
    # The values that a cursor is bound to.
    chosen = sorted((name, str(value)) for name, value in filters.items())
    return await pages.answer(call, deleted_mailboxes.page, domain, filters, bound_to=tuple(chosen))


@router.operation(
    "PUT",
    "/deleted_mailbox/{mailbox_id}",
    Action.DELETED_MAILBOX_UPDATE,
    DeletedMailboxEdit,
    errors=["NO_SUCH_MAILBOX", "MAILBOX_IN_USE"],
)
async def update_deleted_mailbox(call: OperationRequest[DeletedMailboxEdit]) -> Response:
    """Change how long a deleted mailbox stays on disk.

    One whose day has come may be removed by the mail server's job at any minute.
    """
    text = call.word("mailbox_id")
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise NotFound("NO_SUCH_MAILBOX")
    return await call.write(deleted_mailboxes.update, int(text), call.form.changes())
