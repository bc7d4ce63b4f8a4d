"""Engines, connections and transactions of the SQL databases.

Reads run in autocommit (no BEGIN, no ROLLBACK on the wire), writes in READ COMMITTED transactions,
over the same connections. SQLite has one writer at a time: writers of this process wait in one fair
queue and take the file with BEGIN IMMEDIATE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import MetaData, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from iredapi.database import galera, several_hosts, sqlite, topology, writability
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.connection import PooledConnection
from iredapi.database.cursor_cache import Cursors
from iredapi.database.datetimes import prepare_asyncpg
from iredapi.database.dialect import holds_at_once
from iredapi.database.errors import (
    NoWritableServer,
    has_no_quorum,
    is_full,
    is_lost_statement,
    is_read_only,
    is_unavailable,
    is_unknown_name,
    is_wrong_server,
)
from iredapi.database.live_schema import Schema
from iredapi.database.pool import REFUSED, ConnectionPool
from iredapi.database.read_batching import Pipeline
from iredapi.database.topology import Topology
from iredapi.errors import Overloaded, ReadOnlyServer, ServerDown, WriteWhileReading
from iredapi.observability.health_checks import NotUsable
from iredapi.observability.query_counter import watch
from iredapi.observability.signals import PoolUse

FULL: Final = 15.0
"""Seconds for which a server's disk counts as full after a failed write."""
HANGING: Final = 15.0
"""Seconds for which commits count as hanging after one that did not end in time."""
POOLER: Final = (
    "PgBouncer pools transactions and forgets prepared statements: add ?statement_cache_size=0 to "
    "the URL, or use 1.21 or later with max_prepared_statements above 0"
)
_log = structlog.get_logger(__name__)
SCHEMA_AGE: Final = 30.0
"""Seconds after which the tables and columns are read again."""
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
    max_age: float = 300.0
    """Age at which a connection is replaced by a new one; up to a fifth earlier."""


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
        from iredapi.database.mysql_results import DECODERS

        options["connect_args"] = {
            "connect_timeout": pool.connect_timeout,
            "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "conv": DECODERS,
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
    """One SQL database: its connections, and the tables and columns that it has."""

    def __init__(
        self, name: str, url: str, metadata: MetaData, pool: PoolOptions = PoolOptions()
    ) -> None:
        self.name = name
        self.url = make_url(url)
        self.metadata = metadata
        options = _options(url, pool)
        address, security = several_hosts.connect_arguments(url)
        options["connect_args"] |= security
        self.sqlite = url.startswith("sqlite")
        if self.sqlite:
            del options["isolation_level"]  # the driver must not begin transactions itself
        self._engine = create_async_engine(address, **options)
        if self.sqlite:
            _prepare_sqlite(self._engine)
        elif url.startswith("postgresql"):
            prepare_asyncpg(self._engine)
        galera.watch(self._engine)
        # The other connections serve reads and writes.
        lists = pool.size // 4
        self._pool = ConnectionPool(
            self._engine,
            pool.size,
            pool.timeout,
            lists=lists,
            max_age=pool.max_age,
            notice=self._notice,
        )
        self._full_until = 0.0
        """Monotonic time until which the disk of the server counts as full."""
        self._hanging_until = 0.0
        """Monotonic time until which commits count as hanging."""
        self._statements_lost_until = 0.0
        """Monotonic time until which PgBouncer counts as set up wrongly."""
        self._busy_after = pool.timeout / 2
        """Seconds of waiting for a connection after which the database counts as busy."""
        event.listen(self._engine.sync_engine, "handle_error", self._on_sqlalchemy_error)
        self.takes_many = self._engine.dialect.driver == "asyncpg"
        """Whether one message can have the values of many rows, and rows have versions."""
        self._pipeline = Pipeline(self.acquire, self.give, self._engine.dialect)
        self.cursors = Cursors(self.acquire, self.give, lists, spare=self._pool.is_spare)
        watch(self._engine.sync_engine)
        # Outside of the pool, so that the check works while all connections are in use.
        self._prober = create_async_engine(
            address,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=options.get("connect_args", {}),
        )
        self.dialect = self._engine.dialect.name
        self.holds_at_once = False
        """Whether the server has NOWAIT; read together with the schema."""
        self.size = pool.size
        """The maximum number of connections."""
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
        """Return the live schema, at most about ``SCHEMA_AGE`` seconds old. Raises ServerDown.

        It is read again because an upgrade of iRedMail may add or remove columns meanwhile.
        """
        if self._schema is not None:
            if time.monotonic() - self._schema_read > SCHEMA_AGE and not self._detecting.locked():
                async with self._detecting:
                    await self._refresh_schema()
            return self._schema
        if self._schema is None:
            async with self._detecting:
                if self._schema is None:
                    pooled = await self.acquire()
                    try:
                        self._schema = await Schema.detect(pooled.connection, self.metadata)
                        self._schema_read = time.monotonic()
                        self.holds_at_once = holds_at_once(self._engine.dialect)
                    finally:
                        await self.give(pooled)
        return self._schema

    async def _refresh_schema(self) -> None:
        self._schema_read = time.monotonic()
        try:
            # A connection outside of the pool: the caller may have the pool's last one.
            async with asyncio.timeout(SCHEMA_AGE / 3), self._prober.connect() as connection:
                found = await Schema.detect(connection, self.metadata)
        except (SQLAlchemyError, OSError, TimeoutError):
            return  # the next statement reports the error
        if found != self._schema:
            self._schema = found

    async def acquire(
        self, *, writing: bool = False, read_only: bool | None = None
    ) -> PooledConnection:
        """Return a connection, in autocommit. Raises ServerDown.

        Without ``writing`` it refuses writes, unless ``read_only`` is False.
        """
        if read_only is None:
            read_only = not writing
        try:
            return await self._pool.take(writing=writing, read_only=read_only)
        except (DBAPIError, OSError, PoolTimeout, TimeoutError) as error:
            raise self._unavailable(error) from error

    def give_at_once(self, pooled: PooledConnection, *, writing: bool) -> bool:
        """Release a connection without waiting, if possible; False: call ``give``."""
        return self._pool.give_at_once(pooled, writing=writing)

    async def give(self, pooled: PooledConnection, *, writing: bool = False) -> None:
        """Release a connection; an open transaction is rolled back, also when cancelled."""
        if not self._pool.give_at_once(pooled, writing=writing):
            await self._pool.give(pooled, writing=writing)

    @asynccontextmanager
    async def using(self, *, writing: bool = False) -> AsyncIterator[PooledConnection]:
        """Acquire a connection for a block; with ``writing`` in a transaction.

        On Galera its locks are those of one node: what is locked must be changed as well.
        """
        pooled = await self.acquire(writing=writing)
        guards, pooled.guards = pooled.guards, None
        try:
            if writing:
                await pooled.begin()
            yield pooled
        finally:
            pooled.guards = guards
            await self.give(pooled, writing=writing)

    async def fetch(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> list[Any]:
        """Run a fast read that waits for no lock, batched with others.

        Returns its rows. Raises what SQLAlchemy would, and ServerDown.
        """
        if compiled.writes:
            raise WriteWhileReading(compiled.sql)
        return await self._pipeline.fetch(compiled, values)

    def _on_sqlalchemy_error(self, context: ExceptionContext) -> None:
        """Handle an error of a statement that SQLAlchemy runs."""
        if is_wrong_server(context.original_exception):
            context.is_disconnect = True
            self._pool.drop_idle(seconds=REFUSED)
        # SQLAlchemy reports a cancelled request as a disconnect; only one connection is broken.
        elif context.is_disconnect and context.invalidate_pool_on_disconnect:
            self._pool.drop_idle()
        self._notice(context.original_exception)

    def _notice(self, error: BaseException) -> None:
        if is_full(error):
            now = time.monotonic()
            if now > self._full_until:
                _log.error("storage_full", database=self.name)
            self._full_until = now + FULL
        if is_lost_statement(error):
            now = time.monotonic()
            if now > self._statements_lost_until:
                _log.error("prepared_statement_lost", database=self.name, hint=POOLER)
            self._statements_lost_until = now + HANGING
        if is_unknown_name(error):
            self._schema_read = -SCHEMA_AGE

    def _unavailable(self, error: Exception) -> Exception:
        if isinstance(error, PoolTimeout):
            return Overloaded(f"All connections to the database {self.name} are busy.")
        if is_read_only(error):
            return ReadOnlyServer()
        if is_unavailable(error) or isinstance(error, TimeoutError):
            return ServerDown(detail=f"The database {self.name} is away.")
        return error

    @property
    def pool_use(self) -> PoolUse:
        """How the connections are used at this moment."""
        return self._pool.use

    def note_hanging_commit(self) -> None:
        """Remember that a commit did not end in time, for the health check."""
        _log.error("commit_timed_out", database=self.name)
        self._hanging_until = time.monotonic() + HANGING

    async def ping(self) -> None:
        """Run a statement on a connection outside of the pool, as a health check.

        Raises the driver's errors, and NotUsable when the server answers but cannot be used.
        """
        if time.monotonic() < self._full_until:
            raise NotUsable("full")
        if time.monotonic() < self._hanging_until:
            raise NotUsable("commits wait")
        if time.monotonic() < self._statements_lost_until:
            raise NotUsable("prepared statements lost")
        if self._pool.longest_wait > self._busy_after:
            raise NotUsable("busy")
        if self.file is not None and not self.file.is_file():
            raise FileNotFoundError(self.file)
        try:
            async with self._prober.connect() as connection:
                await writability.check(connection)
        except (DBAPIError, NoWritableServer) as error:
            if has_no_quorum(error):
                raise NotUsable("no quorum") from error
            if is_read_only(error):
                raise NotUsable("read-only") from error
            raise

    async def topology(self) -> Topology | None:
        """Return which server answers, on a connection outside of the pool; None: SQLite."""
        if self.sqlite:
            return None
        async with self._prober.connect() as connection:
            return await topology.ask(connection)

    async def close(self) -> None:
        """Close all connections."""
        await self._pipeline.close()
        await self.cursors.close()
        await self._pool.close()
        await self._engine.dispose()
        await self._prober.dispose()

    @property
    def engine(self) -> AsyncEngine:
        """The SQLAlchemy engine, which opens connections and knows the dialect."""
        return self._engine
