"""Statements that SQLAlchemy compiles once and that run on the driver.

SQLAlchemy's conversions of values and columns are applied, so the results are the same
(docs/adr/0008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Delete,
    Dialect,
    Insert,
    Integer,
    Select,
    Update,
    UpdateBase,
    bindparam,
    select,
)
from sqlalchemy.sql import visitors

from iredapi.database.read_only import locks_rows

Statement = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A compiled statement: SQL text and the order of its parameters for the driver."""

    sql: str
    names: tuple[str, ...]
    """The names of its parameters, in the order of the driver."""
    read: Callable[[Mapping[str, Any]], list[Any]]
    """Returns the values of its parameters in that order."""
    constants: Mapping[str, Any]
    """The converted values of parameters that are the same in each run."""
    converted: tuple[tuple[int, Convert], ...]
    """Index and conversion of the other parameters, if they need one."""
    columns: tuple[str, ...]
    results: tuple[tuple[int, Convert], ...]
    """Indexes of result columns, with the conversion of their values."""
    writes: bool
    """Whether it changes or locks rows: read-only connections refuse it."""
    source: Statement

    @classmethod
    def of(cls, statement: Statement, dialect: Dialect) -> CompiledStatement:
        """Compile a statement; lists for IN must be literal."""
        compiled: Any = statement.compile(dialect=dialect)
        columns: Sequence[Any] = ()
        if isinstance(statement, Select | CompoundSelect):
            columns = list(statement.selected_columns)
        binds = {
            name: convert
            for name, bind in compiled.binds.items()
            if (convert := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        results = tuple(
            (index, convert)
            for index, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None))
            is not None
        )
        names = tuple(compiled.positiontup)
        required = {name for name, bind in compiled.binds.items() if bind.required}
        return cls(
            sql=compiled.string,
            names=names,
            read=_reader(names),
            constants={
                name: binds.get(name, _same)(compiled.params[name])
                for name in names
                if name not in required
            },
            converted=tuple(
                (index, binds[name])
                for index, name in enumerate(names)
                if name in required and name in binds
            ),
            columns=tuple(str(column.key) for column in columns),
            results=results,
            writes=locks_rows(compiled.string)
            or any(isinstance(part, UpdateBase) for part in visitors.iterate(statement)),
            source=statement,
        )

    def with_row_index(self, dialect: Dialect) -> CompiledStatement:
        """Return the statement with a last result column: its parameter ``number``."""
        number = bindparam("number", type_=Integer)
        if isinstance(self.source, Select):
            return CompiledStatement.of(self.source.add_columns(number.label("number")), dialect)
        if isinstance(self.source, CompoundSelect):
            rows = self.source.subquery("rows")
            return CompiledStatement.of(select(*rows.c, number.label("number")), dialect)
        if isinstance(self.source, Update):
            return CompiledStatement.of(self.source.returning(number.label("number")), dialect)
        raise TypeError(type(self.source))

    def after(self, words: str) -> CompiledStatement:
        """Return the statement with a prefix, for example ``SET STATEMENT … FOR``."""
        return replace(self, sql=words + self.sql) if words else self

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the driver's order."""
        found = self.read({**values, **self.constants} if self.constants else values)
        for index, convert in self.converted:
            found[index] = convert(found[index])
        return found

    def rows(self, found: Sequence[Any]) -> list[Any]:
        """Return the driver's rows with converted values, in the order of ``columns``."""
        if not self.results:
            return list(found)
        rows = []
        for row in found:
            values = list(row)
            for index, convert in self.results:
                values[index] = convert(values[index])
            rows.append(values)
        return rows


def _reader(names: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
    """Return what reads the values of some names."""
    if len(names) < 2:  # of one name ``itemgetter`` returns no tuple
        return lambda values: [values[name] for name in names]
    read = itemgetter(*names)
    return lambda values: list(read(values))


def _same(value: Any) -> Any:
    return value
