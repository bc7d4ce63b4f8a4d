"""Sends the events of one webhook; see ``webhook_sender``."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import structlog

from iredapi.domain import webhooks
from iredapi.domain.change_events import PublishedEvent
from iredapi.domain.webhooks import Delivery, Reason, Webhook
from iredapi.errors import ApiError
from iredapi.observability import signals
from iredapi.runtime.context import AppContext
from iredapi.state import Lease, LockLost, StateUnavailable
from iredapi.workflows.webhook_owners import Owner, OwnerEnded
from iredapi.workflows.webhook_requests import IN_FLIGHT, Outcome, Receiver

WINDOW: Final = 500
"""Open events of one webhook: when the oldest one is not taken, so many others go on."""
_PAGE: Final = 200
_DOWN_AFTER: Final = 8
"""Failures one after the other, after which one event at a time is tried."""
_RECORD_SECONDS: Final = 0.25
_IDLE_RECORD_SECONDS: Final = 5.0
"""The same when nothing was sent: events of other domains or kinds."""
_MAX_UNRECORDED: Final = 1000
_LOOK_SECONDS: Final = 30.0
"""How often the owner is looked at while nothing is sent."""
_RETRY_SECONDS: Final = 2.0
"""After an error of our own servers."""
_STOP_SECONDS: Final = 3.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Item:
    """An open event."""

    event: PublishedEvent
    keys: Collection[str]
    """The lanes that it is in."""
    attempts: int = 0
    since: float = 0.0
    """The first attempt, in seconds since the epoch; 0: there was none."""
    due: float = 0.0
    """When it may be sent again, by the clock of the event loop."""


@dataclass(slots=True)
class _Open:
    """The open events by position, and each account's in order."""

    items: dict[int, _Item] = field(default_factory=dict)
    lanes: dict[str, deque[_Item]] = field(default_factory=dict)

    def add(self, item: _Item) -> None:
        self.items[item.event.position] = item
        for key in item.keys:
            self.lanes.setdefault(key, deque()).append(item)

    def remove(self, item: _Item) -> None:
        """Remove an item that is the first one of its lanes."""
        del self.items[item.event.position]
        for key in item.keys:
            lane = self.lanes[key]
            lane.popleft()
            if not lane:
                del self.lanes[key]

    def is_first(self, item: _Item) -> bool:
        """Tell whether nothing before it is open in its lanes."""
        return all(self.lanes[key][0] is item for key in item.keys)


class Courier:
    """Starts at once; runs until ``stop``, until the lease is lost or the webhook is disabled."""

    def __init__(
        self, context: AppContext, lease: Lease, tls: ssl.SSLContext, webhook: Webhook
    ) -> None:
        self._context = context
        self._state = context.state
        self._lease = lease
        self._webhook = webhook
        self._receiver = Receiver(context.settings, tls, webhook)
        self._loop = asyncio.get_running_loop()
        self._open = _Open()
        self._sending: dict[asyncio.Task[Outcome | None], _Item] = {}
        self._end = webhook.position
        """The position of the last event that there is."""
        self._known = _Progress.of(webhook)
        self._read_to = webhook.position
        self._made: list[Delivery] = []
        self._failures = 0
        """Attempts that failed, one after the other."""
        self._resume = 0.0
        """When the next event is tried, after many failures; by the clock of the event loop."""
        self._recorded = self._loop.time()
        self._recorded_position = webhook.position
        self._owner = Owner(context, webhook)
        self._stopping = False
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def goes_on(self, generation: int) -> bool:
        """Tell whether it runs, and knows the webhook as it is now."""
        return not self._task.done() and self._webhook.generation == generation

    def tell(self, end: int) -> None:
        """Tell it the position of the last event."""
        if end > self._end:
            self._end = end
            self._wake.set()

    async def stop(self) -> None:
        """Wait a moment for what is being sent, store how far it has come, and end."""
        self._stopping = True
        self._wake.set()
        await asyncio.wait([self._task], timeout=2 * _STOP_SECONDS)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                self._lease.check()
                try:
                    await self._owner.rights(seconds=_LOOK_SECONDS)
                    await self._fill()
                    self._start_due()
                    await self._record()
                    seconds = self._pause()
                except (ApiError, StateUnavailable) as error:
                    _log.warning(
                        "webhook_waits", webhook=self._webhook.id, reason=type(error).__name__
                    )
                    seconds = _RETRY_SECONDS
                await self._wait(seconds)
                self._collect()
        except OwnerEnded as end:
            await self._disable(end.reason)
        except LockLost:
            _log.warning("webhook_lease_lost", webhook=self._webhook.id)
        except Exception:
            _log.exception("webhook_failed", webhook=self._webhook.id)
        finally:
            await self._finish()

    # Reading events

    async def _fill(self) -> None:
        """Read further events until there are enough open ones."""
        while self._read_to < self._end and len(self._open.items) < WINDOW:
            limit, end = min(_PAGE, WINDOW - len(self._open.items)), self._end
            found = await self._state.events.read(self._read_to, limit)
            for event in found:
                self._read_to = event.position
                if self._known.is_done(event.position) or not self._webhook.wants(event):
                    continue
                attempts, since = self._known.tried.get(event.position, (0, 0.0))
                # After it was enabled again, it is tried for as long as a new one.
                since = max(since, self._webhook.changed) if attempts else 0.0
                keys = tuple(dict.fromkeys(webhooks.ordered_by(event)))
                self._open.add(_Item(event, keys, attempts, since))
            if not found:
                self._read_to = end  # positions without events

    @property
    def _position(self) -> int:
        """Everything up to here is done."""
        return min(self._open.items, default=self._read_to + 1) - 1

    # Sending

    def _start_due(self) -> None:
        now, down = self._loop.time(), self._failures >= _DOWN_AFTER
        if down and (self._sending or now < self._resume):
            return
        most = 1 if down else IN_FLIGHT
        busy = set(map(id, self._sending.values()))
        for item in self._open.items.values():
            if len(self._sending) >= most:
                return
            ready = (down or item.due <= now) and id(item) not in busy
            if ready and self._open.is_first(item):
                self._sending[asyncio.create_task(self._attempt(item))] = item

    def _pause(self) -> float:
        """Return the seconds until there is something to do without anything happening."""
        now = self._loop.time()
        waits = [_LOOK_SECONDS]
        if self._failures >= _DOWN_AFTER:
            if not self._sending:
                waits.append(self._resume - now)
        elif len(self._sending) < IN_FLIGHT:
            busy = set(map(id, self._sending.values()))
            waits += [
                item.due - now
                for item in self._open.items.values()
                if id(item) not in busy and self._open.is_first(item)
            ]
        if self._made or self._position > self._recorded_position:
            seconds = _RECORD_SECONDS if self._made else _IDLE_RECORD_SECONDS
            waits.append(self._recorded + seconds - now)
        return max(min(waits), 0.0)

    async def _wait(self, seconds: float) -> None:
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait(
                [waking, *self._sending], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waking.cancel()

    async def _attempt(self, item: _Item) -> Outcome | None:
        """Send an event. None: the owner may not see it."""
        told = (await self._owner.rights()).told(item.event)
        if told is None:
            return None
        self._lease.check()
        now = self._state.webhooks.clock()
        item.since = item.since or now
        event = item.event
        return await self._receiver.send(event.id, event.kind, orjson.dumps(told), now)

    def _collect(self) -> None:
        """Take the results of what has ended. Raises OwnerEnded and LockLost."""
        for task in [task for task in self._sending if task.done()]:
            item = self._sending.pop(task)
            try:
                outcome = task.result()
            except (ApiError, StateUnavailable):
                item.due = self._resume = self._loop.time() + _RETRY_SECONDS
                continue
            if outcome is None:
                self._open.remove(item)
            else:
                self._note(item, outcome)

    def _note(self, item: _Item, outcome: Outcome) -> None:
        now = self._state.webhooks.clock()
        item.attempts += 1
        event = item.event
        self._made.append(
            Delivery(
                event.id, event.kind, now, item.attempts, outcome.status, outcome.reason,
                outcome.milliseconds,
            )
        )  # fmt: skip
        del self._made[:-_MAX_UNRECORDED]
        signals.webhook_called(outcome.reason)
        hook = self._webhook
        if not outcome.reason:
            self._open.remove(item)
            self._webhook = replace(hook, delivered=now, failing=None)
            if self._failures >= _DOWN_AFTER:
                for other in self._open.items.values():
                    other.due = 0.0  # the receiver is back
            self._failures = 0
            return
        self._webhook = replace(hook, failing=hook.failing or now)
        if outcome.status == webhooks.GONE:
            raise OwnerEnded(Reason.GONE)
        if now - item.since >= self._context.settings.webhook_retry_seconds:
            raise OwnerEnded(Reason.GAVE_UP)
        self._failures += 1
        item.due = self._loop.time() + webhooks.delay(item.attempts)
        more = self._failures - _DOWN_AFTER
        self._resume = self._loop.time() + webhooks.delay(max(more + 1, 1))

    # Storing

    async def _record(self, *, now: bool = False) -> None:
        """Store how far it has come, if it is time. Raises StateUnavailable."""
        if not (self._made or self._position > self._recorded_position):
            return
        seconds = _RECORD_SECONDS if self._made else _IDLE_RECORD_SECONDS
        if not now and self._loop.time() < self._recorded + seconds:
            return
        self._lease.check()
        hook, made, position = self._webhook, self._made, self._position
        progress = _Progress.dumps(self._read_to, self._open.items)
        values = {
            "position": position,
            "progress": progress,
            "delivered": hook.delivered,
            "failing": hook.failing,
        }
        self._recorded = self._loop.time()
        there = await self._state.webhooks.record(hook, values, made)
        self._webhook = replace(self._webhook, attempts=hook.attempts + len(made))
        self._made = []
        self._recorded_position = position
        self._stopping = self._stopping or not there

    async def _disable(self, reason: Reason) -> None:
        _log.warning(
            "webhook_disabled", webhook=self._webhook.id, owner=self._webhook.owner, reason=reason
        )
        with suppress(StateUnavailable):  # then the next one finds the same
            await self._state.webhooks.disable(self._webhook, reason)

    async def _finish(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=_STOP_SECONDS)
        for task in self._sending:
            task.cancel()
        with suppress(OwnerEnded, LockLost):
            self._collect()
        for task in self._sending:
            with suppress(asyncio.CancelledError, Exception):
                await task
        await self._receiver.close()
        with suppress(StateUnavailable, LockLost):
            await self._record(now=True)


@dataclass(frozen=True, slots=True)
class _Progress:
    """What a courier before this one has left: which events above the position are open."""

    read_to: int = 0
    tried: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Open events: attempts, and the time of the first one."""

    @classmethod
    def of(cls, webhook: Webhook) -> _Progress:
        if not webhook.progress:
            return cls()
        stored: dict[str, Any] = json.loads(webhook.progress)
        return cls(stored["read_to"], {int(at): (n, since) for at, n, since in stored["open"]})

    @staticmethod
    def dumps(read_to: int, items: dict[int, _Item]) -> str:
        left = [[at, item.attempts, round(item.since, 3)] for at, item in items.items()]
        return json.dumps({"read_to": read_to, "open": left}, separators=(",", ":"))

    def is_done(self, position: int) -> bool:
        """Tell whether an event was done before."""
        return position <= self.read_to and position not in self.tried
