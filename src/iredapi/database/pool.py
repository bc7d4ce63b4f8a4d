"""The pool of connections: who gets one, in which order, and what becomes of it."""

from __future__ import annotations

import asyncio
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
from iredapi.database.read_only import only_reads
from iredapi.errors import WriteWhileReading

RECYCLE: Final = 1800.0
"""Seconds after which a connection is not used again."""
_ROLLBACK: Final = 10.0
"""Seconds after which a server that does not answer to a ROLLBACK loses the connection."""
_SESSION_READS_ONLY: Final[Mapping[str, str]] = {
    "sqlite": "PRAGMA query_only=ON",
    **dict.fromkeys(MYSQL, "SET SESSION TRANSACTION READ ONLY"),
}
"""What makes the database refuse writes of a connection, whoever sends them.

Not on PostgreSQL: behind a pooler of transactions (PgBouncer) the setting would be left to other
programs, whose mail would be lost. Transactions of cursors are READ ONLY there.
"""
_GENERIC_PLANS: Final = (
    "SELECT set_config(name, 'force_generic_plan', false) FROM pg_settings"
    " WHERE name = 'plan_cache_mode'"
)
"""Our statements look for keys: planning them anew for each value costs more than running them."""
_POOLED: Final = "iredapi_pooled_connection"
"""The key of the ``PooledConnection`` in the ``info`` of a connection."""


def _refuse_writes(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    """Make what goes through SQLAlchemy obey ``PooledConnection.read_only``, too."""
    pooled = connection.info.get(_POOLED)  # none while it connects
    if pooled is not None and pooled.read_only and not only_reads(sql):
        raise WriteWhileReading(sql)


class FairSemaphore:
    """So many at a time; who finds no place waits ``timeout`` seconds, in order."""

    def __init__(self, places: int, timeout: float) -> None:
        self.size = places
        """Places in all."""
        self.left = places
        """Free places."""
        self._timeout = timeout
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()

    @property
    def longest_wait(self) -> float:
        """For how many seconds somebody has been waiting for a place; 0 when nobody has."""
        for waiter, since in self._waiting:
            if not waiter.done():
                return time.monotonic() - since
        return 0.0

    async def take(self) -> None:
        """Take a place. Raises sqlalchemy's TimeoutError."""
        if self.left:
            self.left -= 1
            return
        # A place is handed over: it is never free while somebody waits.
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, time.monotonic()))
        try:
            async with asyncio.timeout(self._timeout):
                await waiter
        except TimeoutError:
            if waiter.cancelled():
                raise PoolTimeout("no free connection") from None
            # It came in the last moment.
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Give a place back."""
        while self._waiting:
            waiter, _ = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.left += 1


class ConnectionPool:
    """At most ``size`` connections, of which units that write may use all but some.

    ``lists`` of these may be taken for long, by those who read lists. A place is counted here only
    (the engine must not have a pool of its own), and it is free again when its connection is:
    connecting, rolling back and closing run in tasks of their own, which a cancelled request does
    not cut. So a request that is cancelled costs at most the connection that it used.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        size: int,
        timeout: float,
        *,
        lists: int,
        notice: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        event.listen(engine.sync_engine, "before_cursor_execute", _refuse_writes)
        self._notice = notice
        self._separate = engine.dialect.name in _SESSION_READS_ONLY
        """Whether connections for readers are others than those for writers."""
        self._all = FairSemaphore(size, timeout)
        # Writers that wait for each other's locks must leave something to those who read.
        self._writers = FairSemaphore(max(size - max(size // 4, 1) - lists, 1), timeout)
        self._free: list[PooledConnection] = []
        self._background = Background()

    def is_spare(self) -> bool:
        """Tell whether there is a connection for somebody who can do without."""
        return self._all.left > 1

    @property
    def longest_wait(self) -> float:
        """For how many seconds somebody has been waiting for a connection; 0 when nobody has."""
        return max(self._all.longest_wait, self._writers.longest_wait)

    @property
    def in_use(self) -> int:
        """How many connections are in use, or being opened or closed."""
        return self._all.size - self._all.left

    @property
    def idle(self) -> int:
        """How many connections wait for the next request."""
        return len(self._free)

    async def take(self, *, writing: bool, read_only: bool) -> PooledConnection:
        """Return a connection; who is ``writing`` is one of the writers, of whom there are fewer.

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
        """Return an idle connection; one that does not refuse writes serves readers, too.

        Readers take it only where there may be no more connections. So those of each kind are as
        many as were ever needed at once, and none is opened and closed for each request.
        """
        now = time.monotonic()
        for place in range(len(self._free) - 1, -1, -1):
            pooled = self._free[place]
            if pooled.refuses_writes is refusing:
                del self._free[place]
                if now - pooled.opened_at < RECYCLE:
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
            # Nobody can be told how far it has come: it is somebody else's when it is there.
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
                await connection.exec_driver_sql(_GENERIC_PLANS)
            if refusing:
                await connection.exec_driver_sql(_SESSION_READS_ONLY[connection.dialect.name])
        except BaseException:
            await connection.close()
            raise
        pooled = PooledConnection(
            connection, raw.dbapi_connection, raw.driver_connection, self._notice
        )
        assert connection.sync_connection is not None  # noqa: S101 (for the type checker)
        connection.sync_connection.info[_POOLED] = pooled
        pooled.refuses_writes = refusing
        return pooled

    def give_at_once(self, pooled: PooledConnection, *, writing: bool) -> bool:
        """Take a connection back if there is nothing to wait for; else ``give`` must be called."""
        if pooled.discard or not pooled.usable:
            return False
        self._free.append(pooled)
        self._freed(writing=writing)
        return True

    async def give(self, pooled: PooledConnection, *, writing: bool) -> None:
        """Take a connection back; what was not committed is rolled back.

        A cancelled caller stops waiting; the place is free when the connection is.
        """
        await self._background.run(self._give(pooled, writing=writing))

    async def _give(self, pooled: PooledConnection, *, writing: bool) -> None:
        try:
            if pooled.transacting and not pooled.broken and not pooled.connection.invalidated:
                # One that broke cannot be rolled back; closing it does it.
                with suppress(SQLAlchemyError, OSError):  # a TimeoutError is an OSError
                    async with asyncio.timeout(_ROLLBACK):
                        await pooled.rollback()
            if pooled.usable and not pooled.discard:
                self._free.append(pooled)
                return
            if pooled.lost:
                self.drop_idle()
            await _discard(pooled)
        finally:
            self._freed(writing=writing)

    def drop_idle(self) -> None:
        """Close all that wait: what broke one (a server that was restarted) broke them as well."""
        stale, self._free = self._free, []
        for pooled in stale:
            self._background.start(_discard(pooled))

    def _freed(self, *, writing: bool) -> None:
        self._all.give()
        if writing:
            self._writers.give()

    async def close(self) -> None:
        """Close what is not in use."""
        await self._background.drain()
        while self._free:
            await _discard(self._free.pop())


async def _discard(pooled: PooledConnection) -> None:
    with suppress(SQLAlchemyError, OSError):
        if not pooled.connection.invalidated:
            await pooled.connection.invalidate()
    with suppress(SQLAlchemyError, OSError):
        await pooled.connection.close()
