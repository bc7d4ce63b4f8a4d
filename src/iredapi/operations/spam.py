"""Operations on spam policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from iredapi.backends.protocols.values import Profile
from iredapi.backends.unit_of_work import ReadUnit, UnitOfWork
from iredapi.domain import changed_parameters as differences
from iredapi.domain import revisions, spam
from iredapi.domain.audit_events import Kind, policy_event
from iredapi.domain.revisions import About
from iredapi.domain.scopes import Scope
from iredapi.domain.spam import Policy
from iredapi.operations import accounts
from iredapi.operations.policies import permitted, permitted_to_write

_PROFILE = "spampolicy"


async def profile(unit: ReadUnit, scope: Scope) -> Profile:
    """Return an account's own policy; empty without one."""
    await permitted(unit, scope, _PROFILE)
    found = await unit.spam_policies.get(scope)
    if found is None:
        return {}
    return {"account": found.account, **spam.described(found.columns), "columns": found.columns}


async def effective(unit: ReadUnit, scope: Scope) -> Profile:
    """Return the effective policy of an account, and the account that each value is from."""
    await permitted(unit, scope, _PROFILE)
    return spam.effective(scope, await unit.spam_policies.layers(spam.lookups(scope)))


async def update(unit: UnitOfWork, scope: Scope, changes: Mapping[str, Any]) -> None:
    """Change an account's own policy, or create it: the parameters that were sent."""
    await permitted_to_write(unit, scope, _PROFILE)
    if not changes:
        unit.report_changed([])
        return
    before = await unit.spam_policies.claim(scope)
    after = spam.revise(before or await _draft(unit, scope), changes)
    if before is None:
        new = spam.described(after.columns)
        none = dict.fromkeys(new)
        unit.report_changed(changes, revisions.of_values, About.POLICY, none, new)
    else:
        old, new = spam.described(before.columns), spam.described(after.columns)
        different = differences.of_mapping(old, new)
        unit.report_changed(different, revisions.of_values, About.POLICY, old, new)
        if before == after:
            return
    if before is None:
        await unit.spam_policies.add(after)
    else:
        await unit.spam_policies.save(before, after)
    unit.note(policy_event(Kind.UPDATE, "spam policy", scope, accounts.parameter_names(changes)))


async def _draft(unit: UnitOfWork, scope: Scope) -> Policy:
    """Return a new policy, with the values of the other policy that the account refers to."""
    draft, referred = spam.draft(scope), await unit.spam_policies.get(scope)
    if referred is None:
        return draft
    return replace(draft, columns={**draft.columns, **referred.columns})


async def remove(unit: UnitOfWork, scope: Scope) -> None:
    """Remove an account's own policy, which then inherits one; a missing policy is no error."""
    await permitted_to_write(unit, scope, _PROFILE)
    found = await unit.spam_policies.get(scope)
    await unit.spam_policies.remove(scope)
    old = {} if found is None else spam.described(found.columns)
    if unit.report_changed(_set_in(found), revisions.of_values, About.POLICY, old):
        unit.note(policy_event(Kind.DELETE, "spam policy", scope))


def _set_in(policy: spam.Policy | None) -> list[str]:
    """Return the names of the parameters that a policy sets."""
    if policy is None:
        return []
    own = spam.described(policy.columns)
    return [name for name, value in own.items() if value not in (None, [])] or ["policy"]
