"""The panel's log, written for many requests at a time: each waits for the row of its own.

A row of its own transaction would cost every change a second commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.panel import Entry, SqlPanel
from iredapi.backends.sql.engine import Databases
from iredapi.errors import ApiError
from iredapi.grouping import Group

_log = structlog.get_logger(__name__)


class Auditor:
    """Appends to ``iredadmin.log``; a failure is logged and fails nobody."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._group: Group[Sequence[Entry], None] = Group(self._write)

    async def append(self, entries: Sequence[Entry]) -> None:
        """Return when the entries are in the log, or could not be written."""
        if entries and self._databases.has("iredadmin"):
            await self._group.do(entries)

    async def close(self) -> None:
        """Wait for what is on its way."""
        await self._group.close()

    async def _write(self, batches: Sequence[Sequence[Entry]]) -> list[None]:
        entries = [entry for batch in batches for entry in batch]
        try:
            # Each statement is its own transaction.
            connections = await self._databases.open(writing=False)
            try:
                await SqlPanel(connections).append(entries)
            finally:
                await connections.close()
        except (ApiError, DBAPIError, OSError) as error:
            _log.error("audit_failed", reason=type(error).__name__, entries=len(entries))
        return [None] * len(batches)
