"""Galera: locks that hold on all nodes, and reads that see what was written on other nodes.

Row locks of Galera are local to a node. What two nodes compare when they commit are the keys of
changed rows. So a transaction changes each row that it has locked, and back, before it commits:
then of two transactions that lock the same row on two nodes only one is committed. A change counts
only when it changes bytes, so it is a number that is made odd or even, or a text that gets a
character more. docs/clusters.md says what was measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import (
    Column,
    Dialect,
    Integer,
    Select,
    String,
    Table,
    Update,
    case,
    event,
    func,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import visitors

from iredapi.database.column_types import MYSQL
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.read_only import locks_rows

Write = tuple[str, Sequence[Any]]
_NODE: Final = "iredapi_galera"
"""The key in the ``info`` of a connection to a node of Galera."""
_MARK: Final = "~"
_ROOM: Final = 32
"""Characters that a column of text must hold at least; a value that fills it stays as it is."""


def watch(engine: AsyncEngine) -> None:
    """Let each new connection ask whether its server is a node of Galera.

    On such a node its reads wait until all that was committed before, on any node, is visible.
    Neither needs a right. On other servers this is one statement for each new connection.
    """
    if engine.dialect.name not in MYSQL:
        return

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            found = cursor.fetchall()
            if found and str(found[0][1]).upper() in {"ON", "1"}:
                cursor.execute("SET SESSION wsrep_sync_wait = 1")
                record.info[_NODE] = True
        finally:
            cursor.close()


def is_node(info: Mapping[str, Any]) -> bool:
    """Tell, from the ``info`` of a connection, whether its server is a node of Galera."""
    return bool(info.get(_NODE))


class Guards:
    """The rows that one transaction has locked, and how they are written before it commits."""

    __slots__ = ("_dialect", "_others", "_work")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._work: dict[tuple[Select[Any], tuple[Any, ...]], list[Write]] = {}
        self._others: list[tuple[Update, Mapping[str, Any]]] = []

    def clear(self) -> None:
        """Forget all rows: a transaction begins or ends."""
        self._work.clear()
        self._others.clear()

    def add(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> None:
        """Note the rows that a compiled SELECT locks; other statements are ignored."""
        if locks_rows(compiled.sql) and isinstance(compiled.source, Select):
            writes: list[Write] = [
                (write.sql, write.arguments(values))
                for write in _compiled_writes(compiled.source, self._dialect)
            ]
            if writes:
                self._work[compiled.source, tuple(writes[0][1])] = writes

    def add_statement(self, statement: Any, values: Mapping[str, Any]) -> None:
        """Note the rows that a SELECT locks which SQLAlchemy runs."""
        if isinstance(statement, Select):
            self._others += [(write, values) for write in writes_of(statement)]

    def take(self) -> tuple[list[Write], list[tuple[Update, Mapping[str, Any]]]]:
        """Return the writes of all rows, for the driver and for SQLAlchemy, and forget them."""
        work = [write for writes in self._work.values() for write in writes]
        others = [*self._others]
        self.clear()
        return work, others


@lru_cache(maxsize=256)
def _compiled_writes(statement: Select[Any], dialect: Dialect) -> tuple[CompiledStatement, ...]:
    return tuple(CompiledStatement.of(write, dialect) for write in writes_of(statement))


def writes_of(locking: Select[Any]) -> tuple[Update, ...]:
    """Return two UPDATEs of the rows that a SELECT of one table locks: forth and back.

    Raises LookupError for a SELECT of several tables, and for a table without a column that could
    be changed. (The doctor locks such rows: ``Database.using``.)
    """
    froms = locking.columns_clause_froms
    if len(froms) != 1 or not isinstance(froms[0], Table):
        raise LookupError(f"a lock must be one of one table: {locking}")
    table, where = froms[0], locking.whereclause
    used = set() if where is None else {c for c in visitors.iterate(where) if isinstance(c, Column)}
    column = changeable(table, used)
    change = update(table) if where is None else update(table).where(where)
    if isinstance(column.type, Integer):
        # 0 and 1, 2 and 3, … are pairs, so nothing leaves the range of the column's type.
        other = case((column % 2 == 0, column + 1), else_=column - 1)
        return change.values({column.name: other}), change.values({column.name: other})
    longest = getattr(column.type, "length", None)
    longer, marked = change, change.where(func.substr(column, 1, 1) == _MARK)
    if longest is not None:
        longer = change.where(func.char_length(column) < longest)
    return (
        longer.values({column.name: func.concat(_MARK, column)}),
        marked.values({column.name: func.substr(column, 2)}),
    )


def changeable(table: Table, used: Collection[Any] = ()) -> Column[Any]:
    """Choose a column that every server has and on which the choice of rows does not depend.

    Raises LookupError when there is none.
    """
    free = [
        column
        for column in table.columns
        if column not in used
        and not column.primary_key
        and not column.foreign_keys
        and not column.name.endswith("_id")
        and "since" not in column.info
    ]
    # The last number is ``active`` in most tables; the first ones are limits and quotas.
    numbers = [column for column in reversed(free) if isinstance(column.type, Integer)]
    texts = [
        column
        for column in free
        if isinstance(column.type, String)
        and (column.type.length is None or column.type.length >= _ROOM)
    ]
    for column in sorted([*numbers, *texts], key=attrgetter("nullable")):
        return column
    raise LookupError(f"no column of {table.name} can be changed and changed back")
