"""The few places where MySQL/MariaDB, PostgreSQL and SQLite differ.

Column types, DDL that cannot be said with one `Column`, one SQL function, one kind of INSERT, and
what a database error means. Everything else in the backends is the same SQL for all three.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    Insert,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    cast,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from iredapi.database.datetimes import DATE, DATETIME

__all__ = [
    "BIG",
    "BY_NAME",
    "COUNT",
    "DATE",
    "DATETIME",
    "FLAG",
    "ID",
    "ID32",
    "MYSQL",
    "YES_NO",
    "ByteText",
    "ascii_column",
    "codes_in",
    "ddl",
    "differs",
    "domain_of",
    "error_in",
    "expired_column",
    "holds_at_once",
    "insert_ignore",
    "is_full",
    "is_refused",
    "is_retryable",
    "is_unavailable",
    "is_unique_violation",
    "is_unknown_name",
    "moment_column",
    "mysql_options",
    "number_column",
    "since",
    "text_column",
    "varchar_column",
    "without_waiting",
]

_Error = TypeVar("_Error", bound=BaseException)

MYSQL = ("mysql", "mariadb")
"""The names SQLAlchemy has for MySQL and MariaDB; one server family, the same SQL."""

# --- column types --------------------------------------------------------------------------------

FLAG: TypeEngine[int] = SmallInteger().with_variant(mysql.TINYINT(1), *MYSQL)
"""0 or 1. Always bind and compare integers: PostgreSQL refuses booleans here."""

ID: TypeEngine[int] = (
    BigInteger()
    .with_variant(mysql.BIGINT(unsigned=True), *MYSQL)
    .with_variant(sqlite.INTEGER(), "sqlite")
)
"""A row number the database hands out itself."""

ID32: TypeEngine[int] = Integer().with_variant(mysql.INTEGER(unsigned=True), *MYSQL)
"""A row number of 32 bits, or a reference to one."""

BIG: TypeEngine[int] = BigInteger()
"""A 64 bit number everywhere."""

COUNT: TypeEngine[int] = BigInteger().with_variant(mysql.INTEGER(), *MYSQL)
"""A number that is 32 bit on MySQL and 64 bit elsewhere."""

YES_NO: TypeEngine[str] = String(1).with_variant(mysql.CHAR(1), *MYSQL)
"""One letter, `y` or `n`."""


class _MySQLByteText(mysql.VARBINARY):
    """VARBINARY in DDL; values go to the driver as they are, as text."""

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: Any) -> None:
        return None


class ByteText(TypeDecorator[str]):
    """Text that the database keeps as bytes: BYTEA on PostgreSQL, VARBINARY(255) on MySQL.

    Python only ever sees `str`, in UTF-8. Comparison is exact and case-sensitive.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type the database has."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(LargeBinary())
        if dialect.name in MYSQL:
            return dialect.type_descriptor(_MySQLByteText(255))
        return dialect.type_descriptor(String(255))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Turn text into what the driver takes."""
        if value is not None and dialect.name == "postgresql":
            return value.encode()
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Turn what the driver returned into text."""
        if value is None or isinstance(value, str):
            return value
        return bytes(value).decode("utf-8", "replace")


# --- DDL one Column cannot say -------------------------------------------------------------------

_DDL = "ddl"


def ddl(**by_dialect: str) -> dict[str, Any]:
    """Make a `Column.info` (or `Table.info`) whose DDL is spelled out for some dialects.

    Keys are `mysql` (also meant for MariaDB), `postgresql`, `sqlite`. For a column the text is all
    that follows its name; for a table it replaces the primary key clause.
    """
    return {_DDL: by_dialect}


def mysql_options() -> dict[str, Any]:
    """Return the table options of iRedMail on MySQL: InnoDB, utf8mb4, case-insensitive."""
    options = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_general_ci"}
    return {f"{name}_{key}": value for name in MYSQL for key, value in options.items()}


def _spelled_out(info: dict[Any, Any], dialect: str) -> str | None:
    text: str | None = info.get(_DDL, {}).get("mysql" if dialect in MYSQL else dialect)
    return text


@compiles(CreateColumn, "mysql", "mariadb", "postgresql", "sqlite")
def _create_column(element: CreateColumn, compiler: Any, **kw: Any) -> str | None:
    column: Column[Any] = element.element
    text = _spelled_out(column.info, compiler.dialect.name)
    if text is not None:
        return f"{compiler.preparer.format_column(column)} {text}"
    rendered: str | None = compiler.visit_create_column(element, **kw)
    return rendered


@compiles(PrimaryKeyConstraint, "mysql", "mariadb", "postgresql", "sqlite")
def _primary_key(element: PrimaryKeyConstraint, compiler: DDLCompiler, **kw: Any) -> str:
    text = _spelled_out(element.table.info, compiler.dialect.name)
    return text if text is not None else compiler.visit_primary_key_constraint(element, **kw)


# --- columns -------------------------------------------------------------------------------------


def since(release: str) -> dict[str, str]:
    """Make a `Column.info` or `Table.info`: older servers lack it, and we can do without."""
    return {"since": release}


def varchar_column(name: str, length: int = 255, default: str = "", **kw: Any) -> Column[Any]:
    """Make a VARCHAR that is never NULL."""
    return Column(name, String(length), nullable=False, server_default=default, **kw)


def ascii_column(name: str, **kw: Any) -> Column[Any]:
    """Make a VARCHAR(255) that holds nothing but ASCII on MySQL: even comparing fails there."""
    kind = String(255).with_variant(mysql.VARCHAR(255, charset="ascii"), *MYSQL)
    return Column(name, kind, nullable=False, server_default="", **kw)


def text_column(name: str) -> Column[Any]:
    """Make a TEXT that is never NULL, except on MySQL, which has no default for it."""
    return Column(name, Text, nullable=False, server_default="", info=ddl(mysql="TEXT"))


def number_column(name: str, kind: Any, default: int = 0, **kw: Any) -> Column[Any]:
    """Make a number that is never NULL."""
    return Column(name, kind, nullable=False, server_default=text(str(default)), **kw)


def moment_column(name: str) -> Column[Any]:
    """Make a date-time whose default is now, but 1970-01-01 01:01:01 on MySQL."""
    info = ddl(
        mysql="DATETIME NOT NULL DEFAULT '1970-01-01 01:01:01'",
        postgresql="TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT NOW()",
    )
    return Column(
        name, DATETIME, nullable=False, server_default=func.current_timestamp(), info=info
    )


def expired_column() -> Column[Any]:
    """Make the `expired` that no program reads: never."""
    info = ddl(postgresql="TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT '9999-12-31 01:01:01'")
    return Column(
        "expired", DATETIME, nullable=False, server_default="9999-12-31 00:00:00", info=info
    )


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


# --- what an error means -------------------------------------------------------------------------

_UNIQUE_MYSQL = {1062, 1586}
_UNIQUE_SQLITE = {1555, 2067, 2579}  # primary key, unique, rowid

_RETRY_STATES = {"40001", "40P01", "55P03"}  # serialization, deadlock, lock not available
_RETRY_MYSQL = {1020, 1205, 1213, 3572}  # record changed, lock wait timeout, deadlock, NOWAIT
_RETRY_SQLITE = {5, 6}  # busy, locked

_UNKNOWN_STATES = {"42703", "42P01"}  # column, table
_UNKNOWN_MYSQL = {1054, 1146}

_REFUSED_MYSQL = {1142, 1143, 1227, 1370}  # table, column, privilege, routine
_REFUSED_SQLITE = {3, 8, 23}  # permission, read-only, authorization

# Shutting down, starting, too many connections, no such database, bad login.
_DOWN_STATES = {"57P01", "57P02", "57P03", "57P05", "53300", "3D000", "28000", "28P01"}
_DOWN_MYSQL = {1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1226, 1698}
_DOWN_MYSQL |= {2002, 2003, 2005, 2006, 2013, 2055}  # raised by the client library
_FULL_MYSQL = {1021, 1114}
_WRITE_MYSQL = {3, 20, 1026}  # mysys and the server: error on write
_FULL_SQLITE = 13
_DOWN_SQLITE = {10, 14}  # I/O error, cannot open


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield the error, the driver's error in it, and what these were raised from."""
    todo: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while todo:
        error = todo.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        todo += [getattr(error, "orig", None), error.__cause__]


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _mysql_code(error: BaseException) -> int:
    # OSError has its errno in the same place.
    mysql_error = type(error).__module__.startswith(("pymysql", "aiomysql"))
    code = error.args[0] if mysql_error and error.args else 0
    return code if isinstance(code, int) else 0


def _sqlite_code(error: BaseException) -> int:
    code = getattr(error, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def codes_in(exc: BaseException) -> tuple[frozenset[str], frozenset[int], frozenset[int]]:
    """Return the SQLSTATEs, MySQL's codes and SQLite's primary codes in an error's chain."""
    chain = list(_chain(exc))
    return (
        frozenset(state for error in chain if (state := _sqlstate(error))),
        frozenset(code for error in chain if (code := _mysql_code(error))),
        frozenset(code & 0xFF for error in chain if (code := _sqlite_code(error))),
    )


def error_in(exc: BaseException, kind: type[_Error]) -> _Error | None:
    """Return the first error of a class in an error's chain."""
    return next((error for error in _chain(exc) if isinstance(error, kind)), None)


def is_unique_violation(exc: IntegrityError) -> bool:
    """Say whether a row with the same primary or unique key exists already."""
    return any(
        _sqlstate(error) == "23505"
        or _mysql_code(error) in _UNIQUE_MYSQL
        or _sqlite_code(error) in _UNIQUE_SQLITE
        for error in _chain(exc)
    )


def is_retryable(exc: DBAPIError) -> bool:
    """Say whether the same transaction may well succeed when it is run once more.

    True for a deadlock, a serialization failure, a lock wait timeout, a busy SQLite file and a
    connection that was lost. Lost during COMMIT means that it may have been committed.
    """
    return exc.connection_invalidated or any(
        _sqlstate(error) in _RETRY_STATES
        or _mysql_code(error) in _RETRY_MYSQL
        or _sqlite_code(error) & 0xFF in _RETRY_SQLITE
        for error in _chain(exc)
    )


def is_unknown_name(exc: BaseException) -> bool:
    """Say whether a statement names a table or column that the database has not (any more)."""
    return any(
        _sqlstate(error) in _UNKNOWN_STATES
        or _mysql_code(error) in _UNKNOWN_MYSQL
        or (_sqlite_code(error) & 0xFF == 1 and str(error).startswith("no such "))
        for error in _chain(exc)
    )


def is_refused(exc: BaseException) -> bool:
    """Say whether the login lacks the right for a statement."""
    return any(
        _sqlstate(error) == "42501"
        or _mysql_code(error) in _REFUSED_MYSQL
        or _sqlite_code(error) & 0xFF in _REFUSED_SQLITE
        for error in _chain(exc)
    )


def is_full(exc: BaseException) -> bool:
    """Say whether the server could not write because its disk (or a table's limit) is full.

    PostgreSQL 53100 (disk_full), MariaDB and MySQL 1021 (ER_DISK_FULL) and 1114
    (ER_RECORD_FILE_FULL), or a failed write with the system's error 28 (ENOSPC), SQLite 13.
    """
    return any(
        _sqlstate(error) == "53100"
        or _mysql_code(error) in _FULL_MYSQL
        or (_mysql_code(error) in _WRITE_MYSQL and "rrcode: 28" in str(error))
        or _sqlite_code(error) & 0xFF == _FULL_SQLITE
        for error in _chain(exc)
    )


def is_unavailable(exc: BaseException) -> bool:
    """Say whether the database cannot be used now: no connection, no login, or no free slot."""
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    return any(
        isinstance(error, (OSError, PoolTimeout))
        or _sqlstate(error) in _DOWN_STATES
        or _sqlstate(error).startswith("08")
        or _mysql_code(error) in _DOWN_MYSQL
        or _sqlite_code(error) & 0xFF in _DOWN_SQLITE
        for error in _chain(exc)
    )
