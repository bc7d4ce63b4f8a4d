"""``deleted_mailboxes``: the queue of iRedMail's job that removes mailboxes from disk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    false,
    func,
    literal_column,
    select,
    type_coerce,
    update,
)

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.mailbox_paths import normalised
from iredapi.backends.sql.spelled_columns import SpellingRepository
from iredapi.database.column_types import MYSQL
from iredapi.database.live_schema import Schema
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import fold
from iredapi.domain.deleted_mailboxes import DeletedMailbox, Wanted
from iredapi.state.guarded_mailboxes import GuardedMailboxes

_AHEAD_OF_UTC: Final = {
    "postgresql": (
        "GREATEST(LOCALTIMESTAMP - (CURRENT_TIMESTAMP AT TIME ZONE 'UTC'), INTERVAL '0')"
    ),
    "mysql": (
        "INTERVAL GREATEST(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), CURRENT_TIMESTAMP()), 0) SECOND"
    ),
}
"""By how much the time of the database is ahead of UTC; nothing where it is behind."""


class SqlDeletedMailboxes(SpellingRepository):
    """See ``protocols.deleted_mailboxes.DeletedMailboxes``."""

    name = "vmail"

    def __init__(
        self, connections: Connections, guarded: GuardedMailboxes, schema: Schema | None = None
    ) -> None:
        super().__init__(connections, schema)
        self._guarded = guarded

    async def is_guarded(self, path: str) -> bool:
        return await self._guarded.has(path)

    async def guard(self, path: str) -> None:
        await self._guarded.add(path)

    async def page(self, wanted: Wanted, after: int, limit: int) -> list[DeletedMailbox]:
        q = t.deleted_mailboxes.c
        statement = await self._select(wanted, q.id > after)
        if statement is None:
            return []
        return [_record(row) for row in await self.rows(statement.order_by(q.id).limit(limit))]

    async def count(self, wanted: Wanted) -> int:
        statement = await self._select(wanted)
        if statement is None:
            return 0
        chosen = statement.with_only_columns(
            func.count().label("number"), maintain_column_froms=True
        )
        return int((await self.rows(chosen))[0]["number"])

    async def claim(self, wanted: Wanted, number: int) -> DeletedMailbox | None:
        statement = await self._select(wanted, t.deleted_mailboxes.c.id == number)
        rows = () if statement is None else await self.rows(statement.with_for_update())
        return next((_record(row) for row in rows), None)

    async def set_date(self, box: DeletedMailbox, day: date | None) -> None:
        q = t.deleted_mailboxes.c
        path = box.path.lower().replace("//", "/").rstrip("/")
        await self.run(
            update(t.deleted_mailboxes)
            .where(is_like(q.domain, [box.domain]), normalised(q.maildir).in_([path, f"{path}/"]))
            .values(delete_date=day)
        )

    async def _select(self, wanted: Wanted, *where: ColumnElement[bool]) -> Select[Any] | None:
        """Return the SELECT of the chosen rows; None: the server has no such table."""
        # Raises NotSupported where the database is not configured.
        schema = self.schema or await self.database.schema()
        if not schema.has(t.deleted_mailboxes):
            return None
        q, chosen = t.deleted_mailboxes.c, list(where)
        if wanted.domains is not None:
            own = await self.like(q.domain, wanted.domains) if wanted.domains else false()
            chosen.append(own)
        if wanted.of_present_owner:
            chosen.append(await self._since_creation(wanted))
        if wanted.mail:
            chosen.append(await self.like(q.username, [wanted.mail]))
        if wanted.deleted_by:
            chosen.append(await self.like(q.admin, [wanted.deleted_by]))
        if wanted.due_before is not None:
            chosen.append(q.delete_date < wanted.due_before)
        if wanted.kept is not None:
            chosen.append(q.delete_date.is_(None) if wanted.kept else q.delete_date.is_not(None))
        return select(*schema.columns(t.deleted_mailboxes)).where(*chosen)

    async def _since_creation(self, wanted: Wanted) -> ColumnElement[bool]:
        """Match rows that are later than the creation of their domain, a time in UTC."""
        del wanted
        q, d = t.deleted_mailboxes.c, t.domain.c
        return select(d.domain).where(d.domain == q.domain, d.created < self.earliest()).exists()

    def earliest(self) -> ColumnElement[datetime]:
        """Return the earliest time (UTC) at which a row may have been made.

        This service writes UTC. iRedAdmin leaves the time to the database, which has a time zone.
        """
        column = t.deleted_mailboxes.c.timestamp
        if self.dialect == "sqlite":
            return column
        ahead = _AHEAD_OF_UTC["mysql" if self.dialect in MYSQL else self.dialect]
        return type_coerce(column.op("-")(literal_column(ahead)), column.type)


def _record(row: Mapping[str, Any]) -> DeletedMailbox:
    moment, day = row["timestamp"], row["delete_date"]
    return DeletedMailbox(
        id=int(row["id"]),
        mail=fold(row["username"]),
        domain=fold(row["domain"]),
        path=row["maildir"],
        stored_bytes=int(row.get("bytes") or 0),
        stored_messages=int(row.get("messages") or 0),
        deleted_by=row["admin"],
        deleted_at=moment if isinstance(moment, datetime) else None,
        delete_date=day if isinstance(day, date) else None,
    )
