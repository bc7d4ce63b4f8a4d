"""A connection pool with fair waiting and separate limits for readers and writers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from iredapi.concurrency.shield import Background
from iredapi.database.column_types import MYSQL
from iredapi.database.connection import PooledConnection
from iredapi.database.galera import is_node
from iredapi.database.read_only import locks_rows, only_reads
from iredapi.errors import WriteWhileReading
from iredapi.observability.query_counter import UNCOUNTED
from iredapi.observability.signals import PoolUse

_ROLLBACK: Final = 10.0
"""Seconds to wait for a ROLLBACK; then the connection is closed."""
REFUSED: Final = 1.0
"""Seconds between two times at which idle connections are closed because a write was refused: while
a server takes no writes, each of them would close those that reads use."""
_SESSION_READS_ONLY: Final[Mapping[str, str]] = {
    "sqlite": "PRAGMA query_only=ON",
    **dict.fromkeys(MYSQL, "SET SESSION TRANSACTION READ ONLY"),
}
"""Statements after which the database refuses writes on a connection.

Not on PostgreSQL: behind PgBouncer in transaction mode the setting would stay on a connection that
other programs use next. There transactions of cursors are READ ONLY.
"""
_GENERIC_PLANS: Final = (
    "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings"
    " WHERE name = 'plan_cache_mode'"
)
"""Our statements look up keys: a plan for each value would cost more than running them."""
_POOLED: Final = "iredapi_pooled_connection"
"""The key of the ``PooledConnection`` in the ``info`` of a connection."""


def _before_statement(
    connection: Any, _cursor: Any, sql: str, _parameters: Any, context: Any, *_: Any
) -> None:
    """Do for statements that SQLAlchemy runs what ``PooledConnection`` does for all others."""
    pooled: PooledConnection | None = connection.info.get(_POOLED)  # None while connecting
    if pooled is None:
        return
    if pooled.read_only and not only_reads(sql):
        raise WriteWhileReading(sql)
    if pooled.guards is not None and pooled.transacting and locks_rows(sql):
        compiled = context.compiled
        if compiled is None:
            raise TypeError("a lock must be a statement, not text")
        given = {name for name, bind in compiled.binds.items() if bind.required}
        values = {name: context.compiled_parameters[0][name] for name in given}
        # ``compiled.statement`` may be another one of the same form, with other values.
        pooled.guards.add_statement(context.invoked_statement, values)


def jittered(seconds: float) -> float:
    """Return up to a fifth less, at random."""
    return seconds * random.uniform(0.8, 1)  # noqa: S311 (not a secret)


class FairSemaphore:
    """A semaphore whose waiters are served in order and give up after ``timeout`` seconds."""

    def __init__(self, places: int, timeout: float) -> None:
        self.size = places
        """The number of places."""
        self.left = places
        """The number of free places."""
        self._timeout = timeout
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()

    @property
    def longest_wait(self) -> float:
        """Seconds for which the first waiter has been waiting; 0: nobody waits."""
        for waiter, since in self._waiting:
            if not waiter.done():
                return time.monotonic() - since
        return 0.0

    @property
    def waiting(self) -> int:
        """The number of those who wait."""
        return sum(not waiter.done() for waiter, _ in self._waiting)

    async def take(self) -> None:
        """Acquire a place. Raises sqlalchemy's TimeoutError."""
        if self.left:
            self.left -= 1
            return
        # A place is handed over to the first waiter; it never becomes free meanwhile.
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, time.monotonic()))
        try:
            async with asyncio.timeout(self._timeout):
                await waiter
        except TimeoutError:
            if waiter.cancelled():
                raise PoolTimeout("no free connection") from None
            # The place was handed over just before the timeout.
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Release a place."""
        while self._waiting:
            waiter, _ = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.left += 1


class ConnectionPool:
    """At most ``size`` connections, of which units that write may use all but some.

    ``lists`` of these may be in use for long, by cursors of lists. Connections are counted here
    only: the engine must not have a pool of its own. Connecting, rolling back and closing run in
    separate tasks, which are not cancelled with a request; a place becomes free when they
    have ended. So a cancelled request costs at most the connection that it used.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        size: int,
        timeout: float,
        *,
        lists: int,
        max_age: float,
        notice: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        event.listen(engine.sync_engine, "before_cursor_execute", _before_statement)
        self._notice = notice
        self._max_age = max_age
        self._separate = engine.dialect.name in _SESSION_READS_ONLY
        """Whether readers have connections of their own, on which the database refuses writes."""
        self._all = FairSemaphore(size, timeout)
        # Writers may wait for each other's locks: some connections stay reserved for readers.
        self._writers = FairSemaphore(max(size - max(size // 4, 1) - lists, 1), timeout)
        self._free: list[PooledConnection] = []
        self._dropped_at = 0.0
        """Monotonic time; a connection that was opened before it is not used again."""
        self._background = Background()

    def is_spare(self) -> bool:
        """Return whether a connection is free for an optional use."""
        return self._all.left > 1

    @property
    def longest_wait(self) -> float:
        """Seconds for which the first waiter has been waiting for a connection; 0: nobody waits."""
        return max(self._all.longest_wait, self._writers.longest_wait)

    @property
    def use(self) -> PoolUse:
        """How it is used at this moment."""
        waiting = self._all.waiting + self._writers.waiting
        return PoolUse(self._all.size, self.in_use, waiting)

    @property
    def in_use(self) -> int:
        """The number of connections that are in use, or being opened or closed."""
        return self._all.size - self._all.left

    @property
    def idle(self) -> int:
        """The number of open connections that are not in use."""
        return len(self._free)

    async def take(self, *, writing: bool, read_only: bool) -> PooledConnection:
        """Return a connection; ``writing`` counts towards the lower limit of writers.

        Raises what connecting raises, and sqlalchemy's TimeoutError.
        """
        if not writing:
            return await self._take(read_only=read_only)
        await self._writers.take()
        try:
            return await self._take(read_only=read_only)
        except BaseException:
            self._writers.give()
            raise

    async def _take(self, *, read_only: bool) -> PooledConnection:
        await self._all.take()
        pooled = self._idle(refusing=read_only and self._separate)
        if pooled is None:
            pooled = await self._new(refusing=read_only and self._separate)
        pooled.read_only = read_only
        return pooled

    def _idle(self, *, refusing: bool) -> PooledConnection | None:
        """Return an idle connection; one that does not refuse writes may serve readers, too.

        Readers take it only where there may be no more connections. So those of each kind are as
        many as were ever needed at once, and none is opened and closed for each request.
        """
        now = time.monotonic()
        for place in range(len(self._free) - 1, -1, -1):
            pooled = self._free[place]
            if pooled.refuses_writes is refusing:
                del self._free[place]
                if now < pooled.expires_at:
                    return pooled
                self._background.start(_discard(pooled))
        if not self._free or self._all.left >= len(self._free):
            return None
        pooled = self._free.pop()
        if refusing:
            return pooled
        self._background.start(_discard(pooled))
        return None

    async def _new(self, *, refusing: bool) -> PooledConnection:
        connecting = self._background.start(self._connect(refusing=refusing))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # The caller was cancelled: keep the connection for the next one when it is open.
            connecting.add_done_callback(self._keep)
            raise
        except BaseException:
            self._all.give()
            raise

    def _keep(self, connecting: asyncio.Task[PooledConnection]) -> None:
        if not connecting.cancelled() and connecting.exception() is None:
            self._free.append(connecting.result())
        self._all.give()

    async def _connect(self, *, refusing: bool) -> PooledConnection:
        connection = await self._engine.connect()
        try:
            raw = await connection.get_raw_connection()
            if connection.dialect.name == "postgresql":
                await connection.exec_driver_sql(_GENERIC_PLANS, execution_options=UNCOUNTED)
            if refusing:
                await connection.exec_driver_sql(
                    _SESSION_READS_ONLY[connection.dialect.name], execution_options=UNCOUNTED
                )
        except BaseException:
            await connection.close()
            raise
        assert connection.sync_connection is not None  # noqa: S101 (for the type checker)
        info = connection.sync_connection.info
        pooled = info[_POOLED] = PooledConnection(
            connection,
            raw.dbapi_connection,
            raw.driver_connection,
            self._notice,
            galera=is_node(info),
        )
        pooled.refuses_writes = refusing
        # Not all at once, nor all processes at once.
        pooled.expires_at = pooled.opened_at + jittered(self._max_age)
        return pooled

    def give_at_once(self, pooled: PooledConnection, *, writing: bool) -> bool:
        """Release a connection without waiting, if possible; False: call ``give``."""
        if not self._may_serve_again(pooled):
            return False
        self._free.append(pooled)
        self._freed(writing=writing)
        return True

    def _may_serve_again(self, pooled: PooledConnection) -> bool:
        return pooled.opened_at >= self._dropped_at and pooled.usable and not pooled.discard

    async def give(self, pooled: PooledConnection, *, writing: bool) -> None:
        """Release a connection; an open transaction is rolled back.

        A cancelled caller stops waiting; the place is free when the connection is.
        """
        await self._background.run(self._give(pooled, writing=writing))

    async def _give(self, pooled: PooledConnection, *, writing: bool) -> None:
        try:
            if pooled.transacting and not pooled.broken and not pooled.connection.invalidated:
                # A broken connection is closed, which rolls back.
                with suppress(SQLAlchemyError, OSError):  # a TimeoutError is an OSError
                    async with asyncio.timeout(_ROLLBACK):
                        await pooled.rollback()
            if self._may_serve_again(pooled):
                self._free.append(pooled)
                return
            if pooled.lost or pooled.refused:
                self.drop_idle(seconds=0.0 if pooled.lost else REFUSED)
            await _discard(pooled)
        finally:
            self._freed(writing=writing)

    def drop_idle(self, *, seconds: float = 0.0) -> None:
        """Close all idle connections, after the server was lost (a restart breaks all of them).

        Those in use are closed when they are given back: they may lead to a server that takes no
        writes any more. Does nothing when this was done in the last ``seconds``.
        """
        now = time.monotonic()
        if now - self._dropped_at < seconds:
            return
        self._dropped_at = now
        stale, self._free = self._free, []
        for pooled in stale:
            self._background.start(_discard(pooled))

    def _freed(self, *, writing: bool) -> None:
        self._all.give()
        if writing:
            self._writers.give()

    async def close(self) -> None:
        """Close the idle connections."""
        await self._background.drain()
        while self._free:
            await _discard(self._free.pop())


async def _discard(pooled: PooledConnection) -> None:
    with suppress(SQLAlchemyError, OSError):
        if not pooled.connection.invalidated:
            await pooled.connection.invalidate()
    with suppress(SQLAlchemyError, OSError):
        await pooled.connection.close()
