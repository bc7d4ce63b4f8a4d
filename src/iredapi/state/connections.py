"""How statements reach the state database: engine, transactions, second tries.

Reads and single writes run in autocommit mode (one round trip); what needs several
statements runs READ COMMITTED, on SQLite as ``BEGIN IMMEDIATE`` in a fair queue.
"""

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import Executable, Row, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from iredapi.database import read_only, sqlite
from iredapi.database.errors import codes_in, is_full, is_retryable
from iredapi.errors import ApiError, ServerDown, StorageFull
from iredapi.observability.query_counter import watch

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a call gives up, all tries and queues included."""

BUSY_TIMEOUT = 30.0
"""Seconds SQLite waits for a writer in another process, and the pool for a connection."""

CONNECT_TIMEOUT = 10.0
"""Seconds until a server that does not answer counts as away."""

FULL = 15.0
"""Seconds for which the disk counts as full after a write that found it full."""

TRIES = 12
"""How often a deadlock is tried again."""

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

# Keyed by loop and file, because an asyncio lock belongs to one loop; an entry goes
# with the last engine on its file.
_write_locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock]
_write_locks = WeakValueDictionary()


class StateUnavailable(Exception):
    """The state database is away, overloaded or ``full``. Maps to 503."""

    def __init__(self, reason: str = "", *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full

    def to_api_error(self) -> ApiError:
        """What a client is told of it."""
        return StorageFull() if self.full else ServerDown(detail="The state database is away.")


def _normalised(url: str) -> URL:
    """``url`` with our async driver, and utf8mb4 on MariaDB."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.get_backend_name() in _MARIADB and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def _sqlite_file(url: URL) -> str:
    """The absolute path of the database, created for our eyes only if it is new."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("The state database on SQLite needs the path of a file.")
    path = os.path.realpath(url.database)
    # Never open it when it is there: closing it would drop the locks that SQLite's other
    # connections in this process have on it (POSIX), and they would damage it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return path


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Take transactions out of the driver's hands: we say when one begins, and how."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(driver: Any, _record: Any) -> None:
        driver.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get(_IMMEDIATE):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _use_wal(engine: AsyncEngine) -> None:
    """Switch the file to WAL (kept in the file); SQLite does not queue for this itself."""
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


def _jitter(most: float) -> float:
    """Seconds to wait, so that rivals do not meet again."""
    return random.uniform(0, most)  # noqa: S311 - guards nothing


class Connections:
    """The connections to the state database. Raises ``StateUnavailable``, no driver's error."""

    def __init__(
        self, engine: AsyncEngine, writer: AsyncEngine, write_lock: asyncio.Lock | None
    ) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**{read_only.OPTION: True})
        event.listen(engine.sync_engine, "before_cursor_execute", read_only.refuse_writes)
        self._writer = writer
        self._write_lock = write_lock
        self.dialect: str = engine.dialect.name
        self.full_until = 0.0
        """Monotonic time until which the disk of the server counts as full."""

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to nothing yet, except that SQLite's file is created."""
        target = _normalised(url)
        backend = target.get_backend_name()
        if backend == "sqlite":
            path = _sqlite_file(target)
            engine = create_async_engine(
                target,
                hide_parameters=True,
                connect_args={"timeout": BUSY_TIMEOUT, "factory": sqlite.Connection},
                pool_timeout=BUSY_TIMEOUT,
            )
            _prepare_sqlite(engine)
            watch(engine.sync_engine)
            key = (asyncio.get_running_loop(), path)
            lock = _write_locks.setdefault(key, asyncio.Lock())
            connections = cls(engine, engine.execution_options(**{_IMMEDIATE: True}), lock)
            try:
                await _use_wal(engine)
            except DBAPIError as error:
                await engine.dispose()
                raise StateUnavailable(str(error.orig)) from error
            return connections
        timeout = "connect_timeout" if backend in _MARIADB else "timeout"
        options: dict[str, Any] = {
            "connect_args": {timeout: CONNECT_TIMEOUT},
            "pool_timeout": BUSY_TIMEOUT,
            "pool_recycle": 1800,
            "hide_parameters": True,
        }
        # Two pools: changing the isolation level of a connection for one use costs round
        # trips on MariaDB, and a request cancelled meanwhile leaves a dead one in the pool.
        engines = (
            create_async_engine(
                target,
                isolation_level="AUTOCOMMIT",
                skip_autocommit_rollback=True,
                pool_size=4,
                max_overflow=1,
                **options,
            ),
            create_async_engine(
                target, isolation_level="READ COMMITTED", pool_size=2, max_overflow=1, **options
            ),
        )
        for engine in engines:
            watch(engine.sync_engine)
        return cls(*engines, None)

    async def close(self) -> None:
        """Close every connection; a second time does nothing."""
        await self._engine.dispose()
        await self._writer.dispose()

    def connect(self) -> AsyncConnection:
        """A connection of one's own, in autocommit mode."""
        return self._engine.connect()

    async def use(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work``, on a connection in autocommit mode, perhaps twice."""
        return await self._use(self._engine, work)

    async def _use(self, engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def once() -> T:
            async with engine.connect() as connection:
                return await work(connection)

        return await self._persist(once)

    async def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """All rows of one SELECT. Raises WriteWhileReading for anything else."""

        async def execute(connection: AsyncConnection) -> Sequence[Row[Any]]:
            return (await connection.execute(statement)).all()

        return await self._use(self._reader, execute)

    async def write(self, statement: Executable) -> int:
        """Run one statement and commit it; the number of rows it matched."""

        async def execute(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        # SQLite has no second kind of write: everything queues.
        return await (self.use(execute) if self._write_lock is None else self.transact(execute))

    async def transact(
        self, work: Callable[[AsyncConnection], Awaitable[T]], *, patience: float = PATIENCE
    ) -> T:
        """Run ``work`` in one transaction; it runs again from its start after a deadlock.

        An exception rolls back. ``patience`` is in seconds.
        """

        async def once() -> T:
            async with self._writer.begin() as connection:
                return await work(connection)

        async def in_turn() -> T:
            if self._write_lock is None:
                return await once()
            async with self._write_lock:
                return await once()

        return await self._persist(in_turn, patience)

    def _unavailable(self, reason: str, error: Exception) -> StateUnavailable:
        full = isinstance(error, DBAPIError) and is_full(error)
        if full:
            now = time.monotonic()
            if now > self.full_until:
                _log.error("storage_full", database="state")
            self.full_until = now + FULL
        return StateUnavailable(reason, full=full)

    async def _persist(self, once: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
        try:
            async with asyncio.timeout(patience):
                for attempt in range(1, TRIES):
                    try:
                        return await once()
                    except DBAPIError as error:
                        if not is_retryable(error):
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
            # Without a statement it was the connecting that failed, a wrong password say.
            if error.statement is None or is_retryable(error):
                raise StateUnavailable(f"The state database refuses: {error.orig}") from error
            raise
