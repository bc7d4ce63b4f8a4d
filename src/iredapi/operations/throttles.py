"""Operations on throttle settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import NO_EFFECT, ReadUnit, UnitOfWork
from iredapi.domain import changed_parameters as differences
from iredapi.domain import revisions, throttles
from iredapi.domain.audit_events import Kind, policy_event
from iredapi.domain.revisions import About
from iredapi.domain.scopes import Scope
from iredapi.domain.throttles import INHERIT, Throttle
from iredapi.operations.policies import permitted, permitted_to_write

_PROFILE = "throttle"


async def profile(unit: ReadUnit, scope: Scope, direction: str) -> Profile:
    """Return the own setting of a scope; empty without one."""
    await permitted(unit, scope, _PROFILE)
    for account in scope.accounts:
        found = await unit.throttles.get(account, direction)
        if found is not None:
            fields = asdict(found)
            return {"account": account, "kind": fields.pop("direction")} | fields
    return {}


async def effective(unit: ReadUnit, scope: Scope, direction: str) -> Profile:
    """Return the effective limits of a scope."""
    await permitted(unit, scope, _PROFILE)
    rows = await unit.throttles.matching(scope.lookup_accounts, direction)
    return {
        "account": scope.account,
        "kind": direction,
        "effective": {name: _decided(name, row) for name, row in throttles.effective(rows).items()},
    }


def _decided(name: str, row: Throttle | None) -> dict[str, Any]:
    if row is None:
        return {"value": INHERIT, "period": None, "account": None}
    return {"value": row.limit(name), "period": row.period, "account": row.account}


async def update(
    unit: UnitOfWork, scope: Scope, direction: str, changes: Mapping[str, Any]
) -> None:
    """Create or change the setting of a scope.

    Limits higher than iRedAPD can count are reported as skipped (``NO_EFFECT``).
    """
    await permitted_to_write(unit, scope, _PROFILE)
    for name, largest in unit.throttles.largest_counts.items():
        if changes.get(name, 0) > largest:
            unit.skip(name, str(changes[name]), NO_EFFECT)
    there = await unit.throttles.get(scope.account, direction)
    if there is not None and throttles.revise(scope, there, changes) == there:
        unit.report_changed([])
        return
    before = await unit.throttles.claim(scope.account, direction)
    after = throttles.revise(scope, before, changes)
    await unit.throttles.save(before, after)
    different = differences.of_throttle(None if there is None else before, after)
    new = asdict(after)
    old = dict.fromkeys(new) if there is None else asdict(before)
    unit.report_changed(different, revisions.of_values, About.POLICY, old, new)
    unit.note(policy_event(Kind.IREDAPD, "throttle", scope, direction))


async def remove(unit: UnitOfWork, scope: Scope, direction: str) -> None:
    """Remove the setting of a scope; a missing setting is no error."""
    await permitted_to_write(unit, scope, _PROFILE)
    gone = [await unit.throttles.remove(account, direction) for account in scope.accounts]
    if unit.report_changed(("period", *throttles.LIMITS) if any(gone) else ()):
        unit.note(policy_event(Kind.IREDAPD, "throttle", scope, f"remove {direction}", gone=True))
