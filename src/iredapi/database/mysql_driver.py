"""The calls to aiomysql, without SQLAlchemy. They raise its errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pymysql.constants import ER, SERVER_STATUS
from pymysql.converters import escape_datetime, escape_string
from pymysql.err import OperationalError

from iredapi.database.drivers import Arguments, Work
from iredapi.database.mysql_results import Results, Rows

_MOST_PREPARED: Final = 32
"""Statements that a connection prepares."""


class Aiomysql:
    """MySQL and MariaDB: values are put into the text, which may contain several statements."""

    begin = "BEGIN"  # the sessions are READ COMMITTED (``database.py``)
    share = "LOCK IN SHARE MODE"
    several = True

    def __init__(self, connection: Any, *, compound: bool = False, prepares: bool = False) -> None:
        self._connection = connection
        self._results = Results(connection)
        self.compound = compound
        """Whether several writes are sent as one compound statement (MariaDB).

        A node of Galera may end the transaction between two statements of a message; it does not
        tell, and commits the rest of the message. It never does so inside of a statement.
        """
        self.prepares = prepares
        """Whether ``fetch_each`` prepares statements (``Server.executes_with_values``)."""
        self._prepared: dict[str, int] = {}
        """The numbers in the names of prepared statements, by SQL."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as the last answer has said."""
        return bool(self._connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    @staticmethod
    def deadlock() -> Exception:
        """Return the error of a transaction that was ended because of another one."""
        error: Exception = OperationalError(ER.LOCK_DEADLOCK, "Another transaction ended this one.")
        return error

    async def say(self, words: str) -> None:
        await self._run_text(words)

    async def _run_text(self, words: str) -> list[Sequence[Any]]:
        results = self._results
        await results.send(words)
        found: list[Sequence[Any]] = [await results.rows()]
        while results.has_next:
            found.append(await results.rows())
        return found

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Any]:
        await self._results.send(self._text(sql, arguments))
        return await self._results.rows()

    async def fetch_each(self, sql: str, every: Sequence[Arguments]) -> list[Sequence[Any]]:
        """Run a read with each of some values in one message; return the rows of each.

        A server that ``prepares`` does not parse it each time. After an error it is not asked to
        any more: a proxy may have given the connection to another session.
        """
        literals = _Literals(self._connection)
        is_full = len(self._prepared) >= _MOST_PREPARED
        if not self.prepares or (is_full and sql not in self._prepared):
            texts = [self._text(sql, one, literals) for one in every]
            return await self._run_text("; ".join(texts))
        try:
            return await self._execute_each(sql, every, literals)
        except Exception:
            self.prepares = False
            raise

    async def _execute_each(
        self, sql: str, every: Sequence[Arguments], literals: _Literals
    ) -> list[Sequence[Any]]:
        texts = []
        number = self._prepared.get(sql)
        if number is None:
            number = len(self._prepared) + 1
            source = sql % tuple("?" * len(every[0]))
            texts.append(f"PREPARE iredapi_{number} FROM {literals[source]}")
        for arguments in every:
            values = ", ".join([literals[value] for value in arguments])
            texts.append(f"EXECUTE iredapi_{number}{' USING ' if values else ''}{values}")
        found = await self._run_text("; ".join(texts))
        self._prepared[sql] = number
        return found[-len(every) :]

    async def fetch_and_count(
        self,
        read: tuple[str, Arguments],
        write: tuple[str, Arguments],
        lock: tuple[str, Arguments] | None = None,
    ) -> tuple[Sequence[Any], int]:
        """Run a read and a write in one message; the rows, and the number of matched rows.

        ``lock`` locks rows before the write, in one transaction with it. When it fails, that
        transaction is still open.
        """
        literals = _Literals(self._connection)
        texts = [self._text(*read, literals), self._text(*write, literals)]
        if lock is not None:
            texts = [texts[0], self.begin, self._text(*lock, literals), texts[1], "COMMIT"]
        results, counts = self._results, []
        await results.send("; ".join(texts))
        rows = await results.rows()
        while results.has_next:
            await results.rows()
            counts.append(results.affected_rows)
        return rows, counts[0 if lock is None else 2]

    async def run_all(self, work: Work) -> None:
        words = "; ".join([self._text(sql, arguments) for sql, arguments in work])
        await self._run_text(f"BEGIN NOT ATOMIC {words}; END" if self.compound else words)

    async def begin_with(self, work: Work) -> list[Sequence[Any]]:
        texts = [self._text(sql, arguments) for sql, arguments in work]
        return (await self._run_text("; ".join([self.begin, *texts])))[1:]

    async def cursor(self, sql: str, arguments: Arguments) -> Any:
        await self._results.send(self._text(sql, arguments))
        await self._results.head()
        return _UnreadRows(self._results)

    def _text(self, sql: str, arguments: Arguments, literals: _Literals | None = None) -> str:
        """Return SQL with its values; ``literals`` are those of the whole message."""
        if not arguments:
            return sql % ()
        if literals is None:
            literals = _Literals(self._connection)
        return sql % tuple(map(literals.__getitem__, arguments))


class _Literals(dict[Any, str]):
    """The literals of the values of one message: several statements or rows have the same values.

    Values that are equal have equal literals, or are the same number for the server.
    """

    def __init__(self, connection: Any) -> None:
        self._escape = connection.escape
        self._usual = not (
            connection.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
        )

    def __missing__(self, value: Any) -> str:
        if self._usual and isinstance(value, str):
            # What aiomysql's ``escape`` does, without its questions.
            text = f"'{escape_string(value)}'"
        elif type(value) is int:
            text = str(value)
        elif self._usual and type(value) is datetime:
            text = escape_datetime(value)
        else:
            text = self._escape(value)
        self[value] = text
        return text


class _UnreadRows:
    """A cursor over rows that the server goes on sending."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._open = True

    async def fetchmany(self, count: int) -> Rows:
        """Return the next rows; fewer than ``count`` are the last ones."""
        found: list[tuple[Any, ...]] = []
        if self._open:
            self._open = await self._results.more(found, count)
        return found

    async def close(self) -> None:
        """Do nothing: all rows were read, or the pool discards the connection."""
