"""Subscribable mailing lists."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.operations import account_lists, accounts, lists, versions
from iredapi.operations.account_lists import LISTS
from iredapi.operations.preconditions import state_of
from iredapi.schemas.canonical import CanonicalList, CanonicalStoredList
from iredapi.schemas.lists import ListDraft, ListEdit, ListFilter, ListRemoval, ListView
from iredapi.schemas.profiles import ListProfile, StoredListProfile
from iredapi.web import pages, responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows import mailing_lists

router = Router(tags=["Subscribable Mailing List"])
_SERVER = (
    "NOT_SUPPORTED_BY_BACKEND",
    "MLMMJADMIN_UNREACHABLE",
    "MLMMJADMIN_TIMEOUT",
    "MLMMJADMIN_BAD_RESPONSE",
    "MLMMJADMIN_AUTH_FAILED",
    "MLMMJADMIN_ERROR",
    "LIST_SPOOL_ERROR",
    "LIST_FILES_LOCKED",
)


@router.operation(
    "GET",
    "/mls/{domain}",
    Action.MLS_LIST,
    ListFilter,
    answer=list[StoredListProfile | CanonicalStoredList | str],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
)
async def list_mailing_lists(call: OperationRequest[ListFilter]) -> Response:
    """List the mailing lists of a domain, sorted by address.

    The answer is read from the accounts' database or directory; the list server is not asked.
    """
    if call.form.asks_for_more:
        name, shape = call.target.domain, call.form.shape
        return await pages.answer(call, account_lists.of_domain, LISTS, name, shape)
    # The name as it is stored: accounts refer to their domain in this spelling.
    domain = (await call.read(accounts.known_domain, call.target.domain)).name
    profiles = lists.canonical_views if call.form.is_canonical else lists.page
    chosen = lists.addresses if call.form.email_only else profiles
    return await call.listing(chosen, "mail", domain)


@router.operation(
    "GET",
    "/ml/{mail}",
    Action.ML_READ,
    ListView,
    answer=ListProfile | CanonicalList,
    errors=["NO_SUCH_ACCOUNT", "MAILING_LIST_DATA_MISSING", *_SERVER],
    versions=versions.LIST,
)
async def get_mailing_list(call: OperationRequest[ListView]) -> Response:
    """Show a mailing list with the settings that mlmmj uses."""
    profile, subscribers = await mailing_lists.read(
        call.context,
        call.actor,
        call.target.mail,
        with_subscribers=bool(call.form.with_subscribers),
        as_canonical=call.form.is_canonical,
    )
    if subscribers is None:
        canonical = call.form.is_canonical
        return call.tagged(responses.success(profile), state_of(profile), canonical=canonical)
    items = ({"mail": item.mail, "subscription": item.version} for item in subscribers)
    return responses.with_list(profile, "subscribers", items, len(subscribers))


@router.operation(
    "POST",
    "/ml/{mail}",
    Action.ML_CREATE,
    ListDraft,
    errors=[
        "ALREADY_EXISTS",
        "NO_SUCH_DOMAIN",
        "EXCEEDED_DOMAIN_ACCOUNT_LIMIT",
        "LIST_CREATED_SUBSCRIBERS_FAILED",
        *_SERVER,
    ],
)
async def create_mailing_list(call: OperationRequest[ListDraft]) -> Response:
    """Create a mailing list. It receives mail when all parts of it have been created."""
    return call.done(
        await mailing_lists.create(call.context, call.actor, call.target.mail, call.form.changes())
    )


@router.operation(
    "PUT",
    "/ml/{mail}",
    Action.ML_UPDATE,
    ListEdit,
    errors=["NO_SUCH_ACCOUNT", "MAILING_LIST_DATA_MISSING", *_SERVER],
    versions=versions.LIST,
)
async def update_mailing_list(call: OperationRequest[ListEdit]) -> Response:
    """Change a mailing list: what is not sent stays as it is.

    `accountStatus`, `newsletter_description` and the policies that mlmmj does not enforce can be
    changed while the list server cannot be reached.
    """
    return call.done(
        await mailing_lists.update(call.context, call.actor, call.target.mail, call.form.changes())
    )


@router.operation(
    "DELETE",
    "/ml/{mail}",
    Action.ML_DELETE,
    ListRemoval,
    errors=["NO_SUCH_ACCOUNT", *_SERVER],
    versions=versions.LIST,
)
async def delete_mailing_list(call: OperationRequest[ListRemoval]) -> Response:
    """Delete a mailing list. Its settings, subscribers and posts are archived or deleted.

    If the list server fails in the middle, the list stays disabled: send the request again.
    """
    archive = call.form.changes().get("keep_archive", True)
    return call.done(
        await mailing_lists.remove(call.context, call.actor, call.target.mail, archive=archive)
    )
