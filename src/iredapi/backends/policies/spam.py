"""Spam policies in ``amavisd.policy``, linked from ``users``.

A policy is an account's own when its ``users`` row refers to it *and* it has the account's name.
With only one of these it may be another account's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, delete, insert, or_, select, update

from iredapi.backends.policies import tables as t
from iredapi.backends.policies.accounts_within import within
from iredapi.backends.policies.amavisd_recipients import AmavisdRepository
from iredapi.domain.scopes import Kind, Scope
from iredapi.domain.sender_patterns import EVERYBODY
from iredapi.domain.spam import SCORE_DIGITS, Policy

_KEYS = frozenset({"id", "policy_name"})


class SqlSpamPolicies(AmavisdRepository):
    """See ``protocols.policies.SpamPolicies``."""

    async def get(self, scope: Scope) -> Policy | None:
        u, p = t.users.c, t.policy.c
        found = await self.row_objects(
            select(u.email, p.policy_name, *await self._columns())
            .join_from(t.users, t.policy, p.id == u.policy_id)
            .where(u.email.in_(scope.accounts))
        )
        # Amavisd reads the id and no name, so an account may use another one's policy. The global
        # policy is the column's default: it does not count as a policy of the account.
        found = sorted(
            (row for row in found if row.policy_name != EVERYBODY or scope.kind is Kind.GLOBAL),
            key=lambda row: scope.accounts.index(row.email),
        )
        if not found:
            return None
        return Policy(found[0].policy_name or "", _values(found[0]._mapping))

    async def claim(self, scope: Scope) -> Policy | None:
        recipient = await self.lock_recipient(scope, create=True)
        if recipient is None or not recipient.policy_id:
            return None
        p = t.policy.c
        found = await self.row_objects(
            select(p.policy_name, *await self._columns())
            .where(p.id == recipient.policy_id)
            .with_for_update()
        )
        return _own(scope, found)

    async def save(self, before: Policy, after: Policy) -> None:
        new = {
            name: value
            for name, value in after.columns.items()
            if before.columns.get(name) != value
        }
        if new:
            await self.run(
                update(t.policy).where(t.policy.c.policy_name == after.account).values(new)
            )

    async def add(self, policy: Policy) -> None:
        p = t.policy.c
        values: dict[str, Any] = dict.fromkeys((c.name for c in await self._columns()), None)
        # An unlinked policy of that name had no effect: all its values are overwritten.
        values |= {**policy.columns, "policy_name": policy.account}
        named = select(p.id).where(p.policy_name == policy.account)
        found = await self.row_objects(named)
        if found:
            await self.run(update(t.policy).where(p.id == found[0].id).values(values))
        else:
            await self.run(insert(t.policy).values(values))
            found = await self.row_objects(named)
        await self.run(
            update(t.users).where(t.users.c.email == policy.account).values(policy_id=found[0].id)
        )

    async def remove(self, scope: Scope) -> None:
        await self.lock_recipient(scope, create=False)
        u, p = t.users.c, t.policy.c
        named = select(p.id).where(p.policy_name.in_(scope.accounts))
        # Unlinked first: no account may refer to a policy that does not exist.
        await self.run(
            update(t.users)
            .where(or_(u.email.in_(scope.accounts), u.policy_id.in_(named)))
            .values(policy_id=0)
        )
        await self.run(delete(t.policy).where(p.policy_name.in_(scope.accounts)))

    async def layers(self, accounts: Sequence[str]) -> list[Policy]:
        u, p = t.users.c, t.policy.c
        rows = await self.row_objects(
            select(u.email, u.priority, *await self._columns())
            .join_from(t.users, t.policy, p.id == u.policy_id)
            .where(u.email.in_(accounts))
        )
        # Of two with equal priority Amavisd uses either; here it is the more specific one.
        ordered = sorted(rows, key=lambda row: (-row.priority, accounts.index(row.email)))
        return [Policy(row.email, _values(row._mapping)) for row in ordered]

    async def within(self, domains: Collection[str] | None, after: str, limit: int) -> list[Policy]:
        u, p = t.users.c, t.policy.c
        # As in ``get``: the global policy is the column's default, and counts as the global one.
        own = or_(p.policy_name != EVERYBODY, u.email == EVERYBODY)
        rows = await self.row_objects(
            select(u.email, *await self._columns())
            .join_from(t.users, t.policy, p.id == u.policy_id)
            .where(within(u.email, domains), own, u.email > after)
            .order_by(u.email)
            .limit(limit)
        )
        return [Policy(row.email, _values(row._mapping)) for row in rows]

    async def _columns(self) -> list[Column[Any]]:
        schema = await self._connections.databases["amavisd"].schema()
        return [column for column in schema.columns(t.policy) if column.name not in _KEYS]


def _own(scope: Scope, rows: Sequence[Any]) -> Policy | None:
    # Names are compared here: MySQL's comparison ignores case.
    own = [row for row in rows if row.policy_name == scope.account]
    return Policy(scope.account, _values(own[0]._mapping)) if own else None


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {*_KEYS, "email", "priority"}
    return {str(name): _value(value) for name, value in row.items() if name not in hidden}


def _value(value: Any) -> Any:
    return round(value, SCORE_DIGITS) if isinstance(value, float) else value
