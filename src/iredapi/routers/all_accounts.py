"""Lists and searches over all domains that an admin manages, and what an address is."""

from __future__ import annotations

from starlette.responses import Response

from iredapi.auth.permissions import Action
from iredapi.domain.listing import DEFAULT_LIMIT
from iredapi.operations import account_lists, inventory, search
from iredapi.operations.account_lists import ALIASES, LISTS, USERS
from iredapi.schemas.aliases import AliasFilter
from iredapi.schemas.canonical import CanonicalAlias, CanonicalStoredList, CanonicalUser
from iredapi.schemas.inventory import (
    AdminFilter,
    AliasDomainFilter,
    AliasDomainProfile,
    AnyAdminProfile,
)
from iredapi.schemas.lists import ListFilter
from iredapi.schemas.params import NoParams
from iredapi.schemas.profiles import (
    AliasProfile,
    DirectoryProfile,
    StoredListProfile,
    UserProfile,
)
from iredapi.schemas.search import AddressOwner, SearchForm, SearchResult
from iredapi.schemas.users import UserFilter
from iredapi.web import pages
from iredapi.web.operation_route import OperationRequest, Router

router = Router(tags=["All Domains"])


@router.operation(
    "GET",
    "/users",
    Action.ALL_USERS_LIST,
    UserFilter,
    answer=list[UserProfile | DirectoryProfile | CanonicalUser | str],
    errors=["INVALID_CURSOR"],
)
async def list_all_users(call: OperationRequest[UserFilter]) -> Response:
    """List the users of all domains that the admin manages, sorted by address."""
    return await pages.answer(call, account_lists.of_all, USERS, call.form.shape)


@router.operation(
    "GET",
    "/aliases",
    Action.ALL_ALIASES_LIST,
    AliasFilter,
    answer=list[AliasProfile | DirectoryProfile | CanonicalAlias | str],
    errors=["INVALID_CURSOR"],
)
async def list_all_aliases(call: OperationRequest[AliasFilter]) -> Response:
    """List the alias accounts of all domains that the admin manages, with their members."""
    return await pages.answer(call, account_lists.of_all, ALIASES, call.form.shape)


@router.operation(
    "GET",
    "/mls",
    Action.ALL_MLS_LIST,
    ListFilter,
    answer=list[StoredListProfile | CanonicalStoredList | str],
    errors=["INVALID_CURSOR"],
)
async def list_all_mailing_lists(call: OperationRequest[ListFilter]) -> Response:
    """List the mailing lists of all domains that the admin manages.

    The answer is read from the accounts' database or directory; the list server is not asked.
    """
    return await pages.answer(call, account_lists.of_all, LISTS, call.form.shape)


@router.operation(
    "GET",
    "/alias_domains",
    Action.ALIAS_DOMAINS_LIST,
    AliasDomainFilter,
    answer=list[AliasDomainProfile],
    errors=["INVALID_CURSOR"],
)
async def list_alias_domains(call: OperationRequest[AliasDomainFilter]) -> Response:
    """List the alias domains of all domains that the admin manages."""
    return await pages.answer(call, inventory.alias_domains, call.form.only_fields or ())


@router.operation(
    "GET",
    "/admins",
    Action.ADMINS_LIST,
    AdminFilter,
    answer=list[AnyAdminProfile],
    errors=["INVALID_CURSOR"],
)
async def list_admins(call: OperationRequest[AdminFilter]) -> Response:
    """List all admins: standalone ones, and mail users with rights.

    Each has its limits, and how much of them its domains have been given.
    """
    return await pages.answer(call, inventory.admins, call.form.only_fields or ())


@router.operation("GET", "/search", Action.SEARCH_READ, SearchForm, answer=list[SearchResult])
async def search_accounts(call: OperationRequest[SearchForm]) -> Response:
    """Search domains and accounts of all kinds that the admin manages.

    An address that is exactly what was searched for comes first; then results are sorted by kind
    and address. There are no further pages: send a longer text, or a `kind`.
    """
    form = call.form
    found = await call.read(
        search.search, form.q, form.limit or DEFAULT_LIMIT, frozenset(form.kind or ())
    )
    return call.success([item.to_response() for item in found])


@router.operation(
    "GET",
    "/exists/{mail}",
    Action.ADDRESS_READ,
    NoParams,
    answer=AddressOwner,
    errors=["NO_SUCH_DOMAIN"],
)
async def what_an_address_is(call: OperationRequest[NoParams]) -> Response:
    """Show what an address is: an account, a further address of one, a forwarding, or free.

    Addresses of alias domains are not looked up: 404 `NO_SUCH_DOMAIN` for a global admin, 403
    `PERMISSION_DENIED` for others.
    """
    mail = call.target.mail
    found = await call.read(search.owner, mail)
    return call.success({"mail": mail, "kind": found.kind, "account": found.account or None})
