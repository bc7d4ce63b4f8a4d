"""The panel's log, written for many requests at a time: each waits for the row of its own.

A row of its own transaction would cost every change a second commit. While one batch is on its way
the next one gathers.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.panel import Entry, SqlPanel
from iredapi.backends.sql.engine import Databases
from iredapi.errors import ApiError

_log = structlog.get_logger(__name__)


class Auditor:
    """Appends to ``iredadmin.log``; a failure is logged and fails nobody."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._gathered: list[Entry] = []
        self._turn = asyncio.Lock()

    async def append(self, entries: list[Entry]) -> None:
        """Return when the entries are in the log, or could not be written."""
        if not entries or not self._databases.has("iredadmin"):
            return
        self._gathered += entries
        async with self._turn:
            # Who had the turn before us may have taken ours along.
            batch, self._gathered = self._gathered, []
            if batch:
                # Not cut short with one of those who wait: others depend on it.
                await asyncio.shield(asyncio.ensure_future(self._write(batch)))

    async def _write(self, batch: list[Entry]) -> None:
        try:
            # One statement is its own transaction; SQLite's writers stand in a queue.
            writing = self._databases["iredadmin"].sqlite
            connections = await self._databases.open(writing=writing)
            try:
                await SqlPanel(connections).append(batch)
                await connections.commit()
            finally:
                await connections.close()
        except (ApiError, DBAPIError, OSError) as error:
            _log.error("audit_failed", reason=type(error).__name__, entries=len(batch))
