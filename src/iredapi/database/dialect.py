"""SQL that differs between MySQL/MariaDB, PostgreSQL and SQLite.

Comparisons, one SQL function, one kind of INSERT, and locking without waiting. Column types are in
`column_types`, error codes in `errors`. Other SQL of the backends is the same for all three.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Insert,
    String,
    Table,
    cast,
    func,
    literal_column,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from iredapi.database.column_types import MYSQL, ByteText
from iredapi.database.server import Server

_LARGEST = 2**63 - 1

# --- SQL function --------------------------------------------------------------------------------


class _DomainOf(FunctionElement[str]):
    """See `domain_of`."""

    name = "domain_of"
    type = String()
    inherit_cache = True


class _SumOf(FunctionElement[int]):
    """See `sum_of`."""

    name = "sum_of"
    type = BigInteger()
    inherit_cache = True


def differs(
    column: ColumnElement[Any], value: ColumnElement[Any], dialect: str
) -> ColumnElement[bool]:
    """Make SQL for whether a column differs from a value; NULL in a text column is an empty text.

    Equality on MySQL ignores case, accents and trailing blanks, so bytes are compared.
    """
    if not isinstance(column.type, String):
        return column.is_distinct_from(value)
    there = func.coalesce(column, literal_column("''"))
    if dialect in MYSQL:
        return cast(there, mysql.BINARY).is_distinct_from(cast(value, mysql.BINARY))
    return there.is_distinct_from(value)


def domain_of(address: Any) -> FunctionElement[str]:
    """Make SQL for the part after the last `@` of an address; without an `@` it is all of it."""
    return _DomainOf(address)


def sum_of(number: ColumnElement[Any]) -> FunctionElement[int]:
    """Make SQL for the sum of all rows' numbers: 0 without rows, and at most 2^63 - 1.

    Other programs store numbers as large as the columns hold. SQLite refuses sums beyond 64 bits,
    and the answers cannot have them; beyond 2^53 its sums are not exact.
    """
    return _SumOf(number)


def _argument(element: FunctionElement[Any], compiler: SQLCompiler, kw: dict[str, Any]) -> str:
    return compiler.process(next(iter(element.clauses)), **kw)


@compiles(_SumOf)
def _sum_of(element: _SumOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"LEAST(COALESCE(SUM({_argument(element, compiler, kw)}), 0), {_LARGEST})"


@compiles(_SumOf, "sqlite")
def _sum_of_sqlite(element: _SumOf, compiler: SQLCompiler, **kw: Any) -> str:
    # The conversion gives the largest integer for all that is larger.
    return f"CAST(TOTAL({_argument(element, compiler, kw)}) AS INTEGER)"


@compiles(_DomainOf, "postgresql")
def _domain_of_postgresql(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    argument = _argument(element, compiler, kw)
    if isinstance(next(iter(element.clauses)).type, ByteText):
        argument = f"encode({argument}, 'escape')"  # bytea, which may contain any bytes
    return f"substring({argument} from '[^@]*$')"


@compiles(_DomainOf, "mysql", "mariadb")
def _domain_of_mysql(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"SUBSTRING_INDEX({_argument(element, compiler, kw)}, '@', -1)"


@compiles(_DomainOf, "sqlite")
def _domain_of_sqlite(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    # rtrim() removes every trailing character that is not an "@": the rest ends with the last
    # "@", or is empty.
    x = _argument(element, compiler, kw)
    return f"substr({x}, length(rtrim({x}, replace({x}, '@', ''))) + 1)"


# --- INSERT that may meet an existing row --------------------------------------------------------


def insert_ignore(table: Table, dialect: str) -> Insert:
    """Return an INSERT that leaves an existing row with the same unique key alone.

    Do not rely on `rowcount` or the inserted key: read the row afterwards. On MySQL this is an
    update of nothing rather than INSERT IGNORE, which would also hide values that do not fit.
    """
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    if dialect in MYSQL:
        column = next(iter(table.primary_key.columns))
        return mysql.insert(table).on_duplicate_key_update({column.name: column})
    raise ValueError(f"unknown SQL dialect: {dialect}")


# --- locks ----------------------------------------------------------------------------------------


BY_NAME = "FORCE INDEX (PRIMARY)"
"""Hint for MariaDB, for statements that lock several rows by their key: the optimizer prefers to
scan a small table, and InnoDB locks every row that is read."""


def holds_at_once(dialect: Dialect) -> bool:
    """Tell whether a connected server can lock rows without waiting (NOWAIT).

    SQLite has one writer.
    """
    return Server.of(dialect).has_nowait


def without_waiting(dialect: Dialect) -> str:
    """Return the prefix of a write that fails at once when one of its rows is locked.

    Only MariaDB (10.3) has one; see ``locks_before``. SQLite has one writer; on PostgreSQL the
    statement itself has SKIP LOCKED.
    """
    if Server.of(dialect).kind != "MariaDB" or not holds_at_once(dialect):
        return ""
    return "SET STATEMENT innodb_lock_wait_timeout=0 FOR "


def locks_before(dialect: Dialect) -> bool:
    """Tell whether a write that must not wait needs a SELECT … NOWAIT of its rows before it.

    MySQL's ``innodb_lock_wait_timeout`` is at least a second, and cannot be set for one statement.
    """
    return Server.of(dialect).kind == "MySQL" and holds_at_once(dialect)
