"""Unsubscribable mailing lists: lists whose members are set by an admin."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.features import Feature
from iredapi.operations import account_lists, maillists, versions
from iredapi.operations.account_lists import MAILLISTS
from iredapi.schemas.canonical import CanonicalMailList
from iredapi.schemas.maillists import MailListDraft, MailListEdit, MailListEnd, MailListFilter
from iredapi.schemas.profiles import MailListProfile
from iredapi.schemas.views import Viewed
from iredapi.web import pages, responses
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["Mailing List (Unsubscribable)"])


@router.operation(
    "GET",
    "/maillist/{mail}",
    Action.MAILLIST_READ,
    Viewed,
    answer=MailListProfile | CanonicalMailList,
    errors=["NO_SUCH_ACCOUNT"],
    feature=Feature.MAILLIST,
    versions=versions.MAILLIST,
)
async def get_maillist(call: OperationRequest[Viewed]) -> Response:
    """Show an unsubscribable mailing list: its members are set by an admin."""
    chosen = maillists.canonical_view if call.form.is_canonical else maillists.profile
    shown, state = await call.profile(chosen, call.target.mail)
    return call.tagged(responses.success(shown), state, canonical=call.form.is_canonical)


@router.operation(
    "GET",
    "/maillists/{domain}",
    Action.MAILLISTS_LIST,
    MailListFilter,
    answer=list[MailListProfile | CanonicalMailList | str],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
    feature=Feature.MAILLIST,
)
async def list_maillists(call: OperationRequest[MailListFilter]) -> Response:
    """List the unsubscribable mailing lists of a domain with their members, sorted by address."""
    name, shape = call.target.domain, call.form.shape
    return await pages.answer(call, account_lists.of_domain, MAILLISTS, name, shape)


@router.operation(
    "POST",
    "/maillist/{mail}",
    Action.MAILLIST_CREATE,
    MailListDraft,
    errors=["ALREADY_EXISTS", "NO_SUCH_DOMAIN", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT", "NOT_ALLOWED"],
    feature=Feature.MAILLIST,
)
async def create_maillist(call: OperationRequest[MailListDraft]) -> Response:
    """Create an unsubscribable mailing list, whose members are set by an admin.

    Mail to a list without members is refused.
    """
    return await call.write(maillists.create, call.target.mail, call.form.changes())


@router.operation(
    "PUT",
    "/maillist/{mail}",
    Action.MAILLIST_UPDATE,
    MailListEdit,
    errors=["NO_SUCH_ACCOUNT"],
    feature=Feature.MAILLIST,
    versions=versions.MAILLIST,
)
async def update_maillist(call: OperationRequest[MailListEdit]) -> Response:
    """Change an unsubscribable mailing list: what is not sent stays as it is."""
    return await call.write(maillists.update, call.target.mail, call.form.changes())


@router.operation(
    "DELETE",
    "/maillist/{mail}",
    Action.MAILLIST_DELETE,
    MailListEnd,
    errors=["NO_SUCH_ACCOUNT"],
    feature=Feature.MAILLIST,
    versions=versions.MAILLIST,
)
async def delete_maillist(call: OperationRequest[MailListEnd]) -> Response:
    """Delete an unsubscribable mailing list; the accounts of its members stay."""
    return await call.write(maillists.remove, call.target.mail)
