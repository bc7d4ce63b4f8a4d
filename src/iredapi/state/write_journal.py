"""Journal of writes without a database transaction (LDAP), so that they can be undone.

A record is written before the first step of a write and removed after the last one, both while the
locks that it names are held. So if a process acquires such a lock and finds a record, the writer
has crashed; the process undoes the write.
"""

import json
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.state.connections import Connections
from iredapi.state.idempotency_keys import Claim, KeyLost, Phase, decided_by_journal
from iredapi.state.tables import journal, upsert


@dataclass(frozen=True, slots=True)
class Record:
    """A write that has begun: the locks that it holds, and the plan that undoes it."""

    id: str
    names: frozenset[str]
    plan: str = field(repr=False)
    created: float
    """Seconds since the epoch."""


class Journal:
    """The records of all replicas. Every method raises ``StateUnavailable``; one round trip."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def write(self, names: Collection[str], plan: str, claim: Claim | None = None) -> str:
        """Record a write that is about to begin, and return the id of its record.

        With a claim the record decides the outcome of that request. Raises KeyLost.
        """
        found, now = secrets.token_hex(16), self._clock()
        row = {"id": found, "names": json.dumps(sorted(names)), "plan": plan, "created": now}
        # After a lost connection the statement may run twice.
        on_conflict = [("created", literal(now))]
        statement = upsert(self._connections.dialect, journal, [row], on_conflict)
        if claim is None:
            await self._connections.write(statement)
            return found

        async def both(connection: AsyncConnection) -> None:
            marked = await connection.execute(decided_by_journal(claim, journaled=1))
            if not marked.rowcount:
                raise KeyLost
            await connection.execute(statement)

        await self._connections.transact(both)
        return found

    async def erase(self, record_id: str) -> None:
        """Remove the record of a write that has ended or was undone."""
        await self._connections.write(delete(journal).where(journal.c.id == record_id))

    async def complete(self, record_id: str, claim: Claim | None) -> None:
        """Remove the record of a write of which all steps are done."""
        if claim is None:
            await self.erase(record_id)
            return
        committed = decided_by_journal(claim, phase=Phase.COMMITTED.value)

        async def both(connection: AsyncConnection) -> None:
            await connection.execute(delete(journal).where(journal.c.id == record_id))
            await connection.execute(committed)

        await self._connections.transact(both)

    async def open(self) -> Sequence[tuple[str, frozenset[str]]]:
        """Return ids and locks of all records; usually few, those of running writes."""
        rows = await self._connections.read(select(journal.c.id, journal.c.names))
        return [(str(row.id), frozenset(json.loads(row.names))) for row in rows]

    async def read(self, record_id: str) -> Record | None:
        """Return a record; None: it was removed."""
        rows = await self._connections.read(select(journal).where(journal.c.id == record_id))
        if not rows:
            return None
        row = rows[0]
        return Record(str(row.id), frozenset(json.loads(row.names)), row.plan, float(row.created))
