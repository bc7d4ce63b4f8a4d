"""Operations on unsubscribable mailing lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iredapi.backends.protocols.lists import MailListReader, MailLists
from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import canonical, domains, limits, maillists, revisions
from iredapi.domain import changed_parameters as differences
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.audit_events import Kind, Subject, account_event
from iredapi.domain.domains import Domain
from iredapi.errors import NotFound, NotSupported
from iredapi.operations import accounts
from iredapi.operations.preconditions import state_of

_NOUN = "mailing list"
_MEMBERS = ("members", "add_member", "remove_member")


def _reader(unit: ReadUnit) -> MailListReader:
    if unit.maillists is None:
        raise NotSupported
    return unit.maillists


def _lists(unit: UnitOfWork) -> MailLists:
    if unit.maillists is None:
        raise NotSupported
    return unit.maillists


async def profile(unit: ReadUnit, address: str) -> Profile:
    """Return a list's profile."""
    found = await _reader(unit).profile(address)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    unit.state = state_of(found)
    return found


async def canonical_view(unit: ReadUnit, address: str) -> canonical.CanonicalView:
    """Return the canonical view of a list."""
    found = await _reader(unit).get(address)
    if found is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    view = canonical.maillist(found)
    unit.state = state_of(view)
    return view


async def create(unit: UnitOfWork, address: str, changes: Mapping[str, Any]) -> None:
    """Create a list."""
    lists = _lists(unit)
    domain = await accounts.claim_domain(unit, domain_of(address))
    await accounts.refuse_if_in_use(unit, address, domain)
    if domain.lists:
        usage = await unit.domains.usage(domain.name)
        limits.check_account_limit(domain.lists, usage.lists)
    changes = await _with_primaries(unit, domain, changes)
    accounts.skip_absent(unit, (), changes, "remove_member")
    await lists.add(maillists.draft(address, changes, domain))
    unit.note(account_event(Kind.CREATE, _NOUN, address, subject=Subject.MAILLIST))


async def update(unit: UnitOfWork, address: str, changes: Mapping[str, Any]) -> None:
    """Change a list: the parameters that were sent."""
    lists = _lists(unit)
    domain = await accounts.claim_domain(unit, domain_of(address), share=True)
    before = await lists.claim(address)
    if before is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    changes = await _with_primaries(unit, domain, changes)
    accounts.skip_absent(unit, before.members, changes, "remove_member")
    after = maillists.revise(before, changes, domain)
    different = differences.of_alias(before, after)
    if not unit.report_changed(different, revisions.of_alias, before, after):
        return
    await lists.save(before, after)
    sent = accounts.parameter_names(changes)
    unit.note(account_event(Kind.UPDATE, _NOUN, address, sent, Subject.MAILLIST))


async def _with_primaries(
    unit: UnitOfWork, domain: Domain, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Replace members in the own domain by their primary addresses; skip unknown ones."""
    kept = dict(changes)
    asked = {
        address: _lookups(address, domain)
        for param in _MEMBERS
        for address in changes.get(param, ())
        if domain_of(address) in domain.names
    }
    if not asked:
        return kept
    wanted = {name for names in asked.values() for name in names}
    primaries = await _lists(unit).primaries(domain.name, wanted)
    found = {
        address: next((primaries[name] for name in names if name in primaries), "")
        for address, names in asked.items()
    }
    for param in _MEMBERS:
        if param not in changes:
            continue
        members = []
        for address in changes[param]:
            if found.get(address, address):
                members.append(found.get(address, address))
            elif param == "remove_member":
                members.append(address)
            else:
                unit.skip(param, address, "NO_SUCH_ACCOUNT")
        kept[param] = tuple(members)
    return kept


def _lookups(address: str, domain: Domain) -> tuple[str, ...]:
    """Return the addresses under which an account may be stored, without its extension."""
    local = local_part_of(address).partition("+")[0]
    return (f"{local}@{domain_of(address)}", f"{local}@{domain.name}")


async def remove(unit: UnitOfWork, address: str) -> None:
    """Remove a list; its members stay."""
    # The exclusive lock keeps other requests from adding references to the list.
    domain = await unit.domains.claim(domain_of(address))
    if await _lists(unit).claim(address) is None:
        raise NotFound("NO_SUCH_ACCOUNT")
    await _lists(unit).remove(address)
    if domain is not None:
        await unit.domains.save(domain, domains.replace_in_defaults(domain, address))
    await unit.related_data.remove_account_data(address)
    unit.note(account_event(Kind.DELETE, _NOUN, address, subject=Subject.MAILLIST))
