"""The outbox: events of changes are stored before a commit and published after it (docs/adr/0019).

A process that dies in between leaves a pending event, which any replica publishes later. So no
change is left out; an event may come twice, under the same id.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, replace
from typing import Final

import structlog

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.change_events import ChangeEvent, changes_of, unconfirmed
from iredapi.observability import signals
from iredapi.observability.logging import REQUEST_ID
from iredapi.state import StateUnavailable
from iredapi.state.batches import Batches
from iredapi.state.events import Events, Pending

_DELAY: Final = 0.02
"""Seconds for which events are collected."""
_AGAIN: Final = 0.5
"""Seconds after a failure."""
_PATIENCE: Final = 1.0
"""Seconds for which an event waits for an earlier one of its account."""
_MOST: Final = 500
"""Events that are published together."""
_MARGIN: Final = 5.0
"""Seconds that the commit of a pending event may take, beside the time limits of requests."""
_SWEEP: Final = 5.0
"""Seconds between two looks for events that dead processes have left."""
_CLOSE: Final = 5.0
"""Seconds for which the end of the process waits."""
EVENT_ID: ContextVar[str] = ContextVar("event_id", default="")
"""Id of an event that is pending already for the next write of the request; empty: none is."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Announced:
    """Events of one write that are being stored."""

    events: Sequence[ChangeEvent]
    given_up: bool = False
    """Whether the request has ended meanwhile: nothing will be committed."""


class Outbox:
    """Events of the changes of one process. ``begin``, then ``committed`` or ``undone``."""

    def __init__(self, events: Events, *, wanted: bool, timeout: float) -> None:
        """``timeout``: maximum seconds of the work of a request, and again of its commit."""
        self._events = events
        self.wanted = wanted
        """Whether there are events at all."""
        self._lateness = 2 * timeout + _MARGIN
        self._batches: Batches[_Announced, None] = Batches(self._store, kind="events")
        self._queue: list[ChangeEvent] = []
        self._gone: list[str] = []
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self.on_published: list[Callable[[], None]] = []
        """Called after this process has published events."""

    # One write

    async def begin(
        self, changes: Sequence[ChangeEvent], earlier: Sequence[ChangeEvent] = ()
    ) -> list[ChangeEvent]:
        """Store what is about to be committed. Raises ApiError: then it must not be.

        ``earlier`` has returned an attempt of the same write that was not committed: its ids are
        used again.
        """
        ids = [event.id for event in earlier]
        some = [
            replace(change, id=ids.pop(0) if ids else self._new_id(), time=self._now())
            for change in changes
        ]
        self._forget(ids)
        if some:
            announced = _Announced(some)
            try:
                await self._batches.submit(announced)
            except StateUnavailable as error:
                self.undone(some)
                raise error.to_api_error() from error
            except asyncio.CancelledError:
                announced.given_up = True
                self.undone(some)
                raise
        return some

    async def begin_unit(
        self, unit: UnitOfWork, earlier: Sequence[ChangeEvent]
    ) -> list[ChangeEvent]:
        """Store what a unit of work is about to commit. Raises ApiError."""
        recorded = (*unit.events, *unit.unlogged_events)
        actor = unit.actor.username
        return await self.begin(
            changes_of(recorded, unit.changed, actor, REQUEST_ID.get()), earlier
        )

    def committed(self, some: Iterable[ChangeEvent]) -> None:
        """Publish events, soon: their changes were committed."""
        self._queue.extend(some)
        self._schedule(_DELAY)

    def undone(self, some: Iterable[ChangeEvent]) -> None:
        """Forget events, soon: it is certain that their changes were not committed."""
        self._forget(event.id for event in some)

    def reuse(self) -> list[ChangeEvent]:
        """Return what is pending for the next write of this request, as ``begin`` takes it."""
        event_id = EVENT_ID.get()
        if not event_id:
            return []
        EVENT_ID.set("")
        return [ChangeEvent(event_id, 0.0, "", "", "")]

    @asynccontextmanager
    async def announced(self, actor: Actor, event: Event) -> AsyncIterator[None]:
        """Tell of a change that is made beside the account storage. Raises ApiError.

        A write inside that has events of its own uses the id. After an error it is not known what
        was made, and the event is published when it is due.
        """
        changes = changes_of([event], None, actor.username, REQUEST_ID.get())
        some = await self.begin(changes)
        token = EVENT_ID.set(some[0].id)
        try:
            yield
            if EVENT_ID.get():
                self.committed(some)
        finally:
            EVENT_ID.reset(token)

    def _forget(self, ids: Iterable[str]) -> None:
        self._gone.extend(ids)
        if self._gone:
            self._schedule(_DELAY)

    def _now(self) -> float:
        # The events of a process have an order, whatever is done to the clock.
        self._last = max(self._events.clock(), self._last + 1e-5)
        return self._last

    @staticmethod
    def _new_id() -> str:
        # Ids that grow keep the index small; what follows the milliseconds cannot be guessed.
        return f"{int(time.time() * 1000) & (1 << 48) - 1:012x}{secrets.token_hex(10)}"

    async def _store(self, batch: Sequence[_Announced]) -> list[None]:
        due = self._events.clock() + self._lateness
        await self._events.write([event for item in batch for event in item.events], due)
        for item in batch:
            if item.given_up:
                self.undone(item.events)
        return [None] * len(batch)

    # Publishing

    def _schedule(self, seconds: float) -> None:
        if self._timer is None and self._task is None:
            loop = asyncio.get_running_loop()
            # Empty contexts: context variables of a request must not leak into this work.
            self._timer = loop.call_later(seconds, self._start, context=Context())

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None and (self._queue or self._gone):
            self._task = asyncio.get_running_loop().create_task(self._work(), context=Context())

    async def _work(self) -> None:
        pause = _DELAY
        some = sorted(self._queue, key=lambda event: (event.time, event.id))[:_MOST]
        gone, self._gone = self._gone[:_MOST], self._gone[_MOST:]
        chosen = {event.id for event in some}
        self._queue = [event for event in self._queue if event.id not in chosen]
        try:
            if gone:
                await self._events.forget(gone)
                gone = []
            if some and not await self._publish(some):
                pause = 2 * _DELAY
        except StateUnavailable as error:
            _log.warning("events_wait", reason=str(error), events=len(some))
            self._queue, self._gone, pause = [*some, *self._queue], [*gone, *self._gone], _AGAIN
        except Exception:
            # They are pending, and are published when they are due.
            _log.exception("events_not_published", events=len(some))
        finally:
            self._task = None
            if self._queue or self._gone:
                self._schedule(pause)

    async def _publish(self, some: Sequence[ChangeEvent]) -> bool:
        """Publish committed events; False: some of them have to wait for earlier ones."""
        rows = await self._events.pending_of({name for event in some for name in event.names})
        ready, kept = in_order(some, rows, self._events.clock())
        if ready:
            await self._events.publish(ready, kept=kept)
            self._tell(len(ready))
        done = {event.id for event in ready}
        waiting = [event for event in some if event.id not in done]
        self._queue.extend(waiting)
        return not waiting

    def _tell(self, count: int) -> None:
        if count:
            signals.events_published(count)
            for listener in self.on_published:
                listener()

    # What dead processes have left

    def start(self) -> None:
        """Look for overdue events now and then, until ``close``.

        Without events it is noted once that changes are made that nobody is told of.
        """
        work = self._sweep() if self.wanted else self._interrupt()
        self._sweeper = asyncio.create_task(work)

    async def _sweep(self) -> None:
        while not await self._ends_within(_SWEEP * random.uniform(0.5, 1)):  # noqa: S311
            try:
                await self.sweep()
            except StateUnavailable as error:
                _log.warning("events_wait", reason=str(error))
            except Exception:
                _log.exception("events_not_published")

    async def _interrupt(self) -> None:
        while True:
            try:
                return await self._events.interrupt()
            except StateUnavailable:
                if await self._ends_within(_SWEEP):
                    return None

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
            return True
        return False

    async def sweep(self) -> int:
        """Publish overdue events of any process; return their number."""
        count = 0
        while rows := await self._events.overdue(_MOST):
            found = [unconfirmed(row.event) for row in rows]
            published = await self._events.publish(found, only_pending=True)
            self._tell(published)
            count += published
            if len(rows) < _MOST:
                break
        return count

    async def close(self) -> None:
        """Publish what waits, if the state database answers in time; end the sweeper."""
        self._closing.set()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper], timeout=_CLOSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE):
                await self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def flush(self) -> None:
        """Wait until nothing waits to be published any more."""
        await self._batches.close()
        while True:
            if self._task is None:
                self._start()
            if self._task is None:
                return
            await asyncio.wait({self._task})
            if self._queue:
                await asyncio.sleep(_DELAY)


def in_order(
    committed: Sequence[ChangeEvent], pending: Sequence[Pending], now: float
) -> tuple[list[ChangeEvent], list[str]]:
    """Return what can be published, and the ids of what stays pending although it is.

    ``committed`` is sorted. An event waits a moment for pending ones of its account that were
    written before it: their commits are over, as each change locks its account, but the processes
    that have made them may be slow, or dead. Then they are published first, unconfirmed, and once
    more when it is known what has become of them.
    """
    own = {event.id for event in committed}
    others: dict[str, list[Pending]] = {}
    for row in sorted(pending, key=lambda row: (row.written, row.event.id)):
        if row.event.id not in own:
            for name in row.event.names:
                others.setdefault(name, []).append(row)
    ready: list[ChangeEvent] = []
    kept: dict[str, None] = {}
    waiting: set[str] = set()
    for event in committed:
        names = event.names
        before = {
            row.event.id: row
            for name in names
            for row in others.get(name, [])
            if (row.written, row.event.id) < (event.time, event.id) and row.event.id not in kept
        }
        if not waiting.isdisjoint(names) or any(
            now - row.written < _PATIENCE for row in before.values()
        ):
            waiting.update(names)
            continue
        ready += [unconfirmed(row.event) for row in before.values()]
        kept |= dict.fromkeys(before)
        ready.append(event)
    return ready, list(kept)
