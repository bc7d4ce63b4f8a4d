"""The role of the panel's log, to read; ``runtime.audit_writer`` writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from iredapi.domain.log import LogEntry, LogQuery


class LogReader(Protocol):
    """Entries of iRedAdmin's log, of other programs too.

    Raises NotSupported when the database ``iredadmin`` is not configured, or may not be read.
    """

    async def page(self, wanted: LogQuery, before: int | None, limit: int) -> list[LogEntry]:
        """Return entries with ids below ``before``, the highest first.

        One round trip, and one more for each of ``own``, ``domains``, ``admin`` and ``account``.
        """

    async def created(self, domains: Collection[str]) -> Mapping[str, datetime]:
        """Return when domains were created (UTC), by their names, of those that have a date.

        One round trip, to the account storage.
        """

    async def count(self, wanted: LogQuery) -> int:
        """Return how many there are. As many round trips as ``page``."""
