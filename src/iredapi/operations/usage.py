"""Operations that tell what domains and users use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import usage
from iredapi.domain.addresses import fold
from iredapi.domain.listing import Key, ListQuery, Page, page_of
from iredapi.operations import accounts


def managed(unit: ReadUnit) -> Collection[str] | None:
    """Return the domains that the actor manages; None: all."""
    return None if unit.actor.is_global else unit.actor.domains


async def domains(unit: ReadUnit) -> list[Profile]:
    """Return the usage of all domains that the actor manages, sorted by name."""
    return [usage.of_domain(found) for found in await unit.usage.domains(managed(unit))]


async def domain_page(
    unit: ReadUnit, query: ListQuery, after: Key | None, limit: int, total: bool
) -> Page:
    """Return the usage of the next domains that the actor manages."""
    only = managed(unit)
    keys = await unit.domains.keys(only, query, after, limit + 1)
    names = [key.name for key in keys[:limit]]
    found = {item.domain: usage.of_domain(item) for item in await unit.usage.domains(names)}
    page = page_of(keys, limit, {name: found[fold(name)] for name in names if fold(name) in found})
    return replace(page, total=await unit.domains.count(only, query)) if total else page


async def number_of_users(unit: ReadUnit, domain: str) -> int:
    """Count the users of a domain."""
    return await unit.users.count([domain], ListQuery())


async def users(unit: ReadUnit, domain: str, after: str, limit: int) -> list[Profile]:
    """Return the usage of a domain's users, after an address."""
    return [usage.of_user(found) for found in await unit.usage.users(domain, after, limit)]


async def user_page(
    unit: ReadUnit, name: str, query: ListQuery, after: Key | None, limit: int, total: bool
) -> Page:
    """Return the usage of the next users of a domain."""
    domain = (await accounts.get_domain(unit, name)).name
    keys = await unit.users.keys([domain], query, after, limit + 1)
    names = [key.name for key in keys[:limit]]
    found = await unit.usage.of_users(names)
    items = {name: usage.of_user(found[fold(name)]) for name in names if fold(name) in found}
    page = page_of(keys, limit, items)
    return replace(page, total=await unit.users.count([domain], query)) if total else page


async def add_to_users(unit: ReadUnit, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return items of a list of users, by address, with their usage."""
    found = await unit.usage.of_users([*items])
    shown = {mail: usage.of_user(item) for mail, item in found.items()}
    return {name: usage.within(item, shown.get(fold(name))) for name, item in items.items()}


async def add_to_domains(unit: ReadUnit, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return items of a list of domains, by name, with their usage."""
    shown = {item.domain: usage.of_domain(item) for item in await unit.usage.domains([*items])}
    return {name: usage.within(item, shown.get(fold(name))) for name, item in items.items()}


async def with_user(unit: ReadUnit, shown: Mapping[str, Any], mail: str) -> Profile:
    """Return a user's profile with its usage."""
    found = (await unit.usage.of_users([mail])).get(fold(mail))
    return usage.within(shown, None if found is None else usage.of_user(found))


async def with_domain(unit: ReadUnit, shown: Mapping[str, Any], name: str) -> Profile:
    """Return a domain's profile with its usage."""
    found = await unit.usage.domains([name])
    return usage.within(shown, usage.of_domain(found[0]) if found else None)
