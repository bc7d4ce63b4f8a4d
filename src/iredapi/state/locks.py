"""Leased locks, shared by all replicas, for changes that no database row can guard.

A lock is a row with a holder and a time of expiry. The holder renews it; after a crash it expires.
The clocks of replicas must agree to much less than a lease (NTP).
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

from sqlalchemy import case, delete, select, update

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.renewal import renewed
from iredapi.state.tables import NAME_LENGTH, as_key, locks, upsert

POLL_INTERVALS = (0.01, 0.25)
"""Seconds between two reads of a lock that is held elsewhere: the first, and the maximum."""

_logger = logging.getLogger(__name__)


class LockTimeout(Exception):
    """Another holder kept the lock for the whole waiting time. Maps to 503."""


class LockLost(LockTimeout):
    """The lease expired while the lock was in use, so another holder may have it now."""


class Lease:
    """A held lock. Call ``check`` before writing what the lock protects."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.holder = secrets.token_hex(16)
        self.expires = 0.0
        """Seconds since the epoch; every renewal changes it."""
        self.lost = False
        self._clock = clock

    def check(self) -> None:
        """Raise ``LockLost`` unless the lock is still ours."""
        if self.lost or self._clock() >= self.expires:
            raise LockLost(f"The lock {self.name!r} was lost.")


class Locks:
    """Locks by name, shared by all replicas."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self.clock = self._clock = clock
        # Within this process waiting is fair, and only the first waiter polls.
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._releases: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(
        self, name: str, lease: float = 30.0, wait: float = 10.0
    ) -> AsyncIterator[Lease]:
        """Hold the lock ``name``. Raises ``LockTimeout`` when it is not free within ``wait`` s.

        The lease of ``lease`` seconds is renewed three times per lease, so the work may take
        longer. Not reentrant.
        """
        stored = as_key(name, NAME_LENGTH)
        queue = self._queues.setdefault(stored, asyncio.Lock())
        held = Lease(stored, self._clock)
        deadline = asyncio.get_running_loop().time() + wait
        try:
            async with asyncio.timeout_at(deadline):
                await queue.acquire()
        except TimeoutError:
            raise LockTimeout(f"The lock {name!r} is busy.") from None
        try:
            try:
                await self._acquire(held, lease, deadline)
                what = f"The lock {name!r}"
                async with renewed(what, lease, partial(self._renew, held, lease)):
                    yield held
            finally:
                # In a separate task: a cancelled request must not leave the lock behind.
                task = asyncio.create_task(self._release(held))
                self._releases.add(task)
                task.add_done_callback(self._releases.discard)
                await asyncio.shield(task)
        finally:
            queue.release()

    async def close(self) -> None:
        """Wait for releases that still run in the background."""
        if self._releases:
            await asyncio.wait(self._releases)

    async def _acquire(self, held: Lease, lease: float, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        pause = POLL_INTERVALS[0]
        while not await self._try(held, lease):
            while True:
                if loop.time() >= deadline:
                    raise LockTimeout(f"The lock {held.name!r} is busy.")
                jitter = random.uniform(0.5, 1)  # noqa: S311 - not a secret
                await asyncio.sleep(min(pause * jitter, deadline - loop.time()))
                pause = min(pause * 1.5, POLL_INTERVALS[1])
                # Read before trying again: trying is a write.
                if await self._is_free(held.name):
                    break

    async def _try(self, held: Lease, lease: float) -> bool:
        """Insert the row or take over an expired one, in one statement."""
        now = self._clock()
        table = locks.c
        free = table.expires <= now
        statement = upsert(
            self._connections.dialect,
            locks,
            [{"name": held.name, "holder": held.holder, "expires": now + lease}],
            [
                ("holder", case((free, held.holder), else_=table.holder)),
                ("expires", case((free, now + lease), else_=table.expires)),
            ],
        )
        await self._connections.write(statement)
        rows = await self._connections.read(select(table.holder).where(table.name == held.name))
        held.expires = now + lease
        return bool(rows) and rows[0].holder == held.holder

    async def _is_free(self, name: str) -> bool:
        rows = await self._connections.read(select(locks.c.expires).where(locks.c.name == name))
        return not rows or rows[0].expires <= self._clock()

    async def _renew(self, held: Lease, lease: float) -> bool:
        """Extend the lease; False: another holder has taken the lock over."""
        until = self._clock() + lease
        mine = (locks.c.name == held.name, locks.c.holder == held.holder)
        if await self._connections.write(update(locks).where(*mine).values(expires=until)):
            held.expires = until
        else:
            held.lost = True
            _logger.error("The lock %r was lost: its lease was not renewed in time.", held.name)
        return not held.lost

    async def _release(self, held: Lease) -> None:
        mine = (locks.c.name == held.name, locks.c.holder == held.holder)
        try:
            await self._connections.write(delete(locks).where(*mine))
        except StateUnavailable as error:
            _logger.warning(
                "The lock %r was not released and ends with its lease: %s", held.name, error
            )
