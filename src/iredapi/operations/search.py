"""Searches over all kinds of accounts of the domains that an admin manages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast

from iredapi.backends.protocols.accounts import Listed
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import hidden_fields
from iredapi.domain.addresses import InvalidAddress, domain_of, fold, local_part_of, new_account
from iredapi.domain.listing import ListQuery
from iredapi.domain.search import KINDS, Found, Owner, in_order
from iredapi.errors import NotSupported, problem
from iredapi.operations import accounts
from iredapi.operations.usage import managed

_Records = Callable[[list[str]], Awaitable[Mapping[str, Any]]]


async def search(unit: ReadUnit, text: str, limit: int, kinds: Collection[str]) -> list[Found]:
    """Return at most ``limit`` results; no kinds: of all. A constant number of statements."""
    found: list[Found] = []
    for kind, role in _roles(unit).items():
        if not kinds or kind in kinds:
            found += await _of_kind(unit, kind, role, text, limit)
    return in_order(found)[:limit]


def _roles(unit: ReadUnit) -> dict[str, Listed]:
    roles: dict[str, Listed | None] = {
        "domain": unit.domains,
        "user": unit.users,
        "alias": unit.aliases,
        "ml": unit.lists,
        "maillist": unit.maillists,
    }
    return {kind: role for kind in KINDS if (role := roles[kind]) is not None}


async def _of_kind(unit: ReadUnit, kind: str, role: Listed, text: str, limit: int) -> list[Found]:
    domains, wanted = managed(unit), fold(text)
    query = ListQuery(search=text)
    hidden: Collection[str] = ()
    if kind == "user":
        hidden = unit.rules.hidden_user_fields
        query = hidden_fields.permitted(query, hidden)
    try:
        keys = await role.keys(domains, query, None, limit)
    except NotSupported:
        return []  # the tables of older servers have no such accounts
    names = [key.name for key in keys]
    if len(keys) == limit and _is_visible(kind, wanted, domains):
        # An exact match may come after the last one that was read.
        names.append(wanted)
    if not names:
        return []
    read = cast("_Records", role.records_of)  # type: ignore[attr-defined]
    return [
        Found(
            kind,
            name,
            "" if "name" in hidden else item.description if kind == "domain" else item.name,
            None if "accountstatus" in hidden else item.active,
            exact=fold(name) == wanted,
        )
        for name, item in (await read(names)).items()
    ]


def _is_visible(kind: str, name: str, domains: Collection[str] | None) -> bool:
    """Return whether a name is that of an account of these domains."""
    if kind == "domain":
        return domains is None or name in domains
    return "@" in name and (domains is None or domain_of(name) in domains)


async def owner(unit: ReadUnit, address: str) -> Owner:
    """Return what an address of a domain is.

    Raises NotFound ``NO_SUCH_DOMAIN``; InvalidParameters when nobody has the address and no new
    account can have it.
    """
    domain = await accounts.get_domain(unit, domain_of(address))
    found = await unit.addresses.owner(address)
    if found.kind == "free":
        others = domain.alias_addresses(address)
        if others and await unit.addresses.in_use(sorted(others)):
            return Owner("forwarding")
        if await unit.admins.exists([address]):
            return Owner("admin", fold(address))
    if found.kind == "free" or not local_part_of(address):
        # Without a local part it is the entry of the domain's catch-all in LDAP.
        try:
            new_account(address)
        except InvalidAddress as error:
            raise problem("mail", "INVALID_MAIL", str(error)) from None
    if found.account and not unit.actor.manages_account(found.account):
        return Owner(found.kind)  # a further address of somebody in another domain
    return found
