"""What was done, in our own log and in the panel's.

The panel's is written for many requests at a time, and each waits for the rows of its own: a
transaction for each would cost every change a second commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.iredadmin import Entry, SqlIredadmin, entry
from iredapi.concurrency.batcher import MAX_CONCURRENT_BATCHES, Batcher
from iredapi.database.session import Databases
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.errors import ApiError
from iredapi.observability.logging import Values, lines

AuditEntry = tuple[str, Actor, Event]
"""The id of a request, who sent it, and what came of it."""
_log = structlog.get_logger(__name__)


class Auditor:
    """Logs deeds; a failure is logged too, and fails nobody."""

    def __init__(self, databases: Databases, *, patience: float) -> None:
        """Take ``patience`` in seconds: so long an entry waits, and so long it is being written."""
        self._databases = databases
        self._patience = patience
        # Whoever is stuck here must leave connections to those who ask for the panel's settings.
        spare = databases["iredadmin"].size - 2 if databases.has("iredadmin") else 0
        self._batcher: Batcher[Sequence[Entry], None] = Batcher(
            self._write,
            queue_timeout=patience,
            max_concurrent_batches=max(min(spare, MAX_CONCURRENT_BATCHES), 1),
        )

    async def append(self, audit_entries: Sequence[AuditEntry]) -> None:
        """Return when the deeds are in both logs, or could not be written."""
        if not audit_entries:
            return
        lines(
            "audit",
            ((request_id, _said(actor, event)) for request_id, actor, event in audit_entries),
        )
        if self._databases.has("iredadmin"):
            entries = [entry(actor, event) for _, actor, event in audit_entries]
            try:
                await self._batcher.submit(entries)
            except TimeoutError as error:
                _failed(error, len(entries))

    async def close(self) -> None:
        """Wait for what is on its way."""
        await self._batcher.close()

    async def _write(self, batches: Sequence[Sequence[Entry]]) -> list[None]:
        entries = [entry for batch in batches for entry in batch]
        try:
            async with asyncio.timeout(self._patience):
                # Each statement is its own transaction.
                connections = self._databases.open_for_logs()
                try:
                    await SqlIredadmin(connections).append(entries)
                finally:
                    await connections.close()
        except (ApiError, DBAPIError, OSError) as error:  # a TimeoutError is an OSError
            _failed(error, len(entries))
        return [None] * len(batches)


def _failed(error: Exception, entries: int) -> None:
    _log.error("audit_failed", reason=type(error).__name__, entries=entries)


def _said(actor: Actor, event: Event) -> Values:
    return {
        "actor": actor.username,
        "client": actor.client,
        "kind": event.kind.value,
        "domain": event.domain,
        "account": event.username,
        "message": event.message,
    }
