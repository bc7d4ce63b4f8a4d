"""Connections, and the way to the driver itself: the one place where SQLAlchemy is left.

A connection that is given back stays with us, ready for the next request: SQLAlchemy's pool and its
per-statement machinery cost several times what the statement costs (ADR 8). All are in autocommit;
a transaction begins and ends with the words for it. Whoever needs SQLAlchemy uses the same
connection through it, inside or outside of a transaction.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from sqlalchemy import Column, Dialect, bindparam, event, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from iredapi.concurrency.shield import Background
from iredapi.database.compiled_statement import Plain
from iredapi.database.dialect import MYSQL, is_retryable
from iredapi.database.drivers import DRIVERS, Aiomysql, Aiosqlite, Asyncpg
from iredapi.database.read_only import only_reads
from iredapi.errors import WriteWhileReading
from iredapi.observability import query_counter

Answer = TypeVar("Answer")

RECYCLE: Final = 1800.0
"""Seconds after which a connection is not used again."""
_ROLLBACK: Final = 10.0
"""Seconds after which a server that does not answer to a ROLLBACK loses the connection."""
_HARMLESS: Final = re.compile(r"[a-z0-9@._+-]+")
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


_LEASE: Final = "iredapi_lease"
"""Under which name a connection's ``info`` holds its lease."""


def _refuse_writes(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    """Make what goes through SQLAlchemy obey ``PooledConnection.read_only``, too."""
    lease = connection.info.get(_LEASE)  # none while it connects
    if lease is not None and lease.read_only and not only_reads(sql):
        raise WriteWhileReading(sql)


@dataclass(frozen=True, slots=True)
class Row:
    """One row, chosen by a name, that is to be held."""

    column: Column[Any]
    value: str
    share: bool = False
    """Together with others who share it."""

    def plain(self, dialect: Dialect) -> Plain:
        """Return the statement that holds it; the name is its parameter ``value``."""
        return _holding(self.column, self.share, dialect)

    def text(self, share: str) -> str:
        """Return it as text, with the driver's words for sharing. The name must be harmless."""
        column, how = self.column, share if self.share else "FOR UPDATE"
        rows = f"{column.table.name} WHERE {column.name} = '{self.value}'"
        return f"SELECT 1 FROM {rows} {how}"  # noqa: S608 (names are the tables')


@lru_cache
def _holding(column: Column[Any], share: bool, dialect: Dialect) -> Plain:
    chosen = select(column).where(column == bindparam("value"))
    return Plain.of(chosen.with_for_update(read=share), dialect)


class PooledConnection:
    """A connection, used by one request at a time."""

    __slots__ = (
        "_adapter",
        "_driver",
        "_name",
        "_notice",
        "broken",
        "connection",
        "lost",
        "opened_at",
        "read_only",
        "refuses_writes",
        "spent",
        "transacting",
    )  # fmt: skip

    def __init__(
        self,
        connection: AsyncConnection,
        adapter: Any,
        driver: Any,
        notice: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.connection = connection
        self._notice = notice
        self._adapter = adapter
        self._name = connection.dialect.driver
        self._driver = DRIVERS[self._name](driver)
        self.opened_at = time.monotonic()
        self.broken = False
        """Whether it cannot be used any more."""
        self.lost = False
        """Whether it broke because the server is gone: then the idle ones are dead as well."""
        self.spent = False
        """Whether it is of no use any more, though nothing is wrong with the server."""
        self.transacting = False
        """Whether there is something to commit or to roll back."""
        self.read_only = False
        """Whether it was taken to read only: writes are refused before they are sent."""
        self.refuses_writes = False
        """Whether the database refuses them, too."""

    def permit(self, plain: Plain) -> None:
        """Raise WriteWhileReading for a statement that writes where only reads are expected."""
        if self.read_only and plain.writes:
            raise WriteWhileReading(plain.sql)

    @property
    def usable(self) -> bool:
        """Whether another request may have it."""
        return not (self.broken or self.transacting or self.connection.invalidated)

    async def fetch(self, plain: Plain, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement on the driver. Raises what SQLAlchemy would."""
        if self.read_only and plain.writes:  # what ``permit`` does, without a call
            raise WriteWhileReading(plain.sql)
        question = self._driver.fetch(plain.sql, plain.arguments(values))
        return plain.rows(await self.asked(plain.sql, question))

    async def count(self, plain: Plain, values: Mapping[str, Any]) -> int:
        """Run a write and return how many rows it found. Only aiomysql counts."""
        if not isinstance(self._driver, Aiomysql):
            raise TypeError(self._name)
        self.permit(plain)
        question = self._driver.count(plain.sql, plain.arguments(values))
        return await self.asked(plain.sql, question)

    async def fetch_many(
        self, numbered: Plain, values: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """Run a statement for each of some values in one message and one transaction.

        Only asyncpg can; ``Plain.numbered`` makes the statement. Raises what SQLAlchemy would, and
        then nothing was done.
        """
        if not isinstance(self._driver, Asyncpg):
            raise TypeError(self._name)
        self.permit(numbered)
        every = [numbered.arguments({**one, "number": at}) for at, one in enumerate(values)]
        question = self._driver.fetch_many(numbered.sql, every)
        found: list[list[Any]] = [[] for _ in values]
        for row in numbered.rows(await self.asked(numbered.sql, question)):
            found[row[-1]].append(row[:-1])
        return found

    async def fetch_each(
        self, plain: Plain, values: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """Run a read for each of some values in one turn of the thread. Only aiosqlite has one."""
        if not isinstance(self._driver, Aiosqlite):
            raise TypeError(self._name)
        self.permit(plain)
        every = [plain.arguments(one) for one in values]
        found = await self.asked(plain.sql, self._driver.fetch_each(plain.sql, every))
        return [plain.rows(rows) for rows in found]

    async def cursor(self, plain: Plain, values: Mapping[str, Any]) -> Cursor:
        """Run a read whose rows are fetched in pieces. Raises what SQLAlchemy would."""
        self.permit(plain)
        if self._name == "asyncpg":
            # A portal lives as long as its transaction.
            await self._tell(f"{self._driver.begin} READ ONLY")
            self.transacting = True
        begin = self._driver.cursor(plain.sql, plain.arguments(values))
        return Cursor(self, plain, await self.asked(plain.sql, begin))

    async def asked(self, sql: str, question: Awaitable[Answer]) -> Answer:
        """Wait for an answer of the driver, and count it. Raises what SQLAlchemy would."""
        begun = time.perf_counter()
        answer = await self._answered(sql, question)
        query_counter.count(sql, time.perf_counter() - begun)
        return answer

    async def _answered(self, sql: str, question: Awaitable[Answer]) -> Answer:
        try:
            return await question
        except Exception as error:
            raise self._translated(error, sql) from error
        except BaseException:
            # A request that was cancelled may have left half an answer in the socket.
            self.broken = True
            raise

    async def begin(self) -> None:
        """Begin a transaction: READ COMMITTED, on SQLite as its only writer."""
        self._permit_transaction()
        await self._tell(self._driver.begin)
        self.transacting = True

    async def begin_with(self, rows: Sequence[Row]) -> bool:
        """Begin a transaction that holds rows in one round trip; False where that cannot be.

        Where a message takes several statements, it takes no parameters then.
        """
        self._permit_transaction()
        driver = self._driver
        if not driver.several or not all(_HARMLESS.fullmatch(row.value) for row in rows):
            return False
        words = "; ".join([driver.begin, *(row.text(driver.share) for row in rows)])
        self.transacting = True  # even if it holds nothing in the end
        await self._answered(words, driver.say(words))
        return True

    async def begin_nowait(self, column: Column[Any], values: Collection[str]) -> bool:
        """Begin a transaction that holds rows, chosen by names, if nobody else holds one of them.

        One round trip; False where that cannot be, and then no transaction has begun.
        """
        self._permit_transaction()
        if not self._driver.several or not all(map(_HARMLESS.fullmatch, values)):
            return False
        names = ", ".join(f"'{value}'" for value in sorted(values))
        rows = f"{column.table.name} WHERE {column.name} IN ({names})"
        words = f"SELECT 1 FROM {rows} FOR UPDATE NOWAIT"  # noqa: S608 (harmless, see above)
        question = self._driver.say(f"{self._driver.begin}; {words}")
        return await self._begun(words, question) is not None

    async def begin_reading(
        self, every: Sequence[Plain], values: Mapping[str, Any]
    ) -> list[list[Any]] | None:
        """Begin a transaction with reads, the first of which holds what it finds; the rows of each.

        None where somebody else holds one of these, and then no transaction has begun. One round
        trip on MariaDB. SQLite has one writer, who holds everything.
        """
        self._permit_transaction()
        work = [(plain.sql, plain.arguments(values)) for plain in every]
        words = "; ".join(plain.sql for plain in every)
        found = await self._begun(words, self._driver.begin_with(work))
        if found is None:
            return None
        (answers,) = found
        return [plain.rows(rows) for plain, rows in zip(every, answers, strict=True)]

    def _permit_transaction(self) -> None:
        if self.read_only:
            raise WriteWhileReading(self._driver.begin)

    async def _begun(self, words: str, question: Awaitable[Answer]) -> tuple[Answer] | None:
        """Begin a transaction by asking what others may be in the way of: then it ends again."""
        self.transacting = True  # even if it holds nothing in the end
        try:
            return (await self.asked(words, question),)
        except DBAPIError as error:
            # SQLite has no transaction then: somebody else writes for longer than it waits.
            if error.connection_invalidated or not is_retryable(error) or not self._driver.several:
                raise
            await self.rollback()
            return None

    async def run_many(self, plain: Plain, values: Sequence[Mapping[str, Any]]) -> None:
        """Run a write for each of some values. Raises what SQLAlchemy would."""
        self.permit(plain)
        every = [plain.arguments(one) for one in values]
        await self.asked(plain.sql, self._driver.run_many(plain.sql, every))

    async def run_all(self, every: Sequence[Plain], values: Mapping[str, Any]) -> None:
        """Run writes that share their values, one after the other. Raises what SQLAlchemy would."""
        for plain in every:
            self.permit(plain)
        work = [(plain.sql, plain.arguments(values)) for plain in every]
        await self.asked("; ".join(sql for sql, _ in work), self._driver.run_all(work))

    async def commit(self) -> None:
        """Commit the transaction."""
        await self._tell("COMMIT")
        self.transacting = False

    async def rollback(self) -> None:
        """Roll the transaction back."""
        await self._tell("ROLLBACK")
        self.transacting = False

    async def _tell(self, word: str) -> None:
        try:
            await self._answered(word, self._driver.say(word))
        except Exception:
            self.broken = True
            raise

    def _translated(self, error: Exception, sql: str) -> Exception:
        """Return a driver's error as SQLAlchemy would raise it: the same rules read it."""
        dialect = self.connection.dialect
        base = dialect.loaded_dbapi.Error
        self._notice(error)
        try:
            self._adapter._handle_exception(error)
        except base as found:
            gone = dialect.is_disconnect(found, self._adapter, None) or _is_outdated(error)
            self.broken = self.broken or gone
            self.lost = self.lost or gone
            return DBAPIError.instance(
                sql,
                None,
                found,
                base,
                hide_parameters=True,
                connection_invalidated=gone,
                dialect=dialect,
            )
        except Exception as found:
            self.broken = True
            if isinstance(found, OSError) and not isinstance(found, TimeoutError):
                self.lost = True
                return DBAPIError.instance(
                    sql, None, base(str(found)), base, connection_invalidated=True, dialect=dialect
                )
            return found
        return error


def _is_outdated(error: Exception) -> bool:
    """Tell whether a statement was prepared before its tables were changed: once more will do."""
    return type(error).__name__ == "InvalidCachedStatementError"


class Cursor:
    """The rows of a statement, in pieces; its lease is nobody else's meanwhile."""

    __slots__ = ("_ended", "_lease", "_plain", "_rows")

    def __init__(self, lease: PooledConnection, plain: Plain, rows: Any) -> None:
        self._lease = lease
        self._plain = plain
        self._rows = rows
        self._ended = False

    async def fetch(self, count: int) -> list[Any]:
        """Return the next rows; fewer than ``count`` are the last ones."""
        name = self._lease.connection.dialect.driver
        more = self._rows.fetch if name == "asyncpg" else self._rows.fetchmany
        found = await self._lease.asked(self._plain.sql, more(count))
        self._ended = len(found) < count
        return self._plain.rows(found)

    async def close(self) -> None:
        """Give up the rows that were not fetched. Raises nothing."""
        if self._lease.broken:
            return
        name = self._lease.connection.dialect.driver
        if name == "aiomysql" and not self._ended:
            # All others would have to be read from the socket first.
            self._lease.spent = True
        elif name != "asyncpg":  # there the end of the transaction does it
            with suppress(Exception):
                await self._rows.close()


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
    """At most ``size`` leases, of which those who write may have all but some.

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
        lease = self._idle(refusing=read_only and self._separate)
        if lease is None:
            lease = await self._new(refusing=read_only and self._separate)
        lease.read_only = read_only
        return lease

    def _idle(self, *, refusing: bool) -> PooledConnection | None:
        """Return an idle connection; one that does not refuse writes serves readers, too.

        Readers take it only where there may be no more connections. So those of each kind are as
        many as were ever needed at once, and none is opened and closed for each request.
        """
        now = time.monotonic()
        for place in range(len(self._free) - 1, -1, -1):
            lease = self._free[place]
            if lease.refuses_writes is refusing:
                del self._free[place]
                if now - lease.opened_at < RECYCLE:
                    return lease
                self._background.start(_discard(lease))
        if not self._free or self._all.left >= len(self._free):
            return None
        lease = self._free.pop()
        if refusing:
            return lease
        self._background.start(_discard(lease))
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
        lease = PooledConnection(
            connection, raw.dbapi_connection, raw.driver_connection, self._notice
        )
        assert connection.sync_connection is not None  # noqa: S101 (for the type checker)
        connection.sync_connection.info[_LEASE] = lease
        lease.refuses_writes = refusing
        return lease

    def give_at_once(self, lease: PooledConnection, *, writing: bool) -> bool:
        """Take a connection back if there is nothing to wait for; else ``give`` must be called."""
        if lease.spent or not lease.usable:
            return False
        self._free.append(lease)
        self._freed(writing=writing)
        return True

    async def give(self, lease: PooledConnection, *, writing: bool) -> None:
        """Take a connection back; what was not committed is rolled back.

        A cancelled caller stops waiting; the place is free when the connection is.
        """
        await self._background.run(self._give(lease, writing=writing))

    async def _give(self, lease: PooledConnection, *, writing: bool) -> None:
        try:
            if lease.transacting and not lease.broken and not lease.connection.invalidated:
                # One that broke cannot be rolled back; closing it does it.
                with suppress(SQLAlchemyError, OSError):  # a TimeoutError is an OSError
                    async with asyncio.timeout(_ROLLBACK):
                        await lease.rollback()
            if lease.usable and not lease.spent:
                self._free.append(lease)
                return
            if lease.lost:
                self.drop_idle()
            await _discard(lease)
        finally:
            self._freed(writing=writing)

    def drop_idle(self) -> None:
        """Close all that wait: what broke one (a server that was restarted) broke them as well."""
        stale, self._free = self._free, []
        for lease in stale:
            self._background.start(_discard(lease))

    def _freed(self, *, writing: bool) -> None:
        self._all.give()
        if writing:
            self._writers.give()

    async def close(self) -> None:
        """Close what is not in use."""
        await self._background.drain()
        while self._free:
            await _discard(self._free.pop())


async def _discard(lease: PooledConnection) -> None:
    with suppress(SQLAlchemyError, OSError):
        if not lease.connection.invalidated:
            await lease.connection.invalidate()
    with suppress(SQLAlchemyError, OSError):
        await lease.connection.close()
