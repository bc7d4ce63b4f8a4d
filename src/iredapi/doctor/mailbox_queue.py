"""A check of ``deleted_mailboxes``, the queue of iRedMail's job that deletes mailboxes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.sql import tables as t
from iredapi.doctor.probes import Delete, Row, SqlProbe
from iredapi.doctor.vmail_conditions import normalized_path

Owners = Callable[[AsyncConnection, Collection[str]], Awaitable[dict[str, str]]]
"""Finds the users whose mailboxes are some directories: directory → address.

Directories are in lower case, without a slash at their end.
"""


class QueuedMailboxes:
    """Finds rows of ``deleted_mailboxes`` that name the mailbox of an existing user.

    Only rows with a ``delete_date``: the job deletes no others.
    """

    code = "MAILBOX_IN_REMOVAL_QUEUE"
    fixable = True
    by_name = False

    def __init__(self, database: str, owners: Owners) -> None:
        q = t.deleted_mailboxes
        self.database = database
        self._owners = owners
        self._inner = SqlProbe(
            self.code,
            self.database,
            select(normalized_path(q.c.maildir).label("subject")).where(
                q.c.delete_date.is_not(None)
            ),
            (q.c.id,),
            Delete(q, (q.c.id,)),
        )

    @property
    def removes(self) -> Table | None:
        """See ``Probe``."""
        return t.deleted_mailboxes

    async def number(self, connection: Any, rows: Any) -> int:
        """See ``Probe``."""
        return await self._inner.number(connection, rows)

    async def page(self, connection: Any, after: Any) -> tuple[list[tuple[Row, str]], Any]:
        """See ``Probe``."""
        rows, following = await self._inner.page(connection, after)
        return await self._in_use(connection, [row for row, _ in rows]), following

    async def repair(self, connection: Any, rows: Any) -> list[Row]:
        """See ``Probe``."""
        still = [row for row, _ in await self._in_use(connection, rows)]
        return await self._inner.repair(connection, still) if still else []

    async def _in_use(self, connection: Any, rows: Any) -> list[tuple[Row, str]]:
        paths = {row["subject"] for row in rows}
        owners = await self._owners(connection, paths) if paths else {}
        return [
            (row, f"mailbox of {owners[row['subject']]}")
            for row in rows
            if row["subject"] in owners
        ]
