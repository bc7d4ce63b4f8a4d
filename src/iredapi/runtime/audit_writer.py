"""The audit log: in our own log, and in iRedAdmin's table ``log``.

Rows of many requests are inserted together (micro-batching), and each request waits for its own
rows. One transaction per request would cost each change a second commit.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.iredadmin import Entry, SqlIredadmin, entry
from iredapi.concurrency.batcher import MAX_CONCURRENT_BATCHES, Batcher
from iredapi.concurrency.deadline import TimeLimit
from iredapi.database.errors import is_retryable
from iredapi.database.session import Databases
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.errors import ApiError
from iredapi.observability.logging import Values, lines

AuditEntry = tuple[str, Actor, Event]
"""Request id, actor, event."""
_log = structlog.get_logger(__name__)


class Auditor:
    """Writes audit entries. A failure is logged, and never fails a request."""

    def __init__(self, databases: Databases, *, timeout: float) -> None:
        """``timeout``: maximum seconds in the queue, and again for the INSERT."""
        self._databases = databases
        self._timeout = timeout
        # Two connections stay free for reading iRedAdmin's settings when INSERTs hang.
        spare = databases["iredadmin"].size - 2 if databases.has("iredadmin") else 0
        self._batcher: Batcher[Sequence[Entry], None] = Batcher(
            self._write,
            queue_timeout=timeout,
            max_concurrent_batches=max(min(spare, MAX_CONCURRENT_BATCHES), 1),
        )

    async def append(self, audit_entries: Sequence[AuditEntry]) -> None:
        """Write entries to both logs. Returns also when iRedAdmin's could not be written."""
        if not audit_entries:
            return
        lines(
            "audit",
            ((request_id, _log_fields(actor, event)) for request_id, actor, event in audit_entries),
        )
        if self._databases.has("iredadmin"):
            entries = [entry(actor, event) for _, actor, event in audit_entries]
            try:
                await self._batcher.submit(entries)
            except TimeoutError as error:
                _failed(error, len(entries))

    async def close(self) -> None:
        """Wait for entries that are in progress."""
        await self._batcher.close()

    async def _write(self, batches: Sequence[Sequence[Entry]]) -> list[None]:
        entries = [entry for batch in batches for entry in batch]
        try:
            async with TimeLimit(self._timeout):
                try:
                    await self._insert(entries)
                except DBAPIError as error:
                    if not is_retryable(error):
                        raise
                    # Mostly a connection that was closed while it was idle.
                    await self._insert(entries)
        except (ApiError, DBAPIError, OSError) as error:  # a TimeoutError is an OSError
            _failed(error, len(entries))
        return [None] * len(batches)

    async def _insert(self, entries: Sequence[Entry]) -> None:
        # Each statement is its own transaction.
        connections = self._databases.open_for_logs()
        try:
            await SqlIredadmin(connections).append(entries)
        finally:
            await connections.close()


def _failed(error: Exception, entries: int) -> None:
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
