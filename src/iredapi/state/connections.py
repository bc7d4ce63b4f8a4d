"""Connections to the state database: engines, transactions, retries.

Reads and single writes run in autocommit mode (one round trip). Transactions of several statements
run READ COMMITTED, on SQLite as ``BEGIN IMMEDIATE`` behind a fair lock.
"""

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Executable, Row, event
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from iredapi.database import galera, read_only, several_hosts, sqlite
from iredapi.database.compiled_statement import CompiledStatement, Statement
from iredapi.database.errors import (
    codes_in,
    is_full,
    is_read_only,
    is_retryable,
    is_wrong_server,
)
from iredapi.errors import ApiError, ReadOnlyServer, ServerDown, StorageFull
from iredapi.observability.query_counter import UNCOUNTED, watch

T = TypeVar("T")

CALL_TIMEOUT = 60.0
"""Maximum seconds after which a call fails, all attempts, waiting and the commit included."""

MAX_AGE = 300.0
"""Seconds after which a connection to a server is replaced by a new one."""

BUSY_TIMEOUT = 30.0
"""Seconds for which SQLite waits for another process, and the pool for a connection."""

CONNECT_TIMEOUT = 10.0
"""Seconds after which connecting to a server fails."""

FULL_DISK_SECONDS = 15.0
"""Seconds for which the disk counts as full after a write that found it full."""

REFUSED_SECONDS = 2.0
"""Seconds for which writes that can be left out are, after the server has refused one."""

MAX_ATTEMPTS = 12
"""How often a transaction is run when it ends in a deadlock."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mariadb+aiomysql",
}
_MARIADB = ("mysql", "mariadb")
_log = structlog.get_logger(__name__)
_IMMEDIATE = "iredapi_immediate"

# Keyed by loop and file, because an asyncio lock belongs to one loop. An entry is removed with the
# last engine on its file.
_write_locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock]
_write_locks = WeakValueDictionary()


class StateUnavailable(Exception):
    """The state database cannot be reached, is overloaded, ``full`` or ``read_only``. Maps to 503.

    ``full`` is said of its disk; ``read_only``: its server takes no writes.
    """

    def __init__(self, reason: str = "", *, full: bool = False, read_only: bool = False) -> None:
        super().__init__(reason)
        self.full = full
        self.read_only = read_only

    def to_api_error(self) -> ApiError:
        """Return the error of the HTTP answer."""
        if self.read_only:
            return ReadOnlyServer()
        return StorageFull() if self.full else ServerDown(detail="The state database is away.")


def _normalised(url: str) -> URL:
    """Return ``url`` with our async driver, and utf8mb4 on MariaDB."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.get_backend_name() in _MARIADB and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def _sqlite_file(url: URL) -> str:
    """Return the absolute path of the database; a new file gets the mode 0600."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("The state database on SQLite needs the path of a file.")
    path = os.path.realpath(url.database)
    # Never open an existing file: with POSIX locks, closing it would release the locks of all
    # SQLite connections of this process, and the database could be damaged.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return path


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Switch off the driver's implicit transactions, and begin them here."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(driver: Any, _record: Any) -> None:
        driver.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get(_IMMEDIATE):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _use_wal(engine: AsyncEngine) -> None:
    """Switch the file to WAL mode; SQLite's busy timeout does not cover this statement."""
    deadline = asyncio.get_running_loop().time() + BUSY_TIMEOUT
    async with engine.connect() as connection:
        while True:
            try:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except OperationalError as error:
                late = asyncio.get_running_loop().time() > deadline
                if late or sqlite3.SQLITE_BUSY not in codes_in(error)[2]:
                    raise
            await asyncio.sleep(_jitter(0.05))


def _leave_wrong_server(context: ExceptionContext) -> None:
    """Close the connections to a server that takes no writes: another one may do so by now."""
    if is_wrong_server(context.original_exception):
        context.is_disconnect = True


def _jitter(most: float) -> float:
    """Return a random delay in seconds, so that parallel writers do not collide again."""
    return random.uniform(0, most)  # noqa: S311 - not a secret


class Connections:
    """The connection pools of the state database. Driver errors become ``StateUnavailable``."""

    def __init__(
        self,
        engine: AsyncEngine,
        writer: AsyncEngine,
        write_lock: asyncio.Lock | None,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        self._engine = engine
        self._call_timeout = call_timeout
        self._reader = engine.execution_options(**{read_only.OPTION: True})
        event.listen(engine.sync_engine, "before_cursor_execute", read_only.refuse_writes)
        self._writer = writer
        self._write_lock = write_lock
        self.dialect: str = engine.dialect.name
        self._compiled: dict[object, CompiledStatement] = {}
        self._refused_until = 0.0
        """Monotonic time until which writes that can be left out are."""
        self.full_until = 0.0
        """Monotonic time until which the server's disk counts as full."""

    @classmethod
    async def open(
        cls, url: str, *, call_timeout: float = CALL_TIMEOUT, max_age: float = MAX_AGE
    ) -> Self:
        """Create the pools without connecting; on SQLite the file is created.

        A call fails after ``call_timeout`` seconds; connections older than ``max_age`` seconds are
        replaced.
        """
        target = _normalised(url)
        backend = target.get_backend_name()
        if backend == "sqlite":
            path = _sqlite_file(target)
            engine = create_async_engine(
                target,
                hide_parameters=True,
                connect_args={"timeout": BUSY_TIMEOUT, "factory": sqlite.Connection},
                pool_timeout=BUSY_TIMEOUT,
                pool_size=15,
                max_overflow=0,  # such a connection is closed after each use
            )
            _prepare_sqlite(engine)
            watch(engine.sync_engine)
            key = (asyncio.get_running_loop(), path)
            lock = _write_locks.setdefault(key, asyncio.Lock())
            writer = engine.execution_options(**{_IMMEDIATE: True})
            connections = cls(engine, writer, lock, call_timeout)
            try:
                await _use_wal(engine)
            except DBAPIError as error:
                await engine.dispose()
                raise StateUnavailable(str(error.orig)) from error
            return connections
        target, security = several_hosts.connect_arguments(target)
        timeout = "connect_timeout" if backend in _MARIADB else "timeout"
        options: dict[str, Any] = {
            "connect_args": {timeout: CONNECT_TIMEOUT, **security},
            "pool_timeout": BUSY_TIMEOUT,
            "pool_recycle": max_age * random.uniform(0.8, 1),  # noqa: S311 - not a secret
            "hide_parameters": True,
        }
        # Two pools: changing the isolation level of a connection costs round trips on MariaDB, and
        # a request that is cancelled meanwhile leaves a broken connection in the pool.
        engines = (
            create_async_engine(
                target,
                isolation_level="AUTOCOMMIT",
                skip_autocommit_rollback=True,
                pool_size=5,
                max_overflow=0,  # such a connection is closed after each use
                **options,
            ),
            create_async_engine(
                target, isolation_level="READ COMMITTED", pool_size=3, max_overflow=0, **options
            ),
        )
        for engine in engines:
            watch(engine.sync_engine)
            galera.watch(engine)
            event.listen(engine.sync_engine, "handle_error", _leave_wrong_server)
        return cls(*engines, None, call_timeout)

    async def close(self) -> None:
        """Close every connection. May be called twice."""
        await self._engine.dispose()
        await self._writer.dispose()

    def connect(self) -> AsyncConnection:
        """Return a connection in autocommit mode, for exclusive use."""
        return self._engine.connect()

    async def use(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` on a connection in autocommit mode; it may run more than once."""
        return await self._use(self._engine, work)

    async def _use(self, engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def once() -> T:
            async with engine.connect() as connection:
                return await work(connection)

        return await self._run_with_retries(once)

    async def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return all rows of one SELECT. Raises WriteWhileReading for other statements."""

        async def execute(connection: AsyncConnection) -> Sequence[Row[Any]]:
            return (await connection.execute(statement)).all()

        return await self._use(self._reader, execute)

    async def execute_compiled(
        self,
        connection: AsyncConnection,
        key: object,
        build: Callable[[], Statement],
        values: Mapping[str, Any],
    ) -> Sequence[Any]:
        """Run a statement that is compiled once; return its rows. ``key`` identifies it.

        SQLAlchemy would compile an INSERT of several rows each time.
        """
        compiled = self._compiled_once(key, build)
        result = await connection.exec_driver_sql(compiled.sql, tuple(compiled.arguments(values)))
        return compiled.rows(result.fetchall()) if result.returns_rows else ()

    async def execute_for_each(
        self,
        connection: AsyncConnection,
        key: object,
        build: Callable[[], Statement],
        every: Sequence[Mapping[str, Any]],
    ) -> None:
        """Run a write for each of some values; it is no statement of a request (``UNCOUNTED``)."""
        compiled = self._compiled_once(key, build)
        arguments = [tuple(compiled.arguments(values)) for values in every]
        await connection.exec_driver_sql(compiled.sql, arguments, execution_options=UNCOUNTED)

    def _compiled_once(self, key: object, build: Callable[[], Statement]) -> CompiledStatement:
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = CompiledStatement.of(build(), self._engine.dialect)
        return compiled

    async def write(self, statement: Executable) -> int:
        """Run one statement and commit it; return the number of rows that it matched."""

        async def execute(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        # On SQLite every write takes the write lock.
        return await (self.use(execute) if self._write_lock is None else self.transact(execute))

    async def transact(
        self, work: Callable[[AsyncConnection], Awaitable[T]], *, seconds: float = 0.0
    ) -> T:
        """Run ``work`` in one transaction; after a deadlock it runs again from its start.

        An exception rolls back. It fails after ``seconds``; 0: as every call.
        """

        async def once() -> T:
            async with self._writer.begin() as connection:
                return await work(connection)

        async def locked() -> T:
            if self._write_lock is None:
                return await once()
            async with self._write_lock:
                return await once()

        return await self._run_with_retries(locked, seconds)

    async def write_if_possible(self, statement: Executable) -> int | None:
        """Run a write that may be left out while the server takes none; None: it was left out.

        Such as the time of the last use of a session: without it, reads go on.
        """
        if time.monotonic() < self._refused_until:
            return None
        try:
            return await self.write(statement)
        except StateUnavailable as error:
            if not error.read_only:
                raise
            self._refused_until = time.monotonic() + REFUSED_SECONDS
            return None

    def _unavailable(self, reason: str, error: Exception) -> StateUnavailable:
        full = isinstance(error, DBAPIError) and is_full(error)
        if full:
            now = time.monotonic()
            if now > self.full_until:
                _log.error("storage_full", database="state")
            self.full_until = now + FULL_DISK_SECONDS
        return StateUnavailable(reason, full=full, read_only=is_read_only(error))

    async def _run_with_retries(self, once: Callable[[], Awaitable[T]], seconds: float = 0.0) -> T:
        try:
            async with asyncio.timeout(seconds or self._call_timeout):
                for attempt in range(1, MAX_ATTEMPTS):
                    try:
                        return await once()
                    except DBAPIError as error:
                        if not is_retryable(error) or (attempt > 1 and is_read_only(error)):
                            raise
                    await asyncio.sleep(_jitter(0.02 * attempt))
                return await once()
        except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise self._unavailable(f"The state database is unavailable: {cause}", error) from error
        except DBAPIError as error:
            if is_full(error):
                raise self._unavailable(f"The state database is full: {error.orig}", error) from (
                    error
                )
            # Without a statement connecting has failed, for example with a wrong password.
            if error.statement is None or is_retryable(error):
                raise self._unavailable(f"The state database refuses: {error.orig}", error) from (
                    error
                )
            raise
