"""The base of all repositories: statements on one database in one unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Dialect,
    Executable,
    Integer,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.compiled_statement import CompiledStatement, Statement
from iredapi.database.database import Database
from iredapi.database.dialect import insert_ignore
from iredapi.database.live_schema import Schema
from iredapi.database.row_locks import Row
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like

_AS_THEY_ARE: Final = frozenset({str, int})
_NULLABLE: Final = frozenset({"allow_nets"})
CHUNK: Final = 500
"""The maximum number of values in one IN list."""


def now() -> datetime:
    """Return the time as iRedAdmin stores it: UTC, no fraction, no zone."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def row_to_response(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for an answer: times as text without fractions, NULL as an empty text."""
    answer = dict(row)
    convert_row(answer, list(answer))
    return answer


def convert_row(row: dict[str, Any], names: Sequence[str]) -> None:
    """Change a row to what ``row_to_response`` returns; ``names`` are its keys, in their order."""
    for place in _to_convert(tuple(map(type, row.values()))):
        key = names[place]
        value = row[key]
        if isinstance(value, datetime):
            row[key] = value.isoformat(" ", "seconds")
        elif isinstance(value, date):
            row[key] = value.isoformat()
        elif value is None and key not in _NULLABLE:
            row[key] = ""


@lru_cache(maxsize=1024)
def _to_convert(kinds: tuple[type, ...]) -> tuple[int, ...]:
    """Return which values are no texts and no numbers. Cached: most rows of a table are alike."""
    return tuple(place for place, kind in enumerate(kinds) if kind not in _AS_THEY_ARE)


def chunks(values: Iterable[str]) -> Iterable[list[str]]:
    """Cut values into lists that fit into an IN."""
    every = sorted(values)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]


class Repository:
    """Reads and writes one database over the connection of a unit of work.

    Frequent statements are compiled once by SQLAlchemy and run on the driver (``run_compiled``,
    ``table``, ``change`` …; docs/adr/0008); others are run by SQLAlchemy on the same connection.
    Raises NotSupported when the database is not configured.
    """

    name: ClassVar[str]
    """The name of the database: ``vmail``, ``amavisd``, ``iredapd`` or ``iredadmin``."""

    def __init__(self, connections: Connections, schema: Schema | None = None) -> None:
        self._connections = connections
        self.schema = schema

    @property
    def database(self) -> Database:
        """The database. Raises NotSupported when it is not configured."""
        return self._connections.databases[self.name]

    async def has(self, *tables: Table) -> bool:
        """Return whether the database is configured and has all of these tables."""
        if not self._connections.databases.has(self.name):
            return False
        schema = self.schema or await self.database.schema()
        return all(schema.has(table) for table in tables)

    @property
    def dialect(self) -> str:
        """The dialect of the database."""
        return self.database.dialect

    @property
    def engine_dialect(self) -> Dialect:
        """SQLAlchemy's dialect of the database."""
        return self.database.engine.dialect

    async def connection(self) -> AsyncConnection:
        """Return the connection to the database."""
        return await self._connections.get(self.name)

    async def run(self, statement: Executable, values: Any = None) -> int:
        """Run a write and return the number of rows."""
        result = await (await self.connection()).execute(statement, values)
        return int(getattr(result, "rowcount", 0))

    async def rows(
        self, statement: Select[Any] | CompoundSelect[Any], **values: Any
    ) -> Sequence[Mapping[str, Any]]:
        """Run a read and return its rows by column name."""
        result = await (await self.connection()).execute(statement, values)
        return [{str(key): value for key, value in row.items()} for row in result.mappings()]

    async def row_objects(self, statement: Executable) -> Sequence[Any]:
        """Run a read and return its rows, whose columns are attributes."""
        return (await (await self.connection()).execute(statement)).all()

    async def run_compiled(
        self, key: object, build: Callable[[], Select[Any] | CompoundSelect[Any]], **values: Any
    ) -> list[dict[str, Any]]:
        """Run a SELECT that is compiled once, on the driver; return its rows as dictionaries.

        ``key`` identifies the statement; ``values`` are its bound parameters.
        """
        columns, found = await self.table(key, build, **values)
        return [dict(zip(columns, row, strict=True)) for row in found]

    async def table(
        self, key: object, build: Callable[[], Select[Any] | CompoundSelect[Any]], **values: Any
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Run a read as ``run_compiled`` does; returns names of columns, and rows in order."""
        schema = self.schema or await self.database.schema()
        compiled = schema.statement(key, lambda: self._compiled(build()))
        return compiled.columns, await self._connections.run(self.name, compiled, values)

    async def page_of(
        self,
        key: object,
        build: Callable[[], Select[Any]],
        after: str,
        limit: int,
        *,
        order: int = 0,
        **values: Any,
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Return columns and rows of the next page of a list that is read as ``table`` does.

        It is sorted by the column at ``order`` and takes the parameter ``after``, the name after
        which the page begins. ``key`` is None if the values of this request are in the statement.
        """
        # A list that ends with its first page needs no cursor.
        if after and not self._connections.writing:
            schema = self.schema or await self.database.schema()
            compiled = schema.statement(key and ("list", key), lambda: self._compiled(build()))
            rows = await self.database.cursors.page(compiled, values, after, limit, order)
            if rows is not None:
                return compiled.columns, rows
        return await self.table(
            key and ("page", key),
            lambda: build().limit(bindparam("limit", type_=Integer)),
            after=after,
            limit=limit,
            **values,
        )

    async def hold_rows(self, *rows: Row) -> None:
        """Lock rows until the end of the unit; read what depends on them afterwards."""
        await self._connections.hold(self.name, *rows)

    async def begin_reading(
        self,
        key: object,
        build: Callable[[], Sequence[Select[Any] | CompoundSelect[Any]]],
        values: Mapping[str, Any],
    ) -> list[list[dict[str, Any]]] | None:
        """Begin the unit with SELECTs, of which the first locks its rows; return the rows of each.

        None: another transaction has locked one of these, and the unit has not begun.
        """
        schema = self.schema or await self.database.schema()
        every = schema.statement(key, lambda: [self._compiled(one) for one in build()])
        found = await self._connections.begin_reading(self.name, every, values)
        if found is None:
            return None
        return [
            [dict(zip(compiled.columns, row, strict=True)) for row in rows]
            for compiled, rows in zip(every, found, strict=True)
        ]

    async def fetch_batched(
        self, key: object, build: Callable[[], Statement], **values: Any
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Run a SELECT as ``table`` does, outside of a transaction, batched with others.

        It must be fast: other requests wait for the same batch.
        """
        schema = self.schema or await self.database.schema()
        compiled = schema.statement(key, lambda: self._compiled(build()))
        return compiled.columns, await self._connections.fetch_batched(self.name, compiled, values)

    async def fetch_batched_for_each(
        self,
        key: object,
        build: Callable[[], Statement],
        values: Sequence[Mapping[str, Any]],
    ) -> list[list[Any]]:
        """Run a statement for each set of values in one transaction; return the rows of each."""
        indexed = (await self._with_row_index(key, build))[1]
        return await self._connections.fetch_for_each(self.name, indexed, values, begun=False)

    async def execute_autocommit(
        self, key: object, build: Callable[[], Statement], **values: Any
    ) -> list[Any]:
        """Run a write in autocommit mode; return its rows."""
        schema = self.schema or await self.database.schema()
        compiled = schema.statement(key, lambda: self._compiled(build()))
        return await self._connections.execute_autocommit(self.name, compiled, values)

    async def fetch_and_count(
        self,
        read: tuple[object, Callable[[], Statement]],
        write: tuple[object, Callable[[], Statement], str],
        values: Mapping[str, Any],
        lock: tuple[object, Callable[[], Statement]] | None = None,
    ) -> tuple[Sequence[Any], int]:
        """Run a read and a write that is a transaction of its own in one message (MariaDB, MySQL).

        Returns the rows, and the number of rows that the write matched. ``read`` is a key and a
        function that builds the statement; ``write`` also has a prefix of the statement; ``lock``
        is run before the write, in its transaction.
        """
        schema = self.schema or await self.database.schema()
        key, build, words = write
        return await self._connections.fetch_and_count(
            self.name,
            schema.statement(read[0], lambda: self._compiled(read[1]())),
            schema.statement(key, lambda: self._compiled(build()).after(words)),
            values,
            lock and schema.statement(lock[0], lambda: self._compiled(lock[1]())),
        )

    async def _with_row_index(
        self, key: object, build: Callable[[], Statement]
    ) -> tuple[CompiledStatement, CompiledStatement]:
        schema = self.schema or await self.database.schema()
        compiled = schema.statement(key, lambda: self._compiled(build()))
        return compiled, schema.statement(
            ("with row index", key), lambda: compiled.with_row_index(self.engine_dialect)
        )

    async def change(self, key: object, build: Callable[[], Statement], **values: Any) -> list[Any]:
        """Run a write that is compiled once, on the driver; return its rows."""
        schema = self.schema or await self.database.schema()
        compiled = schema.statement(key, lambda: self._compiled(build()))
        return await self._connections.run(self.name, compiled, values)

    async def change_all(
        self, key: object, build: Callable[[], Sequence[Statement]], **values: Any
    ) -> None:
        """Run writes that are compiled once and do not depend on each other.

        Each names its values in its own way. On PostgreSQL they are one statement.
        """
        schema = self.schema or await self.database.schema()
        every = schema.statement(key, lambda: self._compiled_all(build()))
        await self._connections.run_all(self.name, every, values)

    async def change_each(
        self,
        key: object,
        build: Callable[[], Sequence[Statement]],
        values: Sequence[Mapping[str, Any]],
    ) -> None:
        """Run writes about one item as ``change_all`` does, for several items (SQLite)."""
        schema = self.schema or await self.database.schema()
        every = schema.statement(key, lambda: self._compiled_all(build()))
        await self._connections.run_each(self.name, every, values)

    def _compiled_all(self, statements: Sequence[Any]) -> list[CompiledStatement]:
        if self.dialect == "postgresql":
            *others, last = statements
            for number, other in enumerate(others):
                last = last.add_cte(other.cte(f"change_{number}"))
            statements = [last]
        return [self._compiled(statement) for statement in statements]

    def _compiled(self, statement: Statement) -> CompiledStatement:
        return CompiledStatement.of(statement, self.engine_dialect)

    async def column(self, statement: Select[Any] | CompoundSelect[Any]) -> list[Any]:
        """Run a read and return its first column."""
        return list((await (await self.connection()).execute(statement)).scalars())

    async def insert(self, table: Table, values: Mapping[str, Any]) -> None:
        """Insert a row, without the optional columns that this server lacks."""
        schema = self.schema or await self.database.schema()
        await self.run(insert(table).values(schema.values(table, values)))

    async def insert_all(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows at once."""
        if rows:
            await self.run(insert(table), [dict(row) for row in rows])

    async def insert_missing(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows; those whose unique key exists are skipped."""
        if rows:
            await self.run(insert_ignore(table, self.dialect), [dict(row) for row in rows])

    async def update(
        self, table: Table, values: Mapping[str, Any], *where: ColumnElement[bool]
    ) -> None:
        """Update rows, without the optional columns that this server lacks."""
        schema = self.schema or await self.database.schema()
        there = schema.values(table, values)
        if there:
            await self.run(update(table).where(*where).values(there))

    async def delete(self, table: Table, *where: ColumnElement[bool]) -> None:
        """Delete rows of a table, if this server has it."""
        if await self.has(table):
            await self.run(delete(table).where(*where))

    async def set_one(
        self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]
    ) -> None:
        """Replace the rows with a key, in any spelling, by another one; no values: only remove."""
        await self.delete(table, *(is_like(table.c[name], [key[name]]) for name in key))
        if values:
            await self.insert(table, {**key, **values})
