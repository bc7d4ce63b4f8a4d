"""Reading accounts as records that can be imported into any storage, a part at a time.

Each operation takes what is exported and the place behind which the part begins, and needs a
constant number of statements, whatever the number of accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iredapi.backends.protocols.accounts import Listed
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import canonical
from iredapi.domain import exported_records as records
from iredapi.domain.account_records import FORMATS, Record, RecordType, ordered
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.admins import Admin
from iredapi.domain.aliases import is_wildcard
from iredapi.domain.domains import Domain
from iredapi.domain.listing import Key, ListQuery
from iredapi.domain.lists import ROLE_PARAMETERS
from iredapi.domain.users import User
from iredapi.operations import accounts

PAGE: Final = 200
"""Accounts that are read at a time."""
_MOST_LOOKED_UP: Final = 2000
"""Members that are looked up; of more all are said again."""
_IN_ORDER: Final = ListQuery()


@dataclass(frozen=True, slots=True)
class Whole:
    """What is exported: a domain, or everything."""

    domain: Domain | None = None
    """None: everything."""

    @property
    def names(self) -> list[str] | None:
        """The domains that are exported, as they are stored; None: all."""
        return None if self.domain is None else [self.domain.name]


@dataclass(frozen=True, slots=True)
class Part:
    """Some records that follow each other."""

    found: list[Any]
    """Records, or of mailing lists what the account storage has."""
    after: Any = None
    """Where the next part begins; None: this is the last one."""
    later: Sequence[Record] = ()
    """What names accounts that come later in the file, to be said again when they are there."""


Reading = Callable[[ReadUnit, Whole, Any], Coroutine[Any, Any, Part]]


async def whole(unit: ReadUnit, name: str) -> Whole:
    """Return what is exported with a domain. Raises NotFound."""
    return Whole(await accounts.get_domain(unit, name))


async def _keys(
    role: Listed, names: Collection[str] | None, after: Key | None
) -> tuple[list[str], Key | None]:
    """Return the next names of a list, and where the part behind them begins."""
    keys = await role.keys(names, _IN_ORDER, after, PAGE + 1)
    some = keys[:PAGE]
    return [key.name for key in some], some[-1] if len(keys) > PAGE else None


async def domains(unit: ReadUnit, chosen: Whole, after: Key | None) -> Part:
    """Return the next domains."""
    last: Key | None = None
    if chosen.domain is not None:
        some = [chosen.domain]
    else:
        names, last = await _keys(unit.domains, None, after)
        found = await unit.domains.records_of(names) if names else {}
        some = [found[name] for name in names if name in found]
    made = [records.domain(domain) for domain in some]
    hosting = {fold(domain.name): domain.names for domain in some}
    return Part(made, last, await waiting(unit, made, ("catchall",), hosting, passed=False))


async def admins(unit: ReadUnit, chosen: Whole, after: str | None) -> Part:
    """Return the next standalone admins: all, or those who manage the domain.

    Only to global admins: nobody else may read standalone admins.
    """
    if not unit.actor.is_global:
        return Part([])
    named = None if chosen.domain is None else fold(chosen.domain.name)
    every = {
        fold(item.admin.mail): item.admin
        for item in await unit.admins.every()
        if item.standalone and (named is None or named in map(fold, item.admin.managed_domains))
    }
    rest = sorted(mail for mail in every if mail > (after or ""))
    some, hidden = rest[:PAGE], unit.rules.hidden_admin_fields
    hashes: Mapping[str, str] = {}
    if some and _shows_hashes(unit, hidden):
        hashes = await unit.admins.hashes([every[mail].mail for mail in some])
    found = [_admin(every[mail], hashes.get(mail, ""), hidden) for mail in some]
    return Part(found, some[-1] if len(rest) > PAGE else None)


def _admin(admin: Admin, password: str, hidden: Collection[str]) -> Record:
    view = canonical.without(canonical.admin(admin), hidden)
    return records.account(RecordType.ADMIN, view, password)


def _shows_hashes(unit: ReadUnit, hidden: Collection[str]) -> bool:
    return unit.actor.sees_hashes and not {"password", "userpassword"} & {
        name.lower() for name in hidden
    }


async def users(unit: ReadUnit, chosen: Whole, after: Key | None) -> Part:
    """Return the next mail users."""
    names, last = await _keys(unit.users, chosen.names, after)
    found = await unit.users.records_of(names) if names else {}
    hosting = await _hosting(unit, chosen, found)
    hidden = unit.rules.hidden_user_fields
    with_hash = _shows_hashes(unit, hidden)
    made = [
        _user(unit, found[name], hosting.get(domain_of(fold(name)), ()), with_hash=with_hash)
        for name in names
        if name in found
    ]
    return Part(made, last, await waiting(unit, made, ("forwarding",), hosting, passed=False))


async def _hosting(
    unit: ReadUnit, chosen: Whole, found: Collection[str]
) -> Mapping[str, Collection[str]]:
    """Return the names of the domains of some addresses: their own, and those of alias domains."""
    if chosen.domain is not None:
        return {fold(chosen.domain.name): chosen.domain.names}
    named = sorted({domain_of(fold(mail)) for mail in found})
    hosting = await unit.domains.records_of(named) if named else {}
    return {fold(name): domain.names for name, domain in hosting.items()}


def _user(unit: ReadUnit, user: User, names: Collection[str], *, with_hash: bool) -> Record:
    view = records.user_view(user, names, unit.features)
    if not unit.actor.is_global:
        # Rights in domains of others are nobody else's business.
        view["managedDomains"] = [d for d in view["managedDomains"] if unit.actor.manages(d)]
    view = canonical.without(view, unit.rules.hidden_user_fields)
    return records.account(RecordType.USER, view, user.password if with_hash else "")


async def aliases(unit: ReadUnit, chosen: Whole, after: Key | None) -> Part:
    """Return the next alias accounts."""
    names, last = await _keys(unit.aliases, chosen.names, after)
    found = await unit.aliases.records_of(names) if names else {}
    views = [records.alias_view(found[name], unit.features) for name in names if name in found]
    made = [records.account(RecordType.ALIAS, view) for view in views]
    hosting = await _hosting(unit, chosen, found)
    return Part(made, last, await waiting(unit, made, ("members", "moderators"), hosting))


async def lists(unit: ReadUnit, chosen: Whole, after: Key | None) -> Part:
    """Return the next subscribable lists (``MailingList``), without the list server's part."""
    names, last = await _keys(unit.lists, chosen.names, after)
    found = await unit.lists.records_of(names) if names else {}
    some = [found[name] for name in names if name in found]
    made = [
        {"type": RecordType.ML, "mail": fold(item.address), **dict.fromkeys(ROLE_PARAMETERS, ())}
        | {"owner": item.owners, "moderators": item.moderators}
        for item in some
    ]
    hosting = await _hosting(unit, chosen, found)
    return Part(some, last, await waiting(unit, made, ROLE_PARAMETERS, hosting))


async def maillists(unit: ReadUnit, chosen: Whole, after: Key | None) -> Part:
    """Return the next unsubscribable lists; none where the storage has no such lists."""
    if unit.maillists is None:
        return Part([])
    names, last = await _keys(unit.maillists, chosen.names, after)
    found = await unit.maillists.records_of(names) if names else {}
    views = [canonical.maillist(found[name]) for name in names if name in found]
    made = [records.account(RecordType.MAILLIST, view) for view in views]
    hosting = await _hosting(unit, chosen, found)
    return Part(made, last, await waiting(unit, made, ("members",), hosting))


async def waiting(
    unit: ReadUnit,
    made: Sequence[Record],
    keys: Sequence[str],
    hosting: Mapping[str, Collection[str]],
    *,
    passed: bool = True,
) -> list[Record]:
    """Return those values again that name accounts of the own domain which come later.

    An import leaves out members of the own domain that do not exist yet. ``hosting`` are the names
    of each domain, ``passed`` whether all users have been told.
    """

    def own(record: Record, key: str) -> set[str]:
        name = fold(record.get("mail") or record["domain"])
        names = hosting.get(domain_of(name), ())
        mails = {mail for mail in map(fold, record.get(key, ())) if domain_of(mail) in names}
        return {mail for mail in mails - {name} if not is_wildcard(mail)}

    candidates = {mail for record in made for key in keys for mail in own(record, key)}
    there: Collection[str] = ()
    if passed and 0 < len(candidates) <= _MOST_LOOKED_UP:
        there = await unit.admins.exists(candidates)
    found: list[Record] = []
    for record in made:
        values = {key: record[key] for key in keys if not own(record, key) <= {*there}}
        if values:
            kind = RecordType(record["type"])
            named = {key: record[key] for key in FORMATS[kind].names}
            found.append(ordered(kind, named | values))
    return found
