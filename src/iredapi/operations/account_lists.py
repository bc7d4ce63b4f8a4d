"""Lists of accounts in pages: of one domain, or of all domains that an admin manages."""

from __future__ import annotations

from typing import Final

from iredapi.backends.protocols.lists import MailListReader
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import canonical, lists
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.aliases import Alias
from iredapi.domain.domains import Domain
from iredapi.domain.listing import Key, ListQuery, Page, Shape
from iredapi.domain.lists import MailingList
from iredapi.domain.maillists import MailList
from iredapi.domain.users import User
from iredapi.errors import NotSupported
from iredapi.operations import accounts, pages, usage
from iredapi.operations.admins import visible
from iredapi.operations.pages import Items, Kind, Part
from iredapi.operations.usage import managed

_SAMPLE: Final = "a@b"


async def of_domain(
    unit: ReadUnit,
    kind: Kind,
    name: str,
    shape: Shape,
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return a part of a domain's list. Raises NotFound, InvalidParameters."""
    # The name as it is stored: accounts refer to their domain in this spelling.
    domain = await accounts.known_domain(unit, name)
    return await pages.read(unit, kind, [domain.name], shape, Part(query, after, limit, total))


async def of_all(
    unit: ReadUnit,
    kind: Kind,
    shape: Shape,
    query: ListQuery,
    after: Key | None,
    limit: int,
    total: bool,
) -> Page:
    """Return a part of the list over all domains that the actor manages.

    Raises InvalidParameters.
    """
    return await pages.read(unit, kind, managed(unit), shape, Part(query, after, limit, total))


async def _domains(unit: ReadUnit, names: list[str]) -> Items:
    return await unit.domains.profiles_of(names)


async def _canonical_domains(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.domains.records_of(names)
    admins = await unit.domains.admins_of([*found]) if found else {}
    return {name: canonical.domain(item, admins.get(name, ())) for name, item in found.items()}


async def _users(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.users.profiles_of(names)
    hidden = unit.rules.hidden_user_fields
    return {name: visible(item, hidden, unit.actor) for name, item in found.items()}


async def _canonical_users(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.users.records_of(names)
    hosting = await unit.domains.records_of(sorted({domain_of(mail) for mail in found}))
    names_of = {fold(name): domain.names for name, domain in hosting.items()}
    hidden = unit.rules.hidden_user_fields
    return {
        mail: canonical.without(canonical.user(item, names_of.get(domain_of(mail), ())), hidden)
        for mail, item in found.items()
    }


async def _aliases(unit: ReadUnit, names: list[str]) -> Items:
    return await unit.aliases.profiles_of(names)


async def _canonical_aliases(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.aliases.records_of(names)
    return {name: canonical.alias(item) for name, item in found.items()}


async def _lists(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.lists.records_of(names)
    return {name: lists.stored_to_response(item) for name, item in found.items()}


async def _canonical_lists(unit: ReadUnit, names: list[str]) -> Items:
    found = await unit.lists.records_of(names)
    return {name: canonical.mailing_list(item) for name, item in found.items()}


def _maillists_of(unit: ReadUnit) -> MailListReader:
    if unit.maillists is None:
        raise NotSupported
    return unit.maillists


async def _maillists(unit: ReadUnit, names: list[str]) -> Items:
    return await _maillists_of(unit).profiles_of(names)


async def _canonical_maillists(unit: ReadUnit, names: list[str]) -> Items:
    found = await _maillists_of(unit).records_of(names)
    return {name: canonical.maillist(item) for name, item in found.items()}


DOMAINS: Final = Kind(
    lambda unit: unit.domains,
    _domains,
    _canonical_domains,
    canonical.domain(Domain("b"), ()),
    usage.add_to_domains,
)
USERS: Final = Kind(
    lambda unit: unit.users,
    _users,
    _canonical_users,
    canonical.user(User(_SAMPLE), ()),
    usage.add_to_users,
    hides=True,
)
ALIASES: Final = Kind(
    lambda unit: unit.aliases, _aliases, _canonical_aliases, canonical.alias(Alias(_SAMPLE))
)
LISTS: Final = Kind(
    lambda unit: unit.lists,
    _lists,
    _canonical_lists,
    canonical.mailing_list(MailingList(_SAMPLE)),
)
MAILLISTS: Final = Kind(
    _maillists_of,
    _maillists,
    _canonical_maillists,
    canonical.maillist(MailList(_SAMPLE)),
)
