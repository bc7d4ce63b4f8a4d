"""Lists of all admins, and of the alias domains of all domains that an admin manages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import hidden_fields, inventory, listing
from iredapi.domain.addresses import local_part_of
from iredapi.domain.admins import Admin
from iredapi.domain.inventory import AliasDomain, AnyAdmin, Row
from iredapi.domain.limits import Allocation
from iredapi.domain.listing import Key, ListQuery, Page, page_of
from iredapi.operations.usage import managed

ADMIN_FIELDS = frozenset(AnyAdmin(Admin("a@b"), standalone=True).to_response({}, ()))
ALIAS_DOMAIN_FIELDS = frozenset(AliasDomain("a", "b", active=True).to_response())


async def admins(
    unit: ReadUnit,
    fields: Sequence[str],
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return the next admins of both kinds. A constant number of statements.

    Raises InvalidParameters when ``fields`` names what no item has.
    """
    listing.check_fields(fields, ADMIN_FIELDS)
    every = {item.admin.mail: item for item in await unit.admins.every()}
    rules = unit.rules
    hidden = {True: rules.hidden_admin_fields, False: rules.hidden_user_fields}
    for names in hidden.values():
        hidden_fields.permitted(query, names)

    def row(mail: str, item: AnyAdmin) -> Row:
        # LDAP has to store a name: the local part stands for none.
        name = item.admin.name or local_part_of(mail)
        if "name" in hidden[item.standalone]:
            name = ""
        value = name.lower() if query.sort == "name" else ""
        return Row(mail, (mail, name), item.admin.active, value)

    rows = inventory.chosen((row(mail, item) for mail, item in every.items()), query)
    keys = inventory.keys_after(rows, query, after, limit + 1)
    some = [every[key.name] for key in keys[:limit]]
    allocations = await _allocations(unit, some)
    items = {
        item.admin.mail: item.to_response(allocations, hidden[item.standalone]) for item in some
    }
    return _page(keys, limit, items, len(rows) if total else None)


async def _allocations(unit: ReadUnit, some: Sequence[AnyAdmin]) -> Mapping[str, Allocation]:
    names = sorted({name for item in some for name in item.admin.managed_domains})
    found = await unit.domains.records_of(names) if names else {}
    return {name: domain.allocation for name, domain in found.items()}


async def alias_domains(
    unit: ReadUnit,
    fields: Sequence[str],
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return the next alias domains of the domains that the actor manages.

    Raises InvalidParameters when ``fields`` names what no item has.
    """
    listing.check_fields(fields, ALIAS_DOMAIN_FIELDS)
    only = managed(unit)
    every = {item.name: item for item in await unit.domains.alias_domains(only)}
    rows = inventory.chosen(
        (
            Row(name, (name, item.target), item.active, _target(item, query))
            for name, item in every.items()
        ),
        query,
    )
    keys = inventory.keys_after(rows, query, after, limit + 1)
    items = {key.name: every[key.name].to_response() for key in keys[:limit]}
    return _page(keys, limit, items, len(rows) if total else None)


def _target(item: AliasDomain, query: ListQuery) -> str:
    return item.target if query.sort == "target" else ""


def _page(keys: Sequence[Key], limit: int, items: Mapping[str, Any], total: int | None) -> Page:
    return replace(page_of(keys, limit, items), total=total)
