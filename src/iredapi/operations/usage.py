"""Operations that tell what domains and users use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import usage
from iredapi.domain.addresses import fold
from iredapi.domain.domains import Domain
from iredapi.domain.listing import Key, ListQuery, Page, page_of
from iredapi.domain.usage import DomainUsage, Sums, UserUsage
from iredapi.operations import accounts

STORED = "stored"
"""Key of a row: the name as it is stored, after which the next rows are read."""


def managed(unit: ReadUnit) -> Collection[str] | None:
    """Return the domains that the actor manages; None: all."""
    return None if unit.actor.is_global else unit.actor.domains


def _of_user(unit: ReadUnit, found: UserUsage) -> Profile:
    return usage.of_user(found, unit.rules.hidden_user_fields)


def _of_domain(unit: ReadUnit, found: DomainUsage) -> Profile:
    return usage.of_domain(found, unit.rules.hidden_user_fields)


async def columns(unit: ReadUnit, *, of_users: bool) -> list[str]:
    """Return the columns of a table that are not hidden."""
    return usage.columns(of_users=of_users, hidden=unit.rules.hidden_user_fields)


async def strays(unit: ReadUnit) -> Mapping[str, Sums]:
    """Return what ``domains`` adds to the domains of these names."""
    return await unit.usage.strays(managed(unit))


async def domains(
    unit: ReadUnit, after: str, limit: int, strays: Mapping[str, Sums]
) -> list[Profile]:
    """Return the usage of the next domains that the actor manages, each with its ``STORED`` name.

    They are sorted as the storage sorts names.
    """
    found = await unit.usage.domains(managed(unit), after, limit, strays)
    return [{**_of_domain(unit, item), STORED: item.stored} for item in found]


async def totals(unit: ReadUnit) -> Mapping[str, Sums]:
    """Return the numbers of users, quotas (MB) and sizes (bytes) of all domains, by folded name."""
    return await unit.usage.totals()


async def number_of_domains(unit: ReadUnit) -> int:
    """Count the domains that the actor manages."""
    return await unit.domains.count(managed(unit), ListQuery())


async def domain_page(
    unit: ReadUnit, query: ListQuery, after: Key | None, limit: int, total: bool
) -> Page:
    """Return the usage of the next domains that the actor manages."""
    only = managed(unit)
    keys = await unit.domains.keys(only, query, after, limit + 1)
    names = [key.name for key in keys[:limit]]
    found = {item.stored: _of_domain(unit, item) for item in await unit.usage.of_domains(names)}
    page = page_of(keys, limit, found)
    return replace(page, total=await unit.domains.count(only, query)) if total else page


async def number_of_users(unit: ReadUnit, domain: str) -> int:
    """Count the users of a domain."""
    return await unit.users.count([domain], ListQuery())


async def spelled_domain(unit: ReadUnit, name: str) -> tuple[Domain, Sequence[str]]:
    """Return a domain, and how its users' rows spell its name. Raises NotFound."""
    domain = await accounts.known_domain(unit, name)
    return domain, await unit.usage.spellings(domain.name)


async def users(
    unit: ReadUnit, spelled: Sequence[str], after: str, limit: int, *, active: bool
) -> list[Profile]:
    """Return the usage of a domain's users, after an address."""
    found = await unit.usage.users(spelled, after, limit, active=active)
    return [{**_of_user(unit, item), STORED: item.mail} for item in found]


async def user_page(
    unit: ReadUnit, name: str, query: ListQuery, after: Key | None, limit: int, total: bool
) -> Page:
    """Return the usage of the next users of a domain."""
    domain = (await accounts.known_domain(unit, name)).name
    keys = await unit.users.keys([domain], query, after, limit + 1)
    names = [key.name for key in keys[:limit]]
    found = await unit.usage.of_users(names)
    items = {name: _of_user(unit, found[fold(name)]) for name in names if fold(name) in found}
    page = page_of(keys, limit, items)
    return replace(page, total=await unit.users.count([domain], query)) if total else page


async def add_to_users(unit: ReadUnit, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return items of a list of users, by address, with their usage."""
    found = await unit.usage.of_users([*items])
    shown = {mail: _of_user(unit, item) for mail, item in found.items()}
    return {name: usage.within(item, shown.get(fold(name))) for name, item in items.items()}


async def add_to_domains(unit: ReadUnit, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return items of a list of domains, by name, with their usage."""
    found = await unit.usage.of_domains([*items])
    shown = {item.stored: _of_domain(unit, item) for item in found}
    return {name: usage.within(item, shown.get(name)) for name, item in items.items()}


async def with_user(unit: ReadUnit, shown: Mapping[str, Any], mail: str) -> Profile:
    """Return a user's profile with its usage."""
    found = (await unit.usage.of_users([mail])).get(fold(mail))
    if found is None and (user := await unit.users.get(mail)) is not None:
        # It is stored in another spelling.
        found = (await unit.usage.of_users([user.mail])).get(fold(user.mail))
    return usage.within(shown, None if found is None else _of_user(unit, found))


async def with_domain(unit: ReadUnit, shown: Mapping[str, Any], name: str) -> Profile:
    """Return a domain's profile with its usage."""
    domain = await unit.domains.get(name)
    found = [] if domain is None else await unit.usage.of_domains([domain.name])
    return usage.within(shown, _of_domain(unit, found[0]) if found else None)
