"""The outbox of changes (docs/adr/0019): written before a commit, published after it.

A pending event is stored before the commit of its change begins. Published events have positions,
which become visible in their order: whoever has read up to a position has missed none before it.
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert

from iredapi.domain.change_events import ChangeEvent, Cursor, PublishedEvent, Visible
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
_INTERRUPTED: Final = "interrupted"
_interrupted = (
    select(_counter.value)
    .where(_counter.name == _INTERRUPTED)
    .scalar_subquery()
    .label("interrupted")
)
"""The position before which clients have missed changes; NULL: there is none."""


class Pending(NamedTuple):
    """A pending event."""

    written: float
    event: ChangeEvent


def account_key(account: str) -> str:
    """Return what stands for an account in the table of pending events."""
    return as_key(account, ACCOUNT_LENGTH)


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

    async def last(self) -> Cursor:
        """Return where all events end that are kept."""
        newest = select(_events.position, _events.id, _interrupted)
        rows = await self._connections.read(newest.order_by(_events.position.desc()).limit(1))
        if not rows:
            return Cursor(await self._interruption())
        gap = rows[0].interrupted or 0
        return Cursor(gap) if gap > rows[0].position else Cursor(rows[0].position, rows[0].id)

    async def _interruption(self) -> int:
        rows = await self._connections.read(select(_interrupted))
        return rows[0].interrupted or 0

    async def find(self, sent: Cursor) -> Cursor | None:
        """Return a cursor with its position; None: events after it may be gone, or it is unknown.

        A repeated event is found where it was first.
        """
        if sent == Cursor(sent.position):
            # Where events began, for the first time or after they were interrupted.
            rows = await self._connections.read(
                select(_events.position, _interrupted).order_by(_events.position).limit(1)
            )
            gap = rows[0].interrupted or 0 if rows else await self._interruption()
            are_gone = bool(rows) and rows[0].position > gap + 1
            return None if sent.position != gap or are_gone else sent
        chosen = select(_events.position, _interrupted).where(_events.id == sent.id)
        if sent.position is not None:
            chosen = chosen.where(_events.position == sent.position)
        rows = await self._connections.read(chosen.order_by(_events.position).limit(1))
        if not rows or rows[0].position < (rows[0].interrupted or 0):
            return None
        return Cursor(rows[0].position, sent.id)

    async def chosen(
        self, after: int, end: int, limit: int, visible: Visible
    ) -> Sequence[PublishedEvent]:
        """Return up to ``limit`` events above ``after``, up to ``end``, of domains and kinds."""
        where = [_events.position > after, _events.position <= end]
        if visible.domains is not None:
            where.append(_events.domain.in_(sorted(visible.domains)))
        if visible.kinds:
            where.append(_events.kind.in_(sorted(visible.kinds)))
        found = select(events).where(*where).order_by(_events.position).limit(limit)
        return [_published(row) for row in await self._connections.read(found)]

    async def deletions(self, domains: Collection[str]) -> dict[str, int]:
        """Return the positions of the last events that tell that these domains were deleted."""
        rows = await self._connections.read(
            select(_events.domain, func.max(_events.position).label("position"))
            .where(_events.domain.in_(sorted(domains)), _events.kind == "domain.deleted")
            .group_by(_events.domain)
        )
        return {row.domain: int(row.position) for row in rows}

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
                "account": account_key(event.account),
                "body": _to_json(event),
            }
            for event in some
        ]

        async def store(connection: AsyncConnection) -> None:
            await self._connections.execute_for_each(
                connection, "pending_events", self._storing, rows
            )

        # One round trip, but on SQLite.
        is_sqlite = self._connections.dialect == "sqlite"
        await (self._connections.transact(store) if is_sqlite else self._connections.use(store))

    def _storing(self) -> Insert:
        # An attempt that is repeated has the same ids.
        names = ["written", "due", "account", "body"]
        return upsert_values(self._connections.dialect, pending_events, [], names)

    async def interrupt(self) -> None:
        """Note that changes are made from now on of which there are no events.

        Whoever has read up to here has to read everything again. Without any event nothing is
        written.
        """
        if not await self.end():
            return

        async def note(connection: AsyncConnection) -> None:
            row = {"name": _INTERRUPTED, "value": await self._advance(connection, 1)}
            noted = upsert_values(self._connections.dialect, event_counter, [row], ["value"])
            await connection.execute(noted, execution_options=UNCOUNTED)

        await self._connections.transact(note)

    async def forget(self, ids: Collection[str]) -> None:
        """Remove pending events of changes that were not committed."""
        if ids:
            gone = delete(pending_events).where(_pending.id.in_(ids))
            await self._connections.write(gone.execution_options(**UNCOUNTED))

    async def publish(
        self,
        some: Sequence[ChangeEvent],
        *,
        kept: Collection[str] = (),
        only_pending: bool = False,
    ) -> int:
        """Publish events, and remove what is pending of them; return how many were published.

        Publishing an event a second time repeats it under its id. Events with ``kept`` ids stay
        pending, but no other one waits for them any more. With ``only_pending`` those are left out
        that somebody else has published meanwhile.
        """
        every: list[dict[str, Any]] = [
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
            rows = every
            if only_pending:
                # Who publishes them meanwhile has the lock, and removes them.
                await self._advance(connection, 0)
                there = await self._removed(connection, [row["id"] for row in every])
                rows = [row for row in every if row["id"] in there]
                if not rows:
                    return 0
            last = await self._advance(connection, len(rows))
            first = last - len(rows) + 1
            await connection.execute(
                insert(events),
                [{**row, "position": first + index} for index, row in enumerate(rows)],
                execution_options=UNCOUNTED,
            )
            if not only_pending:
                ids = [row["id"] for row in rows if row["id"] not in kept]
                gone = delete(pending_events).where(_pending.id.in_(ids))
                await connection.execute(gone, execution_options=UNCOUNTED)
            if kept:
                passed = update(pending_events).where(_pending.id.in_(kept)).values(account="")
                await connection.execute(passed, execution_options=UNCOUNTED)
            return len(rows)

        count = await self._connections.transact(publish)
        await self._purging.sometimes(self.clock())
        return count

    async def _advance(self, connection: AsyncConnection, count: int) -> int:
        """Lock the counter until the commit, advance it, and return its value.

        This lock makes positions visible in their order.
        """
        grown = upsert(
            self._connections.dialect,
            event_counter,
            [{"name": "events", "value": count}],
            [("value", _counter.value + count)],
        )
        await connection.execute(grown, execution_options=UNCOUNTED)
        chosen = select(_counter.value).where(_counter.name == "events")
        found = await connection.execute(chosen, execution_options=UNCOUNTED)
        return int(found.scalar_one())

    async def _removed(self, connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
        """Remove pending events; return the ids of those that were there."""
        chosen = select(_pending.id).where(_pending.id.in_(ids)).with_for_update()
        found = await connection.execute(chosen, execution_options=UNCOUNTED)
        there = {row.id for row in found}
        gone = delete(pending_events).where(_pending.id.in_(there))
        await connection.execute(gone, execution_options=UNCOUNTED)
        return there

    async def pending_of(self, accounts: Collection[str]) -> Sequence[Pending]:
        """Return what is pending of accounts, and all renames: they concern two accounts."""
        keys = sorted(set(map(account_key, accounts)))
        renames = and_(_pending.account != "", _pending.body.like('%.renamed"%'))
        rows = await self._connections.read(
            select(pending_events)
            .where(or_(_pending.account.in_(keys), renames))
            .execution_options(**UNCOUNTED)
        )
        return [_pending_of(row) for row in rows]

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

    async def overdue(self, limit: int) -> Sequence[Pending]:
        """Return pending events that are past ``due``, in the order in which they were written."""
        rows = await self._connections.read(
            select(pending_events)
            .where(_pending.due < self.clock())
            .order_by(_pending.written, _pending.id)
            .limit(limit)
            .execution_options(**UNCOUNTED)
        )
        return [_pending_of(row) for row in rows]

    async def pending(self) -> tuple[int, float]:
        """Return how many events are pending, and how many seconds ago the first was written."""
        chosen = select(func.count().label("number"), func.min(_pending.written).label("first"))
        (row,) = await self._connections.read(chosen.select_from(pending_events))
        return int(row.number), max(self.clock() - row.first, 0.0) if row.first else 0.0


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _to_json(event: ChangeEvent) -> str:
    return _dumps([event.id, event.time, event.kind, event.account, event.domain, event.body])


def _pending_of(row: Row[Any]) -> Pending:
    return Pending(row.written, ChangeEvent(*json.loads(row.body)))


def _published(row: Row[Any]) -> PublishedEvent:
    return PublishedEvent(
        row.id, row.time, row.kind, row.account, row.domain, json.loads(row.body), row.position
    )
