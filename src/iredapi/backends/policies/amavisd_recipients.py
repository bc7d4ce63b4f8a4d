"""Rows of ``amavisd.users``: the accounts that have a spam policy or white/blacklists.

New rows have ``policy_id`` 0 (no policy): with the column's default of 1 the global policy would
have precedence over the domain's. Rows are never deleted here: lists and policies share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from iredapi.backends.policies import tables as t
from iredapi.database.dialect import insert_ignore
from iredapi.database.repository import Repository
from iredapi.domain.scopes import Scope


@dataclass(frozen=True, slots=True)
class Recipient:
    """A row of ``users``, locked until the unit ends."""

    id: int
    policy_id: int


class AmavisdRepository(Repository):
    """Base of the repositories of Amavisd's policies."""

    name = "amavisd"

    async def lock_recipient(self, scope: Scope, *, create: bool) -> Recipient | None:
        """Lock and return an account's row; with ``create`` add it, or correct its priority.

        At most three round trips, also when another transaction adds the same row.
        """
        found = await self._locked(scope)
        if not create:
            return None if found is None else Recipient(found.id, found.policy_id)
        if found is None:
            row = {"email": scope.account, "priority": scope.amavisd_priority, "policy_id": 0}
            await self.run(insert_ignore(t.users, self.dialect), [row])
            found = await self._locked(scope)
        if found.priority != scope.amavisd_priority:
            await self.run(
                update(t.users)
                .where(t.users.c.id == found.id)
                .values(priority=scope.amavisd_priority)
            )
        return Recipient(found.id, found.policy_id)

    async def lock_all_recipients(self, scope: Scope) -> list[Recipient]:
        """Lock and return the rows of all forms of an account."""
        u = t.users.c
        found = await self.row_objects(
            select(u.id, u.policy_id)
            .where(u.email.in_(scope.accounts))
            .order_by(u.id)
            .with_for_update()
        )
        return [Recipient(row.id, row.policy_id) for row in found]

    async def _locked(self, scope: Scope) -> Any:
        u = t.users.c
        found = await self.row_objects(
            select(u.id, u.policy_id, u.priority).where(u.email == scope.account).with_for_update()
        )
        return found[0] if found else None
