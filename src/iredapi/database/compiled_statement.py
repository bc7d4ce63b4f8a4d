"""Statements that SQLAlchemy compiles once and that run on the driver.

SQLAlchemy's conversions of values and columns are applied, so the results are the same
(docs/adr/0008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    CompoundSelect,
    Delete,
    Dialect,
    Insert,
    Integer,
    Select,
    Update,
    UpdateBase,
    bindparam,
    literal_column,
)
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from iredapi.database.bulk_parameters import unbounded
from iredapi.database.read_only import locks_rows

Statement = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Convert = Callable[[Any], Any]
_SETS = "sets"
"""The table of the sets of values, in ``with_row_index``."""


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
    at_once: bool = False
    """Whether its parameters are arrays, with a value for each of several runs (PostgreSQL)."""

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
        """Return a statement for several sets of values, whose last result column is their index.

        For asyncpg. A read that locks nothing is run once, with arrays (``at_once``). An UPDATE is
        run for each set; its parameter ``number`` is the index.
        """
        if isinstance(self.source, Update):
            number = bindparam("number", type_=Integer)
            return CompiledStatement.of(self.source.returning(number.label("number")), dialect)
        if self.writes:
            raise TypeError(self.sql)
        kinds: dict[str, TypeEngine[Any]] = {}

        def column(part: Any, **_: Any) -> Any:
            if not isinstance(part, BindParameter) or not part.required:
                return None
            kinds.setdefault(part.key, part.type)
            # A column of SQLAlchemy would add its table to each SELECT that names it.
            return literal_column(f"{_SETS}.{part.key}", part.type)

        traverse: Any = visitors.replacement_traverse
        one = CompiledStatement.of(traverse(self.source, {}, column), dialect)
        arrays = ", ".join(
            f"${at}::{_array_of(kind, dialect)}"
            for at, kind in enumerate(kinds.values(), len(one.names) + 1)
        )
        names = (*one.names, *kinds)
        every = {name: convert for name, convert in self._conversions().items() if name in kinds}
        sets = f"{_SETS}({', '.join((*kinds, 'number'))})"
        words = (
            f"SELECT found.*, {_SETS}.number - 1",
            f"FROM unnest({arrays}) WITH ORDINALITY AS {sets}",
            f"CROSS JOIN LATERAL ({one.sql}) AS found",
        )
        return replace(
            one,
            # One start of the executor for all sets: it costs more than the few rows of each.
            sql=" ".join(words),
            names=names,
            read=_reader(names),
            converted=tuple(
                (at, partial(_each, every[name])) for at, name in enumerate(names) if name in every
            ),
            at_once=True,
        )

    def _conversions(self) -> dict[str, Convert]:
        return {self.names[at]: convert for at, convert in self.converted}

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


def _array_of(kind: TypeEngine[Any], dialect: Dialect) -> str:
    return f"{unbounded(kind).compile(dialect)}[]"


def _each(convert: Convert, values: Sequence[Any]) -> list[Any]:
    return [convert(value) for value in values]


def _same(value: Any) -> Any:
    return value
