"""The tables and columns of a live database: older iRedMail releases lack some of them.

A column or table that may be missing has a `since` in its `info`, all others are required.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    String,
    Table,
    func,
    inspect,
    literal_column,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.column_types import MYSQL

Built = TypeVar("Built")

__all__ = ["OLDEST_IREDMAIL", "Schema", "create_all", "is_optional"]

OLDEST_IREDMAIL = "0.9.8"
"""The oldest iRedMail release whose `vmail` database has every required table and column."""

_EXACT = re.compile("_0900_|_nopad_|_(?:bin|cs)$")
"""Collations that tell apart what the mail server does not. 0900 has no padding with blanks."""

_INFORMATION_SCHEMA = (
    "SELECT CAST(table_name AS {text}), CAST(column_name AS {text}),"
    " CAST(collation_name AS {text})"
    " FROM information_schema.columns WHERE {place}"
)

_QUERIES = {
    "postgresql": _INFORMATION_SCHEMA.format(
        text="text",
        place="CAST(table_schema AS text) = ANY (CAST(current_schemas(false) AS text[]))",
    ),
    "sqlite": (
        "SELECT t.name, c.name, NULL FROM sqlite_master AS t JOIN pragma_table_info(t.name) AS c"
        " WHERE t.type IN ('table', 'view')"
    ),
    **dict.fromkeys(
        MYSQL, _INFORMATION_SCHEMA.format(text="char", place="table_schema = DATABASE()")
    ),
}


def is_optional(item: Table | Column[Any]) -> bool:
    """Tell whether a live database may lack this table or column."""
    return "since" in item.info


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables and columns that one live database has."""

    metadata: MetaData
    found: Mapping[str, frozenset[str]]
    """The names of the columns by the name of their table."""
    by_words: frozenset[tuple[str, str]] = frozenset()
    """Columns (table, column) of PostgreSQL that a linguistic collation sorts, not by bytes."""
    sorts_bytes: bool = True
    """Whether a column of text is sorted by bytes."""
    exact: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The collations of columns (table, column) of MariaDB and MySQL whose equality tells capitals
    or trailing blanks apart."""
    _statements: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    async def detect(cls, connection: AsyncConnection, metadata: MetaData) -> Self:
        """Read the names of all columns of the connection's database, and how they are sorted."""
        rows = await connection.execute(text(_QUERIES[connection.dialect.name]))
        found: dict[str, set[str]] = {}
        collations: dict[tuple[str, str], str | None] = {}
        for table, column, collation in rows:
            found.setdefault(str(table), set()).add(str(column))
            collations[str(table), str(column)] = None if collation is None else str(collation)
        columns = {table: frozenset(names) for table, names in found.items()}
        if connection.dialect.name != "postgresql":
            exact = {
                column: collation
                for column, collation in collations.items()
                if collation is not None and _EXACT.search(collation)
            }
            return cls(metadata, columns, exact=exact)
        texts = {
            column: collations[column.table.name, column.name]
            for table in metadata.tables.values()
            for column in table.columns
            if isinstance(column.type, String) and column.name in columns.get(table.name, ())
        }
        by_words = await _sorting_words(connection, texts)
        words = {(c.table.name, c.name) for c, collation in texts.items() if collation in by_words}
        return cls(metadata, columns, frozenset(words), len(words) < len(texts))

    def has(self, table: Table | str, column: str | None = None) -> bool:
        """Tell whether the database has this table, or this column of it."""
        columns = self.found.get(_name(table))
        return columns is not None and (column is None or column in columns)

    def columns(self, table: Table | str) -> list[Column[Any]]:
        """Return the columns of a table that the database has, to select them."""
        return [c for c in self._table(table).columns if self.has(table, c.name)]

    def values(self, table: Table | str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values to write, without those of optional columns that the database lacks.

        A name that is not in the table's definition raises KeyError. A required column stays: if it
        is missing, the write fails instead of silently losing data.
        """
        there = self.statement(("values", _name(table)), lambda: self._writable(table))
        return {name: value for name, value in values.items() if there[name]}

    def _writable(self, table: Table | str) -> dict[str, bool]:
        return {
            column.name: not is_optional(column) or self.has(table, column.name)
            for column in self._table(table).columns
        }

    def statement(self, key: object, build: Callable[[], Built]) -> Built:
        """Return a statement for this database, built once: building costs more than running.

        Its values are bound parameters; ``key`` identifies it. None: it is not kept.
        """
        if key is None:
            return build()
        try:
            found: Built = self._statements[key]
        except KeyError:
            found = self._statements[key] = build()
        return found

    def missing(self) -> list[str]:
        """Return what the database lacks, as `table` or `table.column`, sorted."""
        return sorted(self._lacking(optional_too=True))

    def newer(self) -> list[str]:
        """Return what the database lacks and a known release has added.

        Other names of ``missing`` may be absent on the newest release as well: a later release
        removed them, or only some installations have them.
        """
        return [name for name in self.missing() if self._since(name) not in ("", "?")]

    def _since(self, name: str) -> str:
        table, _, column = name.partition(".")
        item = self._table(table)
        return str((item.columns[column] if column else item).info.get("since", ""))

    def lacking_required(self) -> list[str]:
        """Return the required tables and columns that the database lacks; it must be empty."""
        return sorted(self._lacking(optional_too=False))

    def _table(self, table: Table | str) -> Table:
        return table if isinstance(table, Table) else self.metadata.tables[table]

    def _lacking(self, *, optional_too: bool) -> list[str]:
        lacking = []
        for table in self.metadata.tables.values():
            if not self.has(table):
                if optional_too or not is_optional(table):
                    lacking.append(table.name)
                continue
            lacking += [
                f"{table.name}.{column.name}"
                for column in table.columns
                if not self.has(table, column.name) and (optional_too or not is_optional(column))
            ]
        return lacking


async def _sorting_words(
    connection: AsyncConnection, collations: Mapping[Column[Any], str | None]
) -> frozenset[str | None]:
    """Return which collations of columns sort words, and not bytes; None is the database's own."""
    columns = {collation: column for column, collation in collations.items()}
    samples: list[ColumnElement[Any]] = [
        literal_column("'a'")
        if collation is None
        else func.coalesce(
            select(column).where(literal_column("false")).scalar_subquery(), literal_column("'a'")
        )
        for collation, column in columns.items()
    ]
    if not samples:
        return frozenset()
    row = await connection.execute(select(*(each < literal_column("'B'") for each in samples)))
    return frozenset(name for name, words in zip(columns, row.one(), strict=True) if words)


async def create_all(connection: AsyncConnection, metadata: MetaData) -> list[str]:
    """Create the tables that do not exist, and return their names.

    For the embedded default and for tests only: on a live server iRedMail creates the schema.
    """
    return await connection.run_sync(_create_all, metadata)


def _create_all(connection: Connection, metadata: MetaData) -> list[str]:
    existing = set(inspect(connection).get_table_names())
    new = [table for table in metadata.sorted_tables if table.name not in existing]
    metadata.create_all(connection, tables=new)
    if connection.dialect.name == "sqlite":
        # Indexes that a later version of this service has added to its own file. One statement
        # tells all of them: asking for each takes longer than the rest of the start's statements.
        known = set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'index'")))
        for table in metadata.sorted_tables:
            for index in table.indexes if table.name in existing else ():
                if index.name not in known:
                    index.create(connection)
    return [table.name for table in new]


def _name(table: Table | str) -> str:
    return table if isinstance(table, str) else table.name
