"""Details of entries of the panel's log: request ids and changed values (docs/adr/0017)."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.log import Details
from iredapi.observability.query_counter import UNCOUNTED
from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import REQUEST_ID_LENGTH, log_details, upsert_values

PURGE_INTERVAL = 600.0
"""Seconds between two removals of old rows by one process."""

_DAY = 86400.0
_CHUNK = 500
"""Rows that one statement removes."""
_PAGE = 1000
"""Rows that one statement looks up: those of the longest page."""
_ROUNDS = 200
"""Statements of one removal; the next one goes on."""
_STORED = ("digest", "request_id", "about", "changes", "created")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewDetails:
    """A row to be written."""

    log_id: int
    digest: str
    request_id: str
    about: str
    changes: Sequence[Mapping[str, Any]]
    """JSON values, without secrets."""


class LogDetails:
    """The details of all replicas. They are kept for ``days``; 0: none are."""

    def __init__(self, connections: Connections, *, days: int, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._days = days
        self._clock = clock
        self._purge_at = clock()
        self._insert = partial(upsert_values, connections.dialect, log_details, (), _STORED)

    @property
    def kept(self) -> bool:
        """Whether details are kept."""
        return self._days > 0

    async def write(self, rows: Sequence[NewDetails]) -> None:
        """Write rows in one transaction; one with the same id is replaced."""
        now = self._clock()
        every = [
            {
                "log_id": row.log_id,
                "digest": row.digest,
                "request_id": row.request_id[:REQUEST_ID_LENGTH],
                "about": row.about,
                "changes": _json(row.changes) if row.changes else None,
                "created": now,
            }
            for row in rows
        ]

        async def insert(connection: AsyncConnection) -> None:
            await self._connections.execute_for_each(connection, "log_details", self._insert, every)

        await self._connections.transact(insert)
        await self._purge_sometimes()

    async def of(self, ids: Sequence[int]) -> dict[int, Details]:
        """Return the details of entries, by their ids. One statement for each 1,000 of them."""
        found: dict[int, Details] = {}
        table, oldest = log_details.c, self._clock() - self._days * _DAY
        for start in range(0, len(ids) if self.kept else 0, _PAGE):
            rows = await self._connections.read(
                select(
                    table.log_id, table.digest, table.request_id, table.about, table.changes
                ).where(table.log_id.in_(ids[start : start + _PAGE]), table.created >= oldest)
            )
            for row in rows:
                changes = json.loads(row.changes) if row.changes else []
                found[int(row.log_id)] = Details(row.digest, row.request_id, row.about, changes)
        return found

    async def purge(self) -> int:
        """Remove rows that are too old; return their number."""
        table, oldest, removed = log_details.c, self._clock() - self._days * _DAY, 0
        old = select(table.log_id).where(table.created < oldest).limit(_CHUNK)
        for _ in range(_ROUNDS):
            rows = await self._connections.read(old.execution_options(**UNCOUNTED))
            ids = [row.log_id for row in rows]
            if ids:
                some = delete(log_details).where(table.log_id.in_(ids))
                removed += await self._connections.write(some.execution_options(**UNCOUNTED))
            if len(ids) < _CHUNK:
                break
        return removed

    async def _purge_sometimes(self) -> None:
        now = self._clock()
        # A clock that was ahead and has been corrected does not delay the next removal.
        if 0 < self._purge_at - now <= PURGE_INTERVAL:
            return
        self._purge_at = now + PURGE_INTERVAL
        try:
            await self.purge()
        except StateUnavailable as error:
            _logger.warning("Old details of log entries were not removed: %s", error)


def _json(changes: Sequence[Mapping[str, Any]]) -> str:
    try:
        return orjson.dumps(changes).decode()
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(changes, default=str)
