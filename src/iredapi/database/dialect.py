"""The few places where MySQL/MariaDB, PostgreSQL and SQLite differ.

Column types, DDL that cannot be said with one `Column`, one SQL function, one kind of INSERT, and
what a database error means. Everything else in the backends is the same SQL for all three.
"""

from typing import Any

from sqlalchemy import (
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

"""The names SQLAlchemy has for MySQL and MariaDB; one server family, the same SQL."""

# --- SQL function --------------------------------------------------------------------------------


class _DomainOf(FunctionElement[str]):
    """See `domain_of`."""

    name = "domain_of"
    type = String()
    inherit_cache = True


def differs(
    column: ColumnElement[Any], value: ColumnElement[Any], dialect: str
) -> ColumnElement[bool]:
    """Make SQL for whether a column holds anything but a value; no text is an empty one.

    On MySQL equality knows no case, accents and trailing blanks, so bytes are compared.
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


def _argument(element: _DomainOf, compiler: SQLCompiler, kw: dict[str, Any]) -> str:
    return compiler.process(next(iter(element.clauses)), **kw)


@compiles(_DomainOf, "postgresql")
def _domain_of_postgresql(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    argument = _argument(element, compiler, kw)
    if isinstance(next(iter(element.clauses)).type, ByteText):
        argument = f"encode({argument}, 'escape')"  # bytea, which may hold any bytes
    return f"substring({argument} from '[^@]*$')"


@compiles(_DomainOf, "mysql", "mariadb")
def _domain_of_mysql(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"SUBSTRING_INDEX({_argument(element, compiler, kw)}, '@', -1)"


@compiles(_DomainOf, "sqlite")
def _domain_of_sqlite(element: _DomainOf, compiler: SQLCompiler, **kw: Any) -> str:
    # rtrim() takes away every trailing character that is not an "@": what is left is all up to
    # and including the last one, or nothing.
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
"""Hint for MariaDB, where several rows are chosen by their key and held: it prefers to read all of
a small table, and InnoDB holds whatever is read."""


def holds_at_once(dialect: Dialect) -> bool:
    """Say whether a connected server can hold rows unless somebody else holds one.

    SQLite has one writer. MySQL can since 8.0, but has nothing for writes that are not to wait.
    """
    if dialect.name not in MYSQL:
        return True
    version = dialect.server_version_info or ()
    return bool(getattr(dialect, "is_mariadb", False)) and version >= (10, 3)


def without_waiting(dialect: Dialect) -> str:
    """Return what stands before a write that fails at once when somebody holds one of its rows.

    Only MariaDB (10.3) has words for it. SQLite has one writer; on PostgreSQL it is said in the
    statement.
    """
    if dialect.name not in MYSQL or not holds_at_once(dialect):
        return ""
    return "SET STATEMENT innodb_lock_wait_timeout=0 FOR "
