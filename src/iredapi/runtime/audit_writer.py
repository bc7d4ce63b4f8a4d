"""The audit log: in our own log, in iRedAdmin's table ``log``, and its details beside that.

Rows of many requests are inserted together (micro-batching), and each request waits for its own
rows. One transaction per request would cost each change a second commit. The details
(``audit_details``) follow without keeping anybody waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.iredadmin import Entry, SqlIredadmin, entry
from iredapi.concurrency.batcher import MAX_CONCURRENT_BATCHES, Batcher
from iredapi.concurrency.deadline import TimeLimit
from iredapi.database.errors import is_refused, is_retryable
from iredapi.database.session import Databases
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.revisions import Revision
from iredapi.errors import ApiError
from iredapi.observability import signals
from iredapi.observability.logging import Values, lines
from iredapi.runtime.audit_details import Detail, DetailWriter

_log = structlog.get_logger(__name__)


class AuditEntry(NamedTuple):
    """An event, and the request in which an admin caused it."""

    request_id: str
    actor: Actor
    event: Event
    revision: Revision | None = None
    """What was changed."""


_Logged = Sequence[tuple[Entry, AuditEntry]]


class Auditor:
    """Writes audit entries. A failure is logged, and never fails a request."""

    def __init__(self, databases: Databases, details: DetailWriter, *, timeout: float) -> None:
        """``timeout``: maximum seconds in the queue, and again for the INSERT."""
        self._databases = databases
        self._details = details
        self._timeout = timeout
        self._with_details = details.wanted
        # Two connections stay free for reading iRedAdmin's settings when INSERTs hang.
        spare = databases["iredadmin"].size - 2 if databases.has("iredadmin") else 0
        self._batcher: Batcher[_Logged, None] = Batcher(
            self._write,
            queue_timeout=timeout,
            kind="log",
            max_concurrent_batches=max(min(spare, MAX_CONCURRENT_BATCHES), 1),
        )

    async def append(self, audit_entries: Sequence[AuditEntry]) -> None:
        """Write entries to both logs. Returns also when iRedAdmin's could not be written."""
        if not audit_entries:
            return
        lines(
            "audit",
            ((item.request_id, _log_fields(item.actor, item.event)) for item in audit_entries),
        )
        if self._databases.has("iredadmin"):
            try:
                await self._batcher.submit(
                    [(entry(item.actor, item.event), item) for item in audit_entries]
                )
            except TimeoutError as error:
                _failed(error, len(audit_entries))

    async def close(self) -> None:
        """Wait for entries that are in progress, and write their details."""
        await self._batcher.close()
        await self._details.close()

    async def _write(self, batches: Sequence[_Logged]) -> list[None]:
        entries = [pair for batch in batches for pair in batch]
        try:
            async with TimeLimit(self._timeout):
                try:
                    await self._insert(entries)
                except DBAPIError as error:
                    if self._with_details and is_refused(error):
                        # A login that may only insert.
                        self._with_details = False
                        _log.warning("audit_details_need_select", table="iredadmin.log")
                    elif not is_retryable(error):
                        raise
                    # Mostly a connection that was closed while it was idle.
                    await self._insert(entries)
        except (ApiError, DBAPIError, OSError) as error:  # a TimeoutError is an OSError
            _failed(error, len(entries))
        return [None] * len(batches)

    async def _insert(self, entries: _Logged) -> None:
        # Each statement is its own transaction.
        connections = self._databases.open_for_logs()
        try:
            ids = await SqlIredadmin(connections).append(
                [row for row, _ in entries], with_ids=self._with_details
            )
        finally:
            await connections.close()
        self._details.add(
            [
                Detail(number, row, item.request_id, item.revision)
                for number, (row, item) in zip(ids, entries, strict=False)
            ]
        )


def _failed(error: Exception, entries: int) -> None:
    signals.audit_entries_lost(entries)
    _log.error("audit_failed", reason=type(error).__name__, entries=entries)


def _log_fields(actor: Actor, event: Event) -> Values:
    return {
        "actor": actor.username,
        "client": actor.client,
        "kind": event.kind.value,
        "domain": event.domain,
        "account": event.username,
        "message": event.message,
    }
