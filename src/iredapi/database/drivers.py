"""What the three drivers do each in their own way, past SQLAlchemy. All raise their own errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from aiomysql import SSCursor

Arguments = Sequence[Any]
Work = Sequence[tuple[str, Arguments]]


class Driver(Protocol):
    """A connection of a driver."""

    begin: str
    """What begins a transaction: READ COMMITTED, on SQLite as its only writer."""
    share: str
    """What a SELECT ends with that holds rows together with others who share them."""
    several: bool
    """Whether one message may hold several statements."""

    async def say(self, words: str) -> None:
        """Run words that return nothing: one statement, or ``several``."""

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        """Run a statement; its rows."""

    async def run_many(self, sql: str, every: Sequence[Arguments]) -> None:
        """Run a write with each of some values."""

    async def run_all(self, work: Work) -> None:
        """Run writes one after the other, in one message where that can be."""

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        """Begin a transaction with reads, in one message where that can be; the rows of each."""

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        """Run a read whose rows are fetched in pieces."""


class _OneByOne:
    """What is alike where each statement is a message of its own."""

    begin: str

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def say(self, words: str) -> None:
        # With asyncpg the way of text that needs no preparation.
        await self._connection.execute(words)

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        raise NotImplementedError

    async def run_many(self, sql: str, every: Sequence[Arguments]) -> None:
        await self._connection.executemany(sql, every)


class Asyncpg(_OneByOne):
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
        """Run a statement with each of some values, in one message; the rows of all."""
        found: Sequence[Any] = await self._connection.fetchmany(sql, every)
        return found

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        return await self._connection.cursor(sql, *arguments)


class Aiomysql:
    """MySQL and MariaDB: values are put into the text, and the text may hold several statements."""

    begin = "BEGIN"  # the sessions are READ COMMITTED (``engine``)
    share = "LOCK IN SHARE MODE"
    several = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def say(self, words: str) -> None:
        await self._said(words)

    async def _said(self, words: str) -> list[Sequence[Any]]:
        connection = self._connection
        await connection.query(words)
        found = [connection._result.rows or ()]
        while connection._result.has_next:
            await connection.next_result()
            found.append(connection._result.rows or ())
        return found

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        # What its cursors do, but once: each would be another object with four calls.
        await self._connection.query(self._text(sql, arguments))
        found: Sequence[Any] | None = self._connection._result.rows
        return found or ()

    async def fetch_and_count(
        self, read: tuple[str, Arguments], write: tuple[str, Arguments]
    ) -> tuple[Sequence[Any], int]:
        """Run a read and then a write in one message; the rows, and how many the write found."""
        rows = (await self._said(f"{self._text(*read)}; {self._text(*write)}"))[0]
        return rows, int(self._connection._result.affected_rows)

    async def run_many(self, sql: str, every: Sequence[Arguments]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(sql, every)

    async def run_all(self, work: Work) -> None:
        await self._said("; ".join([self._text(sql, arguments) for sql, arguments in work]))

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        texts = [self._text(sql, arguments) for sql, arguments in work]
        return (await self._said("; ".join([self.begin, *texts])))[1:]

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        cursor = await self._connection.cursor(SSCursor)
        await cursor.execute(sql, arguments)
        return cursor

    def _text(self, sql: str, arguments: Arguments) -> str:
        if not arguments:
            return sql % ()
        escape, known = self._connection.escape, dict[str | datetime, str]()
        texts = []
        for value in arguments:
            kind = type(value)
            if kind is int:
                texts.append(str(value))
            elif kind is str or kind is datetime:
                # Most values of several rows are the same ones.
                text = known.get(value)
                if text is None:
                    text = known[value] = escape(value)
                texts.append(text)
            else:
                texts.append(escape(value))
        return sql % tuple(texts)


class Aiosqlite(_OneByOne):
    """SQLite: each call is work for the connection's thread."""

    begin = "BEGIN IMMEDIATE"
    share = ""
    several = False

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.execute_fetchall(sql, arguments)
        return found

    async def fetch_each(self, sql: str, every: Sequence[Arguments]) -> list[Sequence[Any]]:
        """Run a read with each of some values; the rows of each."""
        return await self._in_one_turn([(sql, arguments) for arguments in every])

    async def run_all(self, work: Work) -> None:
        await self._in_one_turn(work)

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        return (await self._in_one_turn([(self.begin, ()), *work]))[1:]

    async def _in_one_turn(self, work: Work) -> list[Sequence[Any]]:
        """Run statements one after the other in one turn of the thread; the rows of each."""
        connection = self._connection

        def run() -> list[Sequence[Any]]:
            return [connection._conn.execute(sql, arguments).fetchall() for sql, arguments in work]

        # Each of its public methods is a turn, and two threads cost more than a small statement.
        found: list[Sequence[Any]] = await connection._execute(run)
        return found

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        return await self._connection.execute(sql, arguments)


DRIVERS: Final[dict[str, type[Asyncpg | Aiomysql | Aiosqlite]]] = {
    "asyncpg": Asyncpg,
    "aiomysql": Aiomysql,
    "aiosqlite": Aiosqlite,
}
"""By SQLAlchemy's name of the driver."""
