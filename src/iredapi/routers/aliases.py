"""Mail alias accounts."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.operations import account_lists, accounts, aliases, versions
from iredapi.operations.account_lists import ALIASES
from iredapi.schemas.aliases import AliasDraft, AliasEdit, AliasFilter
from iredapi.schemas.canonical import CanonicalAlias
from iredapi.schemas.params import NoParams
from iredapi.schemas.profiles import AliasProfile, DirectoryProfile
from iredapi.schemas.views import Viewed
from iredapi.web import pages, responses
from iredapi.web.operation_route import OperationRequest, Router
from iredapi.workflows.list_membership import remove_or_rename

router = Router(tags=["Mail Alias"])
_POLICY: Final = "NOT_SUPPORTED_BY_BACKEND"
"""Error code of a backend that cannot store ``accessPolicy``."""


@router.operation(
    "GET",
    "/alias/{mail}",
    Action.ALIAS_READ,
    Viewed,
    answer=AliasProfile | DirectoryProfile | CanonicalAlias,
    errors=["NO_SUCH_ACCOUNT"],
    versions=versions.ALIAS,
)
async def get_alias(call: OperationRequest[Viewed]) -> Response:
    """Show a mail alias account."""
    chosen = aliases.canonical_view if call.form.is_canonical else aliases.profile
    shown, state = await call.profile(chosen, call.target.mail)
    return call.tagged(responses.success(shown), state, canonical=call.form.is_canonical)


@router.operation(
    "POST",
    "/alias/{mail}",
    Action.ALIAS_CREATE,
    AliasDraft,
    errors=["ALREADY_EXISTS", "NO_SUCH_DOMAIN", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT", _POLICY],
)
async def create_alias(call: OperationRequest[AliasDraft]) -> Response:
    """Create a mail alias account. Without members it receives no mail."""
    return await call.write(aliases.create, call.target.mail, call.form.changes())


@router.operation(
    "PUT",
    "/alias/{mail}",
    Action.ALIAS_UPDATE,
    AliasEdit,
    errors=["NO_SUCH_ACCOUNT", _POLICY],
    versions=versions.ALIAS,
)
async def update_alias(call: OperationRequest[AliasEdit]) -> Response:
    """Change a mail alias account: what is not sent stays as it is."""
    return await call.write(aliases.update, call.target.mail, call.form.changes())


@router.operation(
    "DELETE",
    "/alias/{mail}",
    Action.ALIAS_DELETE,
    NoParams,
    errors=["NO_SUCH_ACCOUNT"],
    versions=versions.ALIAS,
)
async def delete_alias(call: OperationRequest[NoParams]) -> Response:
    """Delete a mail alias account."""
    mail = call.target.mail
    return call.done(
        await remove_or_rename(call.context, call.actor, mail, "", aliases.remove, mail)
    )


@router.operation(
    ["POST", "PUT"],
    "/alias/{mail}/change_email/{new_mail}",
    Action.ALIAS_RENAME,
    NoParams,
    errors=["NO_SUCH_ACCOUNT", "ALREADY_EXISTS", "CROSS_DOMAIN_NOT_ALLOWED"],
    versions=versions.ALIAS,
)
async def rename_alias(call: OperationRequest[NoParams]) -> Response:
    """Change an alias account's address within its domain."""
    old, new = call.target.mail, call.target.new_mail
    return call.done(
        await remove_or_rename(call.context, call.actor, old, new, aliases.rename, old, new)
    )


@router.operation(
    "GET",
    "/aliases/{domain}",
    Action.ALIASES_LIST,
    AliasFilter,
    answer=list[AliasProfile | DirectoryProfile | CanonicalAlias | str],
    errors=["NO_SUCH_DOMAIN", "INVALID_CURSOR"],
)
async def list_aliases(call: OperationRequest[AliasFilter]) -> Response:
    """List the alias accounts of a domain with their members, sorted by address."""
    if call.form.asks_for_more:
        name, shape = call.target.domain, call.form.shape
        return await pages.answer(call, account_lists.of_domain, ALIASES, name, shape)
    # The name as it is stored: accounts refer to their domain in this spelling.
    domain = (await call.read(accounts.known_domain, call.target.domain)).name
    profiles = aliases.canonical_views if call.form.is_canonical else aliases.page
    chosen = aliases.addresses if call.form.email_only else profiles
    key = "mail" if call.form.is_canonical else "address"
    return await call.listing(chosen, key, domain, disabled_only=bool(call.form.disabled_only))
