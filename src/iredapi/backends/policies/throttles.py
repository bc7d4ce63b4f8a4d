"""Throttles in ``iredapd``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, delete, insert, select, update

from iredapi.backends.policies import tables as t
from iredapi.backends.policies.accounts_within import behind, within
from iredapi.backends.policies.iredapd import IredapdRepository
from iredapi.database.column_types import MYSQL
from iredapi.domain.throttles import LIMITS, Throttle

_MYSQL_COUNTS: Final[Mapping[str, int]] = MappingProxyType(
    {"max_msgs": 2**24 - 1, "max_quota": 2**32 - 1}
)
"""MySQL: ``throttle_tracking.cur_msgs`` is MEDIUMINT UNSIGNED, ``cur_quota`` INT UNSIGNED."""


class SqlThrottles(IredapdRepository):
    """See ``protocols.policies.Throttles``."""

    @property
    def largest_counts(self) -> Mapping[str, int]:
        return _MYSQL_COUNTS if self.dialect in MYSQL else {}

    async def get(self, account: str, direction: str) -> Throttle | None:
        rows = await self.rows(_by_priority(*_key([account], direction)))
        return _record(rows[0]) if rows else None

    async def matching(self, accounts: Collection[str], direction: str) -> list[Throttle]:
        return [_record(row) for row in await self.rows(_by_priority(*_key(accounts, direction)))]

    async def within(
        self, domains: Collection[str] | None, after: tuple[str, str], limit: int
    ) -> list[Throttle]:
        c = t.throttle.c
        rows = await self.rows(
            select(t.throttle)
            .where(within(c.account, domains), behind(c.account, c.kind, after))
            .order_by(c.account, c.kind, c.priority.desc(), c.id)
            .limit(limit)
        )
        return [_record(row) for row in rows]

    async def claim(self, account: str, direction: str) -> Throttle:
        await self.lock_name("throttle", account, direction)
        chosen = _by_priority(*_key([account], direction)).with_for_update()
        rows = await self.rows(chosen)
        if not rows:
            new = {"account": account, "kind": direction}
            if self.dialect == "postgresql":
                await self.run(insert(t.throttle).values(new))
            else:
                await self.insert_missing(t.throttle, [new])
            rows = await self.rows(chosen)
        # Without a unique key on PostgreSQL, other tools may have stored the account twice.
        await self._remove_rows([row["id"] for row in rows[1:]])
        return _record(rows[0])

    async def save(self, before: Throttle, after: Throttle) -> None:
        old, new = _values(before), _values(after)
        changed = {name: value for name, value in new.items() if old[name] != value}
        if changed:
            where = _key([before.account], before.direction)
            await self.run(update(t.throttle).where(*where).values(changed))

    async def remove(self, account: str, direction: str) -> bool:
        await self.lock_name("throttle", account, direction)
        where = _key([account], direction)
        found = await self.column(select(t.throttle.c.id).where(*where).with_for_update())
        await self._remove_rows(found)
        return bool(found)

    async def _remove_rows(self, ids: Collection[int]) -> None:
        # iRedAPD's counters refer to their throttle, and the foreign key does not cascade. The
        # throttle is locked, so iRedAPD cannot add a counter meanwhile.
        if ids:
            await self.run(delete(t.throttle_tracking).where(t.throttle_tracking.c.tid.in_(ids)))
            await self.run(delete(t.throttle).where(t.throttle.c.id.in_(ids)))


def _key(accounts: Collection[str], direction: str) -> tuple[ColumnElement[bool], ...]:
    return t.throttle.c.account.in_(accounts), t.throttle.c.kind == direction


def _by_priority(*where: ColumnElement[bool]) -> Select[Any]:
    return select(t.throttle).where(*where).order_by(t.throttle.c.priority.desc(), t.throttle.c.id)


def _record(row: Mapping[str, Any]) -> Throttle:
    return Throttle(
        row["account"],
        row["kind"],
        row["priority"],
        row["period"],
        **{name: row[name] for name in LIMITS},
    )


def _values(record: Throttle) -> dict[str, Any]:
    values = asdict(record)
    values["kind"] = values.pop("direction")
    return values
