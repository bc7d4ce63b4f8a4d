"""Operations on white- and blacklists."""

from __future__ import annotations

from iredapi.backends.unit_of_work import NO_EFFECT, ReadUnit, UnitOfWork
from iredapi.domain import sender_patterns
from iredapi.domain.addresses import fold
from iredapi.domain.audit_events import Kind as Event
from iredapi.domain.audit_events import policy_event
from iredapi.domain.scopes import Scope
from iredapi.domain.wblists import AddressList, Direction, Kind
from iredapi.operations.policies import permitted, permitted_to_write

_PROFILE = "wblist"
_PARAM = "addresses"


async def page(
    unit: ReadUnit, scope: Scope, direction: Direction, kind: Kind, after: str, limit: int
) -> list[str]:
    """Return the next addresses of a list, as they are stored."""
    await permitted(unit, scope, _PROFILE)
    return await unit.wblists.page(scope, direction, kind, after, limit)


async def add(
    unit: UnitOfWork, scope: Scope, direction: Direction, kind: Kind, addresses: AddressList
) -> None:
    """Add addresses to a list, and remove them from the opposite one.

    Addresses that iRedAPD ignores are stored and reported as skipped (``NO_EFFECT``).
    """
    await permitted_to_write(unit, scope, _PROFILE)
    for item in addresses.invalid:
        unit.skip(_PARAM, item, "INVALID_VALUE")
    if not addresses.valid:
        unit.report_changed([])
        return
    priorities = {item: sender_patterns.priority_amavisd(item) for item in addresses.valid}
    # An entry with another mark or a wider scope does not count as stored.
    there = await unit.wblists.stored(scope, direction, kind, addresses.valid, exact=True)
    different = unit.report_changed([_PARAM] if priorities.keys() - there else [])
    if different:
        await unit.wblists.add(scope, direction, kind, priorities)
    for item in addresses.valid:
        if sender_patterns.wblist_ignores(item, inbound=direction is Direction.INBOUND):
            unit.skip(_PARAM, item, NO_EFFECT)
    if different:
        _note(unit, scope, direction, kind, f"add {len(priorities)}")


async def remove(
    unit: UnitOfWork, scope: Scope, direction: Direction, kind: Kind, addresses: AddressList
) -> None:
    """Remove addresses from a list; missing ones are reported as skipped.

    Entries that other programs stored in another spelling are removed too.
    """
    await permitted_to_write(unit, scope, _PROFILE)
    there = await unit.wblists.listed(scope, direction, kind, addresses.spellings)
    names, malformed = {fold(email) for email in there}, frozenset(addresses.invalid)
    for item in addresses.items:
        if item in malformed:
            if fold(item) not in names:
                unit.skip(_PARAM, item, "INVALID_VALUE")
        elif names.isdisjoint({fold(item), sender_patterns.wblist_address(item)}):
            unit.skip(_PARAM, item, "NOT_FOUND")
    if not unit.report_changed([_PARAM] if there else []):
        return
    await unit.wblists.remove(scope, direction, kind, there)
    known = sum(fold(item) in names for item in malformed)
    _note(unit, scope, direction, kind, f"remove {len(addresses.valid) + known}")


async def clear(unit: UnitOfWork, scope: Scope, direction: Direction, kind: Kind) -> None:
    """Remove all addresses from a list, not from the other list and the other direction."""
    await permitted_to_write(unit, scope, _PROFILE)
    which = (scope, direction, kind)
    if not unit.report_changed([_PARAM] if await unit.wblists.page(*which, "", 1) else []):
        return
    await unit.wblists.clear(scope, direction, kind)
    _note(unit, scope, direction, kind, "remove all")


def _note(unit: UnitOfWork, scope: Scope, direction: Direction, kind: Kind, what: str) -> None:
    # The number only: addresses of correspondents do not belong in the log.
    unit.note(policy_event(Event.UPDATE_WBLIST, f"{direction} {kind}", scope, what))
