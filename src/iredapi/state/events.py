"""The outbox of changes (docs/adr/0019): written before a commit, published after it.

A pending event is stored before the commit of its change begins. Published events have positions,
which become visible in their order: whoever has read up to a position has missed none before it.
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.change_events import ChangeEvent, PublishedEvent
from iredapi.observability.query_counter import UNCOUNTED
from iredapi.state.connections import Connections
from iredapi.state.purging import Purging
from iredapi.state.tables import (
    ACCOUNT_LENGTH,
    NAME_LENGTH,
    as_key,
    event_counter,
    events,
    pending_events,
    upsert,
    upsert_values,
)

_DAY: Final = 86400.0
_CHUNK: Final = 1000
"""Rows that one statement removes."""
_ROUNDS: Final = 100
"""Statements of one removal; the next one goes on."""
_pending, _events, _counter = pending_events.c, events.c, event_counter.c
Order = tuple[float, str]
"""When an event was written, and its id: events of one account are published in this order."""


class Events:
    """The events of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self.clock = clock
        self.days = 7
        """For how many days published events are kept."""
        self._purging = Purging("Old events", self.purge, clock())

    # Reading

    async def read(self, after: int, limit: int) -> Sequence[PublishedEvent]:
        """Return up to ``limit`` events of positions above ``after``, the first ones first."""
        rows = await self._connections.read(
            select(events).where(_events.position > after).order_by(_events.position).limit(limit)
        )
        return [_published(row) for row in rows]

    async def end(self) -> int:
        """Return the position of the last event; 0: there never was one."""
        rows = await self._connections.read(select(_counter.value).where(_counter.name == "events"))
        return int(rows[0].value) if rows else 0

    # Writing

    async def write(self, some: Sequence[ChangeEvent], due: float) -> None:
        """Store pending events and commit: the commits of their changes may begin.

        After ``due`` (seconds since the epoch) any replica may publish them.
        """
        if not some:
            return
        rows = [
            {
                "id": event.id,
                "written": event.time,
                "due": due,
                "account": as_key(event.account, ACCOUNT_LENGTH),
                "body": _to_json(event),
            }
            for event in some
        ]
        # After a lost connection the statement may run twice.
        stored = upsert_values(self._connections.dialect, pending_events, rows, ["due"])
        await self._connections.write(stored.execution_options(**UNCOUNTED))

    async def forget(self, ids: Collection[str]) -> None:
        """Remove pending events of changes that were not committed."""
        if ids:
            gone = delete(pending_events).where(_pending.id.in_(ids))
            await self._connections.write(gone.execution_options(**UNCOUNTED))

    async def publish(self, some: Sequence[ChangeEvent]) -> int:
        """Publish events, and remove what is pending of them; return the last one's position.

        Publishing an event a second time repeats it under its id.
        """
        rows = [
            {
                "id": event.id,
                "time": event.time,
                "kind": event.kind,
                "account": event.account[:ACCOUNT_LENGTH],
                "domain": event.domain[:NAME_LENGTH],
                "body": _dumps(event.body),
            }
            for event in some
        ]

        async def publish(connection: AsyncConnection) -> int:
            # The lock of this row makes positions visible in their order.
            grown = upsert(
                self._connections.dialect,
                event_counter,
                [{"name": "events", "value": len(rows)}],
                [("value", _counter.value + len(rows))],
            )
            await connection.execute(grown, execution_options=UNCOUNTED)
            last: int = (
                await connection.execute(
                    select(_counter.value).where(_counter.name == "events"),
                    execution_options=UNCOUNTED,
                )
            ).scalar_one()
            first = last - len(rows) + 1
            await connection.execute(
                insert(events),
                [{**row, "position": first + index} for index, row in enumerate(rows)],
                execution_options=UNCOUNTED,
            )
            gone = delete(pending_events).where(_pending.id.in_([row["id"] for row in rows]))
            await connection.execute(gone, execution_options=UNCOUNTED)
            return last

        last = await self._connections.transact(publish)
        await self._purging.sometimes(self.clock())
        return last

    async def purge(self) -> int:
        """Remove events that are too old, but never the last one; return their number.

        Clients that have read everything find the last one at their position.
        """
        oldest, end, removed = self.clock() - self.days * _DAY, await self.end(), 0
        for _ in range(_ROUNDS):
            rows = await self._connections.read(
                select(_events.position, _events.time)
                .order_by(_events.position)
                .limit(_CHUNK)
                .execution_options(**UNCOUNTED)
            )
            old = 0
            for row in rows:
                if row.time >= oldest or row.position >= end:
                    break
                old = row.position
            if not old:
                break
            gone = delete(events).where(_events.position <= old)
            removed += await self._connections.write(gone.execution_options(**UNCOUNTED))
        return removed

    async def overdue(self, limit: int) -> Sequence[tuple[Order, ChangeEvent]]:
        """Return pending events that are past ``due``, in the order in which they were written."""
        rows = await self._connections.read(
            select(pending_events)
            .where(_pending.due < self.clock())
            .order_by(_pending.written, _pending.id)
            .limit(limit)
            .execution_options(**UNCOUNTED)
        )
        return [((row.written, row.id), _of_json(row.body)) for row in rows]

    async def pending(self) -> tuple[int, float]:
        """Return how many events are pending, and how many seconds ago the first was written."""
        chosen = select(func.count().label("number"), func.min(_pending.written).label("first"))
        (row,) = await self._connections.read(chosen.select_from(pending_events))
        return int(row.number), max(self.clock() - row.first, 0.0) if row.first else 0.0


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _to_json(event: ChangeEvent) -> str:
    return _dumps([event.id, event.time, event.kind, event.account, event.domain, event.body])


def _of_json(text: str) -> ChangeEvent:
    return ChangeEvent(*json.loads(text))


def _published(row: Row[Any]) -> PublishedEvent:
    return PublishedEvent(
        row.id, row.time, row.kind, row.account, row.domain, json.loads(row.body), row.position
    )
