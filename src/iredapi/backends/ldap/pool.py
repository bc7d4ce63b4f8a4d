"""Connection pool: at most ``size`` connections, and a thread for each.

A connection has one user at a time. A cancelled task does not stop its operation: the connection
returns to the pool when the operation has ended in its thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar

from iredapi.backends.ldap.connection import Connection
from iredapi.backends.ldap.errors import ReadsOnly, Unavailable
from iredapi.backends.ldap.model import DirectoryOptions
from iredapi.backends.ldap.server_selection import Servers
from iredapi.observability import spans
from iredapi.observability.query_counter import DIRECTORY, count_other

_T = TypeVar("_T")
_MAX_AGE: Final = 3600.0
"""Maximum age of a connection in seconds."""
_MAX_FAILURES: Final = 200
"""Maximum failed operations of a connection: bonsai leaks memory with each failed write."""
_MARGIN: Final = 2.0


class Pool:
    """Pool of slots; a slot is a thread and, once it is needed, a connection."""

    def __init__(self, options: DirectoryOptions) -> None:
        self._options = options
        self._servers = Servers(options)
        self._threads: ThreadPoolExecutor | None = None
        self._slots = asyncio.Semaphore(options.size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._acquired = 0
        self._none_left = threading.Event()
        self._none_left.set()
        self.closed = False

    @property
    def open(self) -> int:
        """Number of connections."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    @property
    def idle(self) -> int:
        """Number of idle connections."""
        with self._lock:
            return len(self._idle)

    async def acquire(self) -> PooledConnection:
        """Return a slot once one is free. Raises Unavailable after ``pool_timeout``."""
        try:
            async with asyncio.timeout(self._options.pool_timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable("all connections are in use", uncertain=False) from None
        with self._lock:
            if not self.closed:
                self._acquired += 1
                self._none_left.clear()
                return PooledConnection(self, asyncio.get_running_loop())
        self._slots.release()
        raise Unavailable("the directory is closed", uncertain=False)

    def takes_writes(self, connection: Connection) -> bool:
        """Tell whether a connection's server accepts writes (cached). Call it in a thread."""
        return self._servers.takes_writes(connection)

    def is_known_to_take_writes(self) -> bool:
        """Tell whether there is one server, which accepts writes (cached), and a connection to it.

        One that has just stopped has closed its connections: SQL must not be committed then.
        """
        with self._lock:
            there = bool(self._idle) and self._is_good(self._idle[-1])
        return there and self._servers.is_known_to_take_writes()

    def refused(self, connection: Connection) -> None:
        """Record that a server refused a write."""
        self._servers.set_role(connection.server, writes=False)
        self._servers.search()

    @property
    def is_one_of_several(self) -> bool:
        """Whether there are several servers."""
        return len(self._options.uris) > 1

    @property
    def changes_of_servers(self) -> int:
        """How often a server has stopped, or was used again."""
        return self._servers.changes

    def wait_for_others(self, connection: Connection) -> None:
        """Wait until all servers have the changes of all. Call it in a thread."""
        self._servers.wait_for_others(connection)

    @property
    def others_may_write(self) -> bool:
        """Whether any server may accept writes, as far as is known."""
        return self._servers.some_may_write

    @property
    def limit(self) -> float:
        """Maximum duration of an operation in seconds."""
        options = self._options
        # Once on an idle connection, and once more on a new one.
        return 2 * options.timeout + len(options.uris) * options.connect_timeout + _MARGIN

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Run work in a thread; there is one per slot, and one for checks of servers."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._options.size + 1, "ldap")
        return self._threads.submit(work)

    def take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it was idle. Call it in a thread. Raises Unavailable."""
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
        """Return a new connection. Call it in a thread. Raises Unavailable."""
        connection = self._servers.connect()
        with self._lock:
            self._busy.add(connection)
        return connection

    def drop(self, connection: Connection) -> None:
        """Close a connection that is in use."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def drop_idle(self) -> None:
        """Close all idle connections, after one of them was found closed by its server."""
        self._servers.doubt()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def give_back(self, connection: Connection | None, loop: asyncio.AbstractEventLoop) -> None:
        """Free a slot. Called in the thread of its last operation, or in the event loop."""
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
            self._acquired -= 1
            if not self._acquired:
                self._none_left.set()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._slots.release)

    async def close(self, patience: float) -> None:
        """Wait ``patience`` seconds for running operations, interrupt them, close everything."""
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
        self._servers.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_good(self, connection: Connection) -> bool:
        return connection.is_alive() and time.monotonic() - connection.opened < _MAX_AGE


class PooledConnection:
    """A slot of the pool. ``release`` must be called, and may be called at any time."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._connection: Connection | None = None
        self._running: Future[Any] | None = None

    async def run(self, work: Callable[[Connection], _T], *, retry: bool = False) -> _T:
        """Run work in a thread; with ``retry`` again on a new connection if an idle one was dead.

        Raises what ``work`` raises, and Unavailable. Cancelling does not stop the work.
        """
        whole: Callable[[], _T] = partial(self._work, work, retry=retry)
        if spans.tracer is not None:  # in the thread, the operations are children of this span
            whole = partial(copy_context().run, whole)
        future = self._pool.submit(whole)
        self._running = future
        waiter = asyncio.wrap_future(future)
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._pool.limit):
                return await waiter
        except TimeoutError:
            raise Unavailable("no answer in time", uncertain=True, code=-5) from None
        finally:
            # Counted in this task: context variables are not set in the thread.
            count_other(DIRECTORY, begun)

    def release(self) -> None:
        """Free the slot once its running operation has ended."""
        running = self._running
        if running is None:
            self._finish()
        else:
            running.add_done_callback(lambda _: self._finish())

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        self._pool.give_back(connection, self._loop)

    def _work(self, work: Callable[[Connection], _T], *, retry: bool) -> _T:
        if self._connection is None:
            self._connection, was_idle = self._pool.take()
            retry = retry and was_idle
        else:
            retry = False
        try:
            return work(self._connection)
        except ReadsOnly:
            self._pool.refused(self._connection)
            raise
        except Unavailable:
            self._drop()
            if not retry:
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
