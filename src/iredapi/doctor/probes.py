"""Probes: how a check reads a database page by page along a key, and repairs what it found.

No probe holds more than one page of rows or keeps a transaction open between pages, so memory does
not grow with the number of mailboxes. A repair reads the rows of its page again with a lock and
changes those that are still wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    or_,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.dialect import insert_ignore
from iredapi.doctor.removals import remove

PAGE = 500
"""Rows of a page: read in one statement, repaired in one transaction."""

Row = Mapping[str, Any]
Key = tuple[ColumnElement[Any], ...]
"""Columns of a unique key."""
Judge = Callable[[Row], str | None]
"""A test that SQL cannot make: returns the detail of the finding, or None when the row is right."""


class Fix(Protocol):
    """A repair of some rows, in an open transaction."""

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Repair rows that were just read with a lock."""


class Probe(Protocol):
    """Looks for findings of one code in one database."""

    @property
    def code(self) -> str:
        """Code of its findings, a key of ``findings.CHECKS``."""

    @property
    def database(self) -> str:
        """Name of the database: ``vmail``, ``amavisd``, ``iredapd`` or ``iredadmin``."""

    @property
    def fixable(self) -> bool:
        """Whether ``repair`` can repair what it finds."""

    @property
    def by_name(self) -> bool:
        """Whether only findings are repaired whose subject the operator gives with ``--named``."""

    @property
    def removes(self) -> Table | None:
        """Table whose rows the repair removes; None: it removes no rows."""

    async def number(self, connection: AsyncConnection, rows: Sequence[Row]) -> int:
        """Return how many rows of the table ``removes`` the repair of ``rows`` would remove."""

    async def page(
        self, connection: AsyncConnection, after: Any
    ) -> tuple[list[tuple[Row, str]], Any]:
        """Return the wrong rows of a page, each with its detail, and the ``after`` of the next.

        ``after`` is None for the first page, and in the result of the last. A row has a
        ``subject``.
        """

    async def repair(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """Repair the rows that are still wrong, and return those."""


def key_label(index: int) -> str:
    """Return the name of a key column in the rows of a probe; ``index`` counts from 0."""
    return f"key_{index}"


def having_keys(key: Sequence[ColumnElement[Any]], rows: Collection[Row]) -> ColumnElement[bool]:
    """Return the condition that selects the rows that were read, by their keys."""
    if len(key) == 1:
        return key[0].in_([row[key_label(0)] for row in rows])
    return or_(
        *(
            and_(*(column == row[key_label(index)] for index, column in enumerate(key)))
            for row in rows
        )
    )


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the rows."""

    table: Table
    key: Key

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """See ``Fix``."""
        await remove(connection, self.table, having_keys(self.key, rows))


class DeleteNamed(Delete):
    """Remove the rows whose subject the operator gives with ``--named``."""


@dataclass(frozen=True, slots=True)
class Update:
    """Set columns to ``values`` in all rows, or to what ``computed`` returns for each row."""

    table: Table
    key: Key
    values: Mapping[str, Any] = field(default_factory=dict)
    computed: Callable[[Row], Mapping[str, Any]] | None = None

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """See ``Fix``."""
        if self.computed is None:
            await connection.execute(
                update(self.table).where(having_keys(self.key, rows)).values(dict(self.values))
            )
            return
        for row in rows:
            await connection.execute(
                update(self.table)
                .where(having_keys(self.key, [row]))
                .values(dict(self.values) | dict(self.computed(row)))
            )


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row for each row found, unless one with the same unique key exists."""

    table: Table
    values: Callable[[Row], Mapping[str, Any]]

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """See ``Fix``."""
        statement = insert_ignore(self.table, connection.dialect.name)
        await connection.execute(statement, [dict(self.values(row)) for row in rows])


FixFactory = Callable[[Table, Key], Fix]
"""Makes the repair of a table's rows, found by their key; ``Delete`` is one."""


def set_columns(**values: Any) -> FixFactory:
    """Repair by giving columns the same values in all rows."""
    return lambda table, key: Update(table, key, values)


def compute_columns(computed: Callable[[Row], Mapping[str, Any]]) -> FixFactory:
    """Repair by giving columns values that are computed from each row."""
    return lambda table, key: Update(table, key, computed=computed)


def insert_into(table: Table, values: Callable[[Row], Mapping[str, Any]]) -> FixFactory:
    """Repair by adding a row of a table for each row that was found."""
    return lambda _table, _key: Insert(table, values)


@dataclass(frozen=True, slots=True)
class SqlProbe:
    """A probe of one SELECT: its rows are wrong, or those that ``judge`` says are.

    Its columns are ``subject``, optionally ``detail``, and what the repair needs. ``key`` must be
    unique: the pages follow it.
    """

    code: str
    database: str
    select: Select[*tuple[Any, ...]]
    key: Key
    fix: Fix | None = None
    judge: Judge | None = None

    @property
    def fixable(self) -> bool:
        """See ``Probe``."""
        return self.fix is not None

    @property
    def by_name(self) -> bool:
        """See ``Probe``."""
        return isinstance(self.fix, DeleteNamed)

    @property
    def removes(self) -> Table | None:
        """See ``Probe``."""
        return self.fix.table if isinstance(self.fix, Delete) else None

    async def number(self, connection: AsyncConnection, rows: Sequence[Row]) -> int:  # noqa: ARG002
        """See ``Probe``."""
        return len(rows)

    async def page(
        self, connection: AsyncConnection, after: Any
    ) -> tuple[list[tuple[Row, str]], Any]:
        """See ``Probe``."""
        statement = self._keyed().order_by(*self.key).limit(PAGE)
        if after is not None:
            statement = _following(statement, self.key, after)
        rows = await _rows(connection, statement)
        last = rows[-1] if len(rows) == PAGE else None
        following = (
            None if last is None else tuple(last[key_label(n)] for n in range(len(self.key)))
        )
        return self._wrong(rows), following

    async def repair(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """See ``Probe``."""
        if self.fix is None:
            return []
        statement = self._keyed().where(having_keys(self.key, rows)).with_for_update()
        wrong = [row for row, _ in self._wrong(await _rows(connection, statement))]
        if wrong:
            await self.fix.apply(connection, wrong)
        return wrong

    def _keyed(self) -> Select[*tuple[Any, ...]]:
        return self.select.add_columns(
            *(column.label(key_label(index)) for index, column in enumerate(self.key))
        )

    def _wrong(self, rows: Sequence[Row]) -> list[tuple[Row, str]]:
        if self.judge is None:
            return [(row, str(row.get("detail") or "")) for row in rows]
        judged = ((row, self.judge(row)) for row in rows)
        return [(row, detail) for row, detail in judged if detail is not None]


def _following(
    statement: Select[*tuple[Any, ...]], key: Sequence[ColumnElement[Any]], after: Sequence[Any]
) -> Select[*tuple[Any, ...]]:
    """Restrict a statement to the rows after a key."""
    values: list[BindParameter[Any]] = [
        bindparam(f"after_{index}", value, type_=column.type)
        for index, (column, value) in enumerate(zip(key, after, strict=True))
    ]
    if len(key) == 1:
        return statement.where(key[0] > values[0])
    return statement.where(tuple_(*key) > tuple_(*values))


async def _rows(connection: AsyncConnection, statement: Select[*tuple[Any, ...]]) -> list[Row]:
    return [dict(row) for row in (await connection.execute(statement)).mappings()]
