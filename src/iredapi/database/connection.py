"""Pooled connections that run compiled statements on the driver, without SQLAlchemy.

SQLAlchemy's pool and its work for each statement cost several times the CPU of the statement
(docs/adr/0008). All connections are in autocommit mode; transactions begin and end with explicit
statements. ``connection`` gives SQLAlchemy access to the same connection, inside or outside of a
transaction.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy import Column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.cursor import Cursor
from iredapi.database.drivers import Aiosqlite, Asyncpg, Work, driver_of
from iredapi.database.errors import is_retryable, is_wrong_server
from iredapi.database.galera import Guards
from iredapi.database.row_locks import Row
from iredapi.errors import WriteWhileReading
from iredapi.observability import query_counter, spans

Answer = TypeVar("Answer")
_HARMLESS: Final = re.compile(r"[a-z0-9@._+-]+")


class PooledConnection:
    """A connection, used by one request at a time."""

    __slots__ = (
        "_adapter",
        "_driver",
        "_mysql",
        "_name",
        "_notice",
        "broken",
        "connection",
        "discard",
        "expires_at",
        "guards",
        "lost",
        "opened_at",
        "read_only",
        "refused",
        "refuses_writes",
        "transacting",
    )  # fmt: skip

    def __init__(
        self,
        connection: AsyncConnection,
        adapter: Any,
        driver: Any,
        notice: Callable[[BaseException], None] = lambda _: None,
        *,
        galera: bool = False,
    ) -> None:
        self.connection = connection
        self._notice = notice
        self._adapter = adapter
        self._name = connection.dialect.driver
        self._driver = found = driver_of(connection.dialect, driver, galera=galera)
        self._mysql = None if isinstance(found, Asyncpg | Aiosqlite) else found
        self.guards = Guards(connection.dialect) if galera else None
        """On a node of Galera: the rows that this transaction has locked."""
        self.opened_at = time.monotonic()
        self.expires_at = 0.0
        """Monotonic time at which the pool replaces it."""
        self.broken = False
        """Whether it can no longer be used."""
        self.lost = False
        """Whether the server was lost: then idle connections are broken as well."""
        self.refused = False
        """Whether the server takes no writes: idle connections may be to the wrong one, too."""
        self.discard = False
        """Whether the pool must close it instead of reusing it, although the server works."""
        self.transacting = False
        """Whether a transaction is open."""
        self.read_only = False
        """Whether it was acquired for reading: writes are refused before they are sent."""
        self.refuses_writes = False
        """Whether the database refuses writes on it as well."""

    def permit(self, compiled: CompiledStatement) -> None:
        """Raise WriteWhileReading for a write on a read-only connection."""
        if self.read_only and compiled.writes:
            raise WriteWhileReading(compiled.sql)

    @property
    def usable(self) -> bool:
        """Whether the pool may give it to another request."""
        return not (self.broken or self.transacting or self.connection.invalidated)

    async def fetch(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement on the driver. Raises what SQLAlchemy would."""
        if self.read_only and compiled.writes:  # what ``permit`` does, without a call
            raise WriteWhileReading(compiled.sql)
        question = self._driver.fetch(compiled.sql, compiled.arguments(values))
        found = await self.asked(compiled.sql, question)
        if self.guards is not None and self.transacting:
            self._guard(compiled, values)
        return compiled.rows(found)

    def _guard(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> None:
        """After a statement in a transaction on Galera: note the rows that it has locked."""
        self._check_transaction(compiled.sql)
        if compiled.writes and self.guards is not None:
            self.guards.add(compiled, values)

    def _check_transaction(self, sql: str) -> None:
        """Raise the error of a deadlock when Galera has ended the transaction without saying so.

        It does so between two statements of one message.
        """
        if self.guards is not None and self._mysql is not None and not self._mysql.in_transaction:
            raise self._translated(self._mysql.deadlock(), sql)

    async def fetch_and_count(
        self,
        read: CompiledStatement,
        write: CompiledStatement,
        values: Mapping[str, Any],
        lock: CompiledStatement | None = None,
    ) -> tuple[list[Any], int]:
        """Run a read and then a write in one message, each its own transaction (aiomysql).

        ``lock`` is run before the write, in its transaction. Returns the rows of the read, and the
        number of rows that the write matched.
        """
        if self._mysql is None:
            raise TypeError(self._name)
        self.permit(write)
        first, second = ((one.sql, one.arguments(values)) for one in (read, write))
        held = None if lock is None else (lock.sql, lock.arguments(values))
        question = self._mysql.fetch_and_count(first, second, held)
        self.transacting = lock is not None
        try:
            rows, count = await self.asked(f"{read.sql}; {write.sql}", question)
        except DBAPIError as error:
            if self.transacting and not error.connection_invalidated:
                await self.rollback()
            raise
        self.transacting = False
        return read.rows(rows), count

    async def fetch_many(
        self, indexed: CompiledStatement, values: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """Run a statement for each of some values in one message and one transaction.

        For asyncpg only; ``CompiledStatement.with_row_index`` makes the statement. Returns the rows
        of each. Raises what SQLAlchemy would, and then nothing was changed.
        """
        if not isinstance(self._driver, Asyncpg):
            raise TypeError(self._name)
        self.permit(indexed)
        question: Awaitable[Sequence[Any]]
        if indexed.at_once:
            arrays = {name: [one.get(name) for one in values] for name in indexed.names}
            question = self._driver.fetch(indexed.sql, indexed.arguments(arrays))
        else:
            every = [indexed.arguments({**one, "number": at}) for at, one in enumerate(values)]
            question = self._driver.fetch_many(indexed.sql, every)
        found: list[list[Any]] = [[] for _ in values]
        for row in indexed.rows(await self.asked(indexed.sql, question)):
            found[row[-1]].append(row[:-1])
        return found

    async def fetch_each(
        self, compiled: CompiledStatement, values: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """Run a read for each of some values, in one call of the thread or one message.

        For aiosqlite and aiomysql only.
        """
        if isinstance(self._driver, Asyncpg):
            raise TypeError(self._name)
        self.permit(compiled)
        every = [compiled.arguments(one) for one in values]
        found = await self.asked(compiled.sql, self._driver.fetch_each(compiled.sql, every))
        return [compiled.rows(rows) for rows in found]

    async def cursor(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> Cursor:
        """Run a read and return a cursor over its rows. Raises what SQLAlchemy would."""
        self.permit(compiled)
        if self._name == "asyncpg":
            # A cursor (portal) exists only inside a transaction.
            await self._run_text(f"{self._driver.begin} READ ONLY")
            self.transacting = True
        begin = self._driver.cursor(compiled.sql, compiled.arguments(values))
        return Cursor(self, compiled, await self.asked(compiled.sql, begin))

    async def asked(self, sql: str, question: Awaitable[Answer]) -> Answer:
        """Wait for the driver's result, and count the statement. Raises what SQLAlchemy would."""
        begun = time.perf_counter()
        answer = await self._answered(sql, question)
        query_counter.count(sql, time.perf_counter() - begun)
        return answer

    async def _answered(self, sql: str, question: Awaitable[Answer]) -> Answer:
        if spans.tracer is not None:
            question = spans.answered(spans.tracer, sql, self.connection.engine, question)
        try:
            return await question
        except Exception as error:
            raise self._translated(error, sql) from error
        except BaseException:
            # A cancelled request may have left part of an answer in the socket.
            self.broken = True
            raise

    async def begin(self) -> None:
        """Begin a transaction: READ COMMITTED; on SQLite BEGIN IMMEDIATE (one writer at a time)."""
        self._permit_transaction()
        self._forget_guards()
        await self._run_text(self._driver.begin)
        self.transacting = True

    def _forget_guards(self) -> None:
        if self.guards is not None:
            self.guards.clear()

    def lock_of(self, row: Row) -> CompiledStatement:
        """Return the statement that locks a row; on Galera all locks are exclusive."""
        if row.share and self.guards is not None:
            row = replace(row, share=False)
        return row.lock_statement(self.connection.dialect)

    async def begin_with(self, rows: Sequence[Row]) -> bool:
        """Begin a transaction and lock rows, in one round trip.

        Returns False, without a transaction, when the driver takes only one statement per message
        or a value has unusual characters: such a message has no parameters.
        """
        self._permit_transaction()
        driver = self._driver
        if not driver.several or not all(_HARMLESS.fullmatch(row.value) for row in rows):
            return False
        share = driver.share if self.guards is None else "FOR UPDATE"
        words = "; ".join([driver.begin, *(row.text(share) for row in rows)])
        self._forget_guards()
        self.transacting = True  # also when locking fails
        await self._answered(words, driver.say(words))
        if self.guards is not None:
            for row in rows:
                self._guard(self.lock_of(row), {"value": row.value})
        return True

    async def begin_nowait(self, column: Column[Any], values: Collection[str]) -> bool:
        """Begin a transaction and lock rows with NOWAIT, in one round trip.

        Returns False, without a transaction, when another transaction has locked one of the rows,
        or when the driver or the values do not allow it (see ``begin_with``).
        """
        self._permit_transaction()
        if not self._driver.several or not all(map(_HARMLESS.fullmatch, values)):
            return False
        names = ", ".join(f"'{value}'" for value in sorted(values))
        rows = f"{column.table.name} WHERE {column.name} IN ({names})"
        words = f"SELECT 1 FROM {rows} FOR UPDATE NOWAIT"  # noqa: S608 (harmless, see above)
        question = self._driver.say(f"{self._driver.begin}; {words}")
        return await self._begin_locking(words, question) is not None

    async def begin_reading(
        self, every: Sequence[CompiledStatement], values: Mapping[str, Any]
    ) -> list[list[Any]] | None:
        """Begin a transaction with reads, the first of which locks its rows.

        Returns the rows of each; None, without a transaction, when another transaction has locked
        one of them. One round trip on MariaDB. On SQLite a writing transaction locks the file.
        """
        self._permit_transaction()
        work = [(compiled.sql, compiled.arguments(values)) for compiled in every]
        words = "; ".join(compiled.sql for compiled in every)
        found = await self._begin_locking(words, self._driver.begin_with(work))
        if found is None:
            return None
        (answers,) = found
        if self.guards is not None:
            for compiled in every:
                self._guard(compiled, values)
        return [compiled.rows(rows) for compiled, rows in zip(every, answers, strict=True)]

    def _permit_transaction(self) -> None:
        if self.read_only:
            raise WriteWhileReading(self._driver.begin)

    async def _begin_locking(self, words: str, question: Awaitable[Answer]) -> tuple[Answer] | None:
        """Begin a transaction with statements that lock rows; ``question`` sends both.

        None: another transaction has locked one of the rows, and this one was rolled back.
        """
        self._forget_guards()
        self.transacting = True  # also when locking fails
        try:
            return (await self.asked(words, question),)
        except DBAPIError as error:
            # On SQLite BEGIN itself has failed (busy): there is no transaction to roll back.
            if error.connection_invalidated or not is_retryable(error) or not self._driver.several:
                raise
            await self.rollback()
            return None

    async def run_all(self, every: Sequence[CompiledStatement], values: Mapping[str, Any]) -> None:
        """Run writes that share their values, one after the other. Raises what SQLAlchemy would."""
        for compiled in every:
            self.permit(compiled)
        await self._run_all([(compiled.sql, compiled.arguments(values)) for compiled in every])

    async def run_each(
        self, every: Sequence[CompiledStatement], values: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run writes one after the other, each with all sets of values (aiosqlite)."""
        driver = self._driver
        if not isinstance(driver, Aiosqlite):
            raise TypeError(self._name)
        for compiled in every:
            self.permit(compiled)
        work = [(one.sql, [one.arguments(some) for some in values]) for one in every]
        await self.asked("; ".join(one.sql for one in every), driver.run_each(work))

    async def _run_all(self, work: Work) -> None:
        words = "; ".join(sql for sql, _ in work)
        await self.asked(words, self._driver.run_all(work))
        self._check_transaction(words)

    async def write_guards(self) -> None:
        """On Galera: write the rows that the transaction has locked, so that its locks hold."""
        if self.guards is None:
            return
        work, others = self.guards.take()
        if work:
            await self._run_all(work)
        for statement, values in others:
            await self.connection.execute(statement, values)

    async def commit(self) -> None:
        """Commit the transaction."""
        if self.guards is not None:
            await self.write_guards()
            self._check_transaction("COMMIT")
        await self._run_text("COMMIT")
        self.transacting = False

    async def rollback(self) -> None:
        """Roll the transaction back."""
        await self._run_text("ROLLBACK")
        self.transacting = False

    async def _run_text(self, word: str) -> None:
        try:
            await self._answered(word, self._driver.say(word))
        except Exception:
            self.broken = True
            raise

    def _translated(self, error: Exception, sql: str) -> Exception:
        """Return a driver's error as SQLAlchemy would raise it, for ``database/errors.py``."""
        dialect = self.connection.dialect
        base = dialect.loaded_dbapi.Error
        self._notice(error)
        try:
            self._adapter._handle_exception(error)
        except base as found:
            gone = dialect.is_disconnect(found, self._adapter, None) or _is_outdated(error)
            self.lost = self.lost or gone
            if is_wrong_server(error):
                self.refused = gone = True
            self.broken = self.broken or gone
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
    """Tell whether a statement was prepared before its tables were changed: a retry helps."""
    return type(error).__name__ == "InvalidCachedStatementError"
