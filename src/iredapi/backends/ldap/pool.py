"""Threads and connections: as many of each as ``size``, each connection used by one at a time.

An operation runs to its end in its thread, whatever becomes of the task that waits for it, and
only then is its connection free again. So a cancelled request never leaves one half used.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from iredapi.backends.ldap.connection import Connection
from iredapi.backends.ldap.errors import ReadsOnly, Unavailable
from iredapi.backends.ldap.model import DirectoryOptions
from iredapi.backends.ldap.server_selection import Servers
from iredapi.observability.query_counter import METER

_T = TypeVar("_T")
_MAX_AGE: Final = 3600.0
"""Seconds after which a connection is not used again."""
_MAX_FAILURES: Final = 200
"""bonsai keeps what it sent for each failed write until the connection ends."""
_MARGIN: Final = 2.0


class Pool:
    """Hands out places; a place is a thread and, once it is needed, a connection."""

    def __init__(self, options: DirectoryOptions) -> None:
        self._options = options
        self._servers = Servers(options)
        self._threads: ThreadPoolExecutor | None = None
        self._places = asyncio.Semaphore(options.size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._leases = 0
        self._none_left = threading.Event()
        self._none_left.set()
        self.closed = False

    @property
    def open(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    @property
    def idle(self) -> int:
        """How many connections nobody uses."""
        with self._lock:
            return len(self._idle)

    async def lease(self) -> PooledConnection:
        """Return a place, once one is free. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._options.pool_timeout):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("all connections are in use", uncertain=False) from None
        with self._lock:
            if not self.closed:
                self._leases += 1
                self._none_left.clear()
                return PooledConnection(self, asyncio.get_running_loop())
        self._places.release()
        raise Unavailable("the directory is closed", uncertain=False)

    def takes_writes(self, connection: Connection) -> bool:
        """Tell whether the server of a connection takes writes, as was seen lately. In a thread."""
        return self._servers.takes_writes(connection)

    def refused(self, connection: Connection) -> None:
        """Note that a server takes no writes."""
        self._servers.set_role(connection.server, writes=False)

    @property
    def others_may_write(self) -> bool:
        """Whether some server may take writes, as far as is known."""
        return self._servers.some_may_write

    @property
    def limit(self) -> float:
        """Seconds within which an operation has ended, whatever happens."""
        options = self._options
        # Once on an idle connection, and once more on a new one.
        return 2 * options.timeout + len(options.uris) * options.connect_timeout + _MARGIN

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Run work in a thread; there is one for each place, and one for looking around."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._options.size + 1, "ldap")
        return self._threads.submit(work)

    def take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it was idle. In a thread. Raises Unavailable."""
        best = self._servers.rank(self._servers.best())
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
                if connection is not None:
                    self._busy.add(connection)
            if connection is None:
                return self.connect(), False
            if self._servers.rank(connection.server) <= best and self._is_good(connection):
                return connection, True
            self.drop(connection)

    def connect(self) -> Connection:
        """Return a new connection. In a thread. Raises Unavailable."""
        connection = self._servers.connect()
        with self._lock:
            self._busy.add(connection)
        return connection

    def drop(self, connection: Connection) -> None:
        """Close a connection that was taken."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def drop_idle(self) -> None:
        """Close what is idle: the server that one of them was to is gone."""
        self._servers.doubt()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def give_back(self, connection: Connection | None, loop: asyncio.AbstractEventLoop) -> None:
        """Free a place. In whatever thread its last operation has ended."""
        if connection is not None:
            if connection.broken or self.closed or connection.failures > _MAX_FAILURES:
                self.drop(connection)
            else:
                with self._lock:
                    self._busy.discard(connection)
                    self._idle.append(connection)
        if self._servers.is_recovery_due() and not self.closed:
            with suppress(RuntimeError):
                self.submit(self._servers.look)
        with self._lock:
            self._leases -= 1
            if not self._leases:
                self._none_left.set()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._places.release)

    async def close(self, patience: float) -> None:
        """Let running operations end for ``patience`` seconds, cut them off, close everything."""
        with self._lock:
            self.closed = True
        loop = asyncio.get_running_loop()
        waiter = ThreadPoolExecutor(1, "ldap-close")
        try:
            if not await loop.run_in_executor(waiter, self._none_left.wait, patience):
                with self._lock:
                    busy = list(self._busy)
                for connection in busy:
                    connection.interrupt()
                await loop.run_in_executor(waiter, self._none_left.wait, patience)
        finally:
            waiter.shutdown(wait=False)
        self.drop_idle()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_good(self, connection: Connection) -> bool:
        return connection.is_alive() and time.monotonic() - connection.opened < _MAX_AGE


class PooledConnection:
    """A place of the pool. ``release`` may be called at any moment, and must be."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._connection: Connection | None = None
        self._running: Future[Any] | None = None

    async def run(self, work: Callable[[Connection], _T], *, again: bool = False) -> _T:
        """Run work in a thread; ``again`` on a new connection when an idle one was dead.

        Raises what work raises, and Unavailable. A cancelled caller does not stop the work.
        """
        future = self._pool.submit(lambda: self._work(work, again=again))
        self._running = future
        waiter = asyncio.wrap_future(future)
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._pool.limit):
                return await waiter
        except TimeoutError:
            raise Unavailable("no answer in time", uncertain=True, code=-5) from None
        finally:
            # In this task: threads have no meter.
            if (meter := METER.get()) is not None:
                meter.count(time.perf_counter() - begun)

    def release(self) -> None:
        """Give the place back as soon as nothing runs in it."""
        running = self._running
        if running is None:
            self._finish()
        else:
            running.add_done_callback(lambda _: self._finish())

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        self._pool.give_back(connection, self._loop)

    def _work(self, work: Callable[[Connection], _T], *, again: bool) -> _T:
        if self._connection is None:
            self._connection, was_idle = self._pool.take()
            again = again and was_idle
        else:
            again = False
        try:
            return work(self._connection)
        except ReadsOnly:
            self._pool.refused(self._connection)
            raise
        except Unavailable:
            self._drop()
            if not again:
                raise
        self._pool.drop_idle()
        self._connection = self._pool.connect()
        try:
            return work(self._connection)
        except ReadsOnly:
            self._pool.refused(self._connection)
            raise
        except Unavailable:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._pool.drop(self._connection)
            self._connection = None
