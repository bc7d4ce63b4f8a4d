"""The calls to the three database drivers, without SQLAlchemy. Each raises its driver's errors.

That of MySQL is in ``mysql_driver``, which only those import who use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Dialect

from iredapi.database.server import Server

if TYPE_CHECKING:
    from iredapi.database.mysql_driver import Aiomysql

Arguments = Sequence[Any]
Work = Sequence[tuple[str, Arguments]]


class Driver(Protocol):
    """A connection of a driver."""

    begin: str
    """The statement that begins a transaction: READ COMMITTED; on SQLite BEGIN IMMEDIATE."""
    share: str
    """The clause of a SELECT that takes shared row locks."""
    several: bool
    """Whether one message may contain several statements."""

    async def say(self, words: str) -> None:
        """Run SQL text without parameters or result: one statement, or ``several``."""

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        """Run a statement and return its rows."""

    async def run_all(self, work: Work) -> None:
        """Run writes one after the other, in one message where the driver can."""

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        """Begin a transaction with reads, in one message where the driver can; the rows of each."""

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        """Run a read and return the driver's cursor."""


class _SingleStatements:
    """Base of the drivers that send one statement per message."""

    begin: str

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def say(self, words: str) -> None:
        # With asyncpg this is the simple query protocol: no prepared statement.
        await self._connection.execute(words)

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        raise NotImplementedError


class Asyncpg(_SingleStatements):
    """PostgreSQL."""

    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
    share = "FOR SHARE"
    several = True

    async def run_all(self, work: Work) -> None:
        for sql, arguments in work:
            await self.fetch(sql, arguments)

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        await self.say(self.begin)
        return [await self.fetch(sql, arguments) for sql, arguments in work]

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.fetch(sql, *arguments)
        return found

    async def fetch_many(self, sql: str, every: Sequence[Arguments]) -> Sequence[Any]:
        """Run a statement with each of some values, in one message; return the rows of all."""
        found: Sequence[Any] = await self._connection.fetchmany(sql, every)
        return found

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        return await self._connection.cursor(sql, *arguments)


class Aiosqlite(_SingleStatements):
    """SQLite: each call runs in the connection's thread."""

    begin = "BEGIN IMMEDIATE"
    share = ""
    several = False

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.execute_fetchall(sql, arguments)
        return found

    async def fetch_each(self, sql: str, every: Sequence[Arguments]) -> list[Sequence[Any]]:
        """Run a read with each of some values; return the rows of each."""
        return await self._in_one_call([(sql, arguments) for arguments in every])

    async def run_all(self, work: Work) -> None:
        await self._in_one_call(work)

    async def run_each(self, work: Sequence[tuple[str, Sequence[Arguments]]]) -> None:
        """Run writes one after the other, each with each of its sets of values."""
        connection = self._connection

        def run() -> None:
            for sql, every in work:
                connection._conn.executemany(sql, every)

        await connection._execute(run)

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        return (await self._in_one_call([(self.begin, ()), *work]))[1:]

    async def _in_one_call(self, work: Work) -> list[Sequence[Any]]:
        """Run statements in one call of the thread; return the rows of each."""
        connection = self._connection

        def run() -> list[Sequence[Any]]:
            return [connection._conn.execute(sql, arguments).fetchall() for sql, arguments in work]

        # Each public method is a call of the thread; switching costs more than a statement.
        found: list[Sequence[Any]] = await connection._execute(run)
        return found

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        return await self._connection.execute(sql, arguments)


def driver_of(
    dialect: Dialect, connection: Any, *, galera: bool = False
) -> Asyncpg | Aiomysql | Aiosqlite:
    """Return the calls to a connection of the driver of a dialect."""
    if dialect.driver == "aiosqlite":
        return Aiosqlite(connection)
    if dialect.driver == "asyncpg":
        return Asyncpg(connection)
    from iredapi.database.mysql_driver import Aiomysql

    prepares = Server.of(dialect).executes_with_values
    return Aiomysql(connection, compound=galera, prepares=prepares)
