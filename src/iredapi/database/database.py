"""Engines, connections and transactions of the SQL databases.

Reads run in autocommit (no BEGIN, no ROLLBACK on the wire), writes in READ COMMITTED transactions,
over the same connections. SQLite has one writer at a time: writers of this process wait in one fair
queue and take the file with BEGIN IMMEDIATE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import Column, MetaData, event, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from iredapi.concurrency.shield import Background
from iredapi.database import sqlite
from iredapi.database.compiled_statement import Plain
from iredapi.database.connection import ConnectionPool, PooledConnection, Row
from iredapi.database.cursor_cache import Cursors
from iredapi.database.datetimes import MYSQL_DECODERS, prepare_asyncpg
from iredapi.database.dialect import holds_at_once, is_full, is_unavailable, is_unknown_name
from iredapi.database.live_schema import Schema
from iredapi.database.read_batching import Pipeline
from iredapi.errors import NotSupported, Overloaded, ServerDown, WriteWhileReading
from iredapi.observability.health_checks import NotUsable
from iredapi.observability.query_counter import watch

ORDER: Final = ("vmail", "amavisd", "iredapd", "iredadmin")
"""The order in which databases are locked, and the reverse of that of commits."""
FULL: Final = 15.0
"""Seconds for which a server counts as full after a write that found its disk full."""
_log = structlog.get_logger(__name__)
SCHEMA_AGE: Final = 30.0
"""Seconds after which it is looked again which tables and columns there are."""
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA busy_timeout=30000",  # milliseconds, for writers in other processes
    "PRAGMA foreign_keys=ON",
    # With many users each new one touches a page of each index: kept for the next ones, and written
    # to the file for several at a time.
    "PRAGMA cache_size=-8000",  # KiB, for each connection
    "PRAGMA wal_autocheckpoint=4000",  # pages of 4 KiB
)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Connection pool of one database, of which a quarter is for reads only; times in seconds."""

    size: int = 10
    timeout: float = 10.0
    connect_timeout: float = 5.0


def _options(url: str, pool: PoolOptions) -> dict[str, Any]:
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        # ``ConnectionPool`` is the pool: a second count of the same connections may disagree.
        "poolclass": NullPool,
        "pool_reset_on_return": None,
        "hide_parameters": True,  # error texts must not carry password hashes
    }
    if url.startswith("postgresql"):
        options["connect_args"] = {
            "timeout": pool.connect_timeout,
            "command_timeout": 300,
            "server_settings": {"application_name": "iredapi"},
        }
    elif url.startswith("mysql"):
        options["connect_args"] = {
            "connect_timeout": pool.connect_timeout,
            "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "conv": MYSQL_DECODERS,
        }
    else:
        options["connect_args"] = {"factory": sqlite.Connection}
    return options


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for statement in _PRAGMAS:
            cursor.execute(statement)
        cursor.close()


class Database:
    """One SQL database: its connections and what tables it really has."""

    def __init__(
        self, name: str, url: str, metadata: MetaData, pool: PoolOptions = PoolOptions()
    ) -> None:
        self.name = name
        self.metadata = metadata
        options = _options(url, pool)
        self.sqlite = url.startswith("sqlite")
        if self.sqlite:
            del options["isolation_level"]  # the driver is told to keep its hands off
        self._engine = create_async_engine(url, **options)
        if self.sqlite:
            _prepare_sqlite(self._engine)
        elif url.startswith("postgresql"):
            prepare_asyncpg(self._engine)
        # The rest is for whoever reads, or is about to write.
        lists = pool.size // 4
        self._leases = ConnectionPool(
            self._engine, pool.size, pool.timeout, lists=lists, notice=self._notice
        )
        self._full_until = 0.0
        """Monotonic time until which the disk of the server counts as full."""
        self._busy_after = pool.timeout / 2
        """Seconds after which somebody who waits for a connection shows that there are too few."""
        event.listen(self._engine.sync_engine, "handle_error", self._noticed)
        self.takes_many = self._engine.dialect.driver == "asyncpg"
        """Whether one message takes the values of many, and rows have versions."""
        self._pipeline = (
            Pipeline(self.lease, self.give, self._engine.dialect)
            if self.takes_many or self.sqlite
            else None
        )
        self.cursors = Cursors(self.lease, self.give, lists, spare=self._leases.is_spare)
        watch(self._engine.sync_engine)
        # Outside of the pools: whether all connections are busy is another question.
        self._prober = create_async_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=options.get("connect_args", {}),
        )
        self.dialect = self._engine.dialect.name
        self.holds_at_once = False
        """Whether rows can be held unless somebody else holds one: known with the schema."""
        self.size = pool.size
        """Connections at most."""
        self._schema: Schema | None = None
        self._schema_read = 0.0
        """Monotonic time at which it was read."""
        self._detecting = asyncio.Lock()

    def make_file(self) -> None:
        """Make an SQLite file that is not there yet readable by its owner only: it holds hashes."""
        if self.file is not None and not self.file.exists():
            # Never touch one that exists: closing it would drop SQLite's locks on it.
            self.file.touch(mode=0o600, exist_ok=False)

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        path = self._engine.url.database
        return Path(path) if self.sqlite and path else None

    async def schema(self) -> Schema:
        """Return what the live database has, as of a while ago. Raises ServerDown.

        An upgrade of iRedMail adds columns while we run; somebody may take some away.
        """
        if self._schema is not None:
            if time.monotonic() - self._schema_read > SCHEMA_AGE and not self._detecting.locked():
                async with self._detecting:
                    await self._look_again()
            return self._schema
        if self._schema is None:
            async with self._detecting:
                if self._schema is None:
                    lease = await self.lease()
                    try:
                        self._schema = await Schema.detect(lease.connection, self.metadata)
                        self._schema_read = time.monotonic()
                        self.holds_at_once = holds_at_once(self._engine.dialect)
                    finally:
                        await self.give(lease)
        return self._schema

    async def _look_again(self) -> None:
        self._schema_read = time.monotonic()
        try:
            # A connection of its own: who asks may hold one of the pool's.
            async with asyncio.timeout(SCHEMA_AGE / 3), self._prober.connect() as connection:
                found = await Schema.detect(connection, self.metadata)
        except (SQLAlchemyError, OSError, TimeoutError):
            return  # whoever uses the database will be told
        if self._schema is None or found.found != self._schema.found:
            self._schema = found

    async def lease(
        self, *, writing: bool = False, read_only: bool | None = None
    ) -> PooledConnection:
        """Return a connection, in autocommit. Raises ServerDown.

        One that is not for ``writing`` refuses to, unless it is said not to be ``read_only``.
        """
        if read_only is None:
            read_only = not writing
        try:
            return await self._leases.take(writing=writing, read_only=read_only)
        except (DBAPIError, OSError, PoolTimeout, TimeoutError) as error:
            raise self._away(error) from error

    def give_at_once(self, lease: PooledConnection, *, writing: bool) -> bool:
        """Take a connection back if there is nothing to wait for; else ``give`` must be called."""
        return self._leases.give_at_once(lease, writing=writing)

    async def give(self, lease: PooledConnection, *, writing: bool = False) -> None:
        """Take a connection back; what was not committed is rolled back, also when cancelled."""
        if not self._leases.give_at_once(lease, writing=writing):
            await self._leases.give(lease, writing=writing)

    @asynccontextmanager
    async def using(self, *, writing: bool = False) -> AsyncIterator[PooledConnection]:
        """Lease a connection for some statements; one for writing is in a transaction."""
        lease = await self.lease(writing=writing)
        try:
            if writing:
                await lease.begin()
            yield lease
        finally:
            await self.give(lease, writing=writing)

    async def ask(self, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a read that takes no time and waits for no lock; with others, where possible.

        Its rows. Raises what SQLAlchemy would, and ServerDown.
        """
        if plain.writes:
            raise WriteWhileReading(plain.sql)
        if self._pipeline is not None:
            return await self._pipeline.fetch(plain, values)
        async with self.using() as lease:
            return await lease.fetch(plain, values)

    def _noticed(self, context: ExceptionContext) -> None:
        """Look at an error of a statement that SQLAlchemy runs."""
        # A request that was cancelled is a disconnect for SQLAlchemy, but of one connection only.
        if context.is_disconnect and context.invalidate_pool_on_disconnect:
            self._leases.drop_idle()
        self._notice(context.original_exception)

    def _notice(self, error: BaseException) -> None:
        if is_full(error):
            now = time.monotonic()
            if now > self._full_until:
                _log.error("storage_full", database=self.name)
            self._full_until = now + FULL
        if is_unknown_name(error):
            self._schema_read = -SCHEMA_AGE

    def _away(self, error: Exception) -> Exception:
        if isinstance(error, PoolTimeout):
            return Overloaded(f"All connections to the database {self.name} are busy.")
        if is_unavailable(error) or isinstance(error, TimeoutError):
            return ServerDown(detail=f"The database {self.name} is away.")
        return error

    async def ping(self) -> None:
        """Ask the server something, over a connection of its own.

        Raises what the driver does, and NotUsable when the server answers and cannot be used.
        """
        if time.monotonic() < self._full_until:
            raise NotUsable("full")
        if self._leases.longest_wait > self._busy_after:
            raise NotUsable("busy")
        if self.file is not None and not self.file.is_file():
            raise FileNotFoundError(self.file)
        async with self._prober.connect() as connection:
            await connection.execute(select(1))

    async def close(self) -> None:
        """Close all connections."""
        if self._pipeline is not None:
            await self._pipeline.close()
        await self.cursors.close()
        await self._leases.close()
        await self._engine.dispose()
        await self._prober.dispose()

    @property
    def engine(self) -> AsyncEngine:
        """What makes the connections, and says which SQL they speak."""
        return self._engine


@dataclass(slots=True)
class Databases:
    """All SQL databases of a configuration, and the queue of SQLite's writers."""

    by_name: Mapping[str, Database]
    patience: float = 60.0
    """Seconds that a writer waits for the one before it (SQLite)."""
    background: Background = field(default_factory=Background)
    """Connections that are being given back although their requests were cancelled."""
    _sqlite_writer: asyncio.Lock = field(default_factory=asyncio.Lock)

    def has(self, name: str) -> bool:
        """Tell whether a database is configured."""
        return name in self.by_name

    def __getitem__(self, name: str) -> Database:
        """Return a database. Raises NotSupported when it is not configured."""
        try:
            return self.by_name[name]
        except KeyError:
            raise NotSupported(detail=f"The database {name} is not configured.") from None

    async def open(self, *, writing: bool) -> Connections:
        """Return the connections of one request: none is opened before it is used.

        Unless it is ``writing`` they refuse to write.
        """
        queue = None
        if writing and any(database.sqlite for database in self.by_name.values()):
            queue = self._sqlite_writer
            try:
                async with asyncio.timeout(self.patience):
                    await queue.acquire()
            except TimeoutError:
                raise Overloaded("Another change of the SQLite database takes long.") from None
        return Connections(self, writing=writing, queue=queue)

    def open_for_logs(self) -> Connections:
        """Return connections on which each write is a transaction of its own.

        Who uses them is no writer among others, and waits for none.
        """
        return Connections(self, writing=False, queue=None, read_only=False)

    async def close(self) -> None:
        """Close all databases."""
        await self.background.drain()
        for database in self.by_name.values():
            await database.close()


class Connections:
    """One request's connections, at most one to each database."""

    __slots__ = ("_leases", "_queue", "databases", "read_only", "writing")

    def __init__(
        self,
        databases: Databases,
        *,
        writing: bool,
        queue: asyncio.Lock | None,
        read_only: bool | None = None,
    ) -> None:
        self.databases = databases
        self.writing = writing
        """Whether what is done is in transactions, to be committed."""
        self.read_only = not writing if read_only is None else read_only
        self._queue = queue
        self._leases: dict[str, PooledConnection] = {}

    async def get(self, name: str) -> AsyncConnection:
        """Return the connection to a database, opened now if it was not; a writing one began."""
        return (await self._begun(name)).connection

    async def _lease(self, name: str) -> PooledConnection:
        lease = self._leases.get(name)
        if lease is None:
            lease = await self.databases[name].lease(writing=self.writing, read_only=self.read_only)
            self._leases[name] = lease
        return lease

    async def _begun(self, name: str) -> PooledConnection:
        lease = await self._lease(name)
        if self.writing and not lease.transacting:
            await lease.begin()
        return lease

    async def run(self, name: str, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement past SQLAlchemy; its rows. Raises what SQLAlchemy would."""
        return await (await self._begun(name)).fetch(plain, values)

    async def hold(self, name: str, *rows: Row) -> None:
        """Hold rows, in this order, until the end."""
        lease = await self._lease(name)
        if self.databases[name].sqlite:
            # It has one writer at a time: who has begun holds everything.
            await self._begun(name)
            return
        if lease.transacting or not await lease.begin_with(rows):
            lease = await self._begun(name)
            for row in rows:
                await lease.fetch(row.plain(lease.connection.dialect), {"value": row.value})

    async def lock_nowait(self, name: str, column: Column[Any], values: Collection[str]) -> bool:
        """Begin by holding rows, if nobody else does and the database can tell at once."""
        lease = await self._lease(name)
        return not lease.transacting and await lease.begin_nowait(column, values)

    async def begin_reading(
        self, name: str, every: Sequence[Plain], values: Mapping[str, Any]
    ) -> list[list[Any]] | None:
        """Begin by reading, and holding what the first read finds, if nobody else does."""
        lease = await self._lease(name)
        return None if lease.transacting else await lease.begin_reading(every, values)

    async def run_for_each(
        self, name: str, plain: Plain, values: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run a write for each of some values."""
        await (await self._begun(name)).run_many(plain, values)

    async def run_all(self, name: str, every: Sequence[Plain], values: Mapping[str, Any]) -> None:
        """Run writes that share their values, one after the other."""
        await (await self._begun(name)).run_all(every, values)

    async def run_alone(self, name: str, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a write that is a transaction of its own; the rows that it returns."""
        return await (await self._lease(name)).fetch(plain, values)

    async def count(self, name: str, plain: Plain, values: Mapping[str, Any]) -> int:
        """Run a write that is a transaction of its own; how many rows it found (aiomysql)."""
        return await (await self._lease(name)).count(plain, values)

    async def fetch_for_each(
        self,
        name: str,
        numbered: Plain,
        values: Sequence[Mapping[str, Any]],
        *,
        begun: bool = True,
    ) -> list[list[Any]]:
        """Run a statement for each of some values in one message, for asyncpg only.

        Unless the unit has ``begun`` it is a transaction of its own.
        """
        lease = await (self._begun(name) if begun else self._lease(name))
        return await lease.fetch_many(numbered, values)

    async def fetch_batched(self, name: str, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a read that takes no time: together with others', unless the unit has a connection.

        Who holds one and waits for another one would wait for others who do the same.
        """
        lease = self._leases.get(name)
        if lease is not None:
            return await lease.fetch(plain, values)
        return await self.databases[name].ask(plain, values)

    async def commit(self) -> None:
        """Commit satellites first, accounts last: a broken request can be sent again."""
        for name in reversed(ORDER):
            lease = self._leases.get(name)
            if lease is not None and lease.transacting:
                await lease.commit()

    async def close(self) -> None:
        """Roll back what was not committed and give the connections back, also when cancelled."""
        slow = [
            (self.databases[name], lease)
            for name, lease in self._leases.items()
            if not self.databases[name].give_at_once(lease, writing=self.writing)
        ]
        self._leases.clear()
        queue, self._queue = self._queue, None
        if slow:
            await self.databases.background.run(_close(slow, queue, writing=self.writing))
        elif queue is not None:
            queue.release()


async def _close(
    leases: Sequence[tuple[Database, PooledConnection]],
    queue: asyncio.Lock | None,
    *,
    writing: bool,
) -> None:
    try:
        for database, lease in leases:
            await database.give(lease, writing=writing)
    finally:
        # The next writer of SQLite begins when this one holds nothing any more.
        if queue is not None:
            queue.release()
