"""How a check looks at a database: page by page along a key, and how what it found is repaired.

No probe holds more than a page of rows or keeps a transaction open between pages, so a million
mailboxes need no more memory than ten. A repair reads its page again, locked, and changes what is
still wrong.
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
"""Rows that are read, and repaired, at once."""

Row = Mapping[str, Any]
Judge = Callable[[Row], str | None]
"""What SQL cannot say: the detail of a finding, or None when the row is fine."""


class Fix(Protocol):
    """A repair of some rows, in an open transaction."""

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Repair rows that were just read under a lock."""


class Probe(Protocol):
    """One way to look for one kind of finding in one database."""

    @property
    def code(self) -> str:
        """What it finds."""

    @property
    def database(self) -> str:
        """Where it looks."""

    @property
    def fixable(self) -> bool:
        """Whether what it finds has one right answer."""

    @property
    def removes(self) -> Table | None:
        """The table that the repair removes rows of; None: it removes none."""

    async def number(self, connection: AsyncConnection, rows: Sequence[Row]) -> int:
        """Return how many rows of that table the repair of these would remove."""

    async def page(
        self, connection: AsyncConnection, after: Any
    ) -> tuple[list[tuple[Row, str]], Any]:
        """Return wrong rows, each with its detail, and where the next page begins (None: no more).

        A row has a ``subject``.
        """

    async def repair(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """Repair those rows that are still wrong, and return them."""


def key_label(place: int) -> str:
    """The name under which a row carries a column of its key."""
    return f"key_{place}"


def having_keys(key: Sequence[ColumnElement[Any]], rows: Collection[Row]) -> ColumnElement[bool]:
    """Select the rows that were read, by their keys."""
    if len(key) == 1:
        return key[0].in_([row[key_label(0)] for row in rows])
    return or_(
        *(
            and_(*(column == row[key_label(place)] for place, column in enumerate(key)))
            for row in rows
        )
    )


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the rows."""

    table: Table
    key: tuple[ColumnElement[Any], ...]

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """See ``Fix``."""
        await remove(connection, self.table, having_keys(self.key, rows))


@dataclass(frozen=True, slots=True)
class Update:
    """Give columns the same value in all rows, or one that is computed of each row."""

    table: Table
    key: tuple[ColumnElement[Any], ...]
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
    """Add a row for each of them, where none has the same unique key."""

    table: Table
    values: Callable[[Row], Mapping[str, Any]]

    async def apply(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """See ``Fix``."""
        statement = insert_ignore(self.table, connection.dialect.name)
        await connection.execute(statement, [dict(self.values(row)) for row in rows])


@dataclass(frozen=True, slots=True)
class SqlProbe:
    """A SELECT whose rows are wrong, or (with ``judge``) may be.

    Its columns are ``subject``, perhaps ``detail``, and what the repair needs; ``key`` is unique.
    """

    code: str
    database: str
    select: Select[*tuple[Any, ...]]
    key: tuple[ColumnElement[Any], ...]
    fix: Fix | None = None
    judge: Judge | None = None

    @property
    def fixable(self) -> bool:
        """See ``Probe``."""
        return self.fix is not None

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
        still = [row for row, _ in self._wrong(await _rows(connection, statement))]
        if still:
            await self.fix.apply(connection, still)
        return still

    def _keyed(self) -> Select[*tuple[Any, ...]]:
        return self.select.add_columns(
            *(column.label(key_label(place)) for place, column in enumerate(self.key))
        )

    def _wrong(self, rows: Sequence[Row]) -> list[tuple[Row, str]]:
        if self.judge is None:
            return [(row, str(row.get("detail") or "")) for row in rows]
        judged = ((row, self.judge(row)) for row in rows)
        return [(row, detail) for row, detail in judged if detail is not None]


def _following(
    statement: Select[*tuple[Any, ...]], key: Sequence[ColumnElement[Any]], after: Sequence[Any]
) -> Select[*tuple[Any, ...]]:
    """Select what comes after a key."""
    values: list[BindParameter[Any]] = [
        bindparam(f"after_{place}", value, type_=column.type)
        for place, (column, value) in enumerate(zip(key, after, strict=True))
    ]
    if len(key) == 1:
        return statement.where(key[0] > values[0])
    return statement.where(tuple_(*key) > tuple_(*values))


async def _rows(connection: AsyncConnection, statement: Select[*tuple[Any, ...]]) -> list[Row]:
    return [dict(row) for row in (await connection.execute(statement)).mappings()]
