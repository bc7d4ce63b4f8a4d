"""Column types, and columns and DDL as iRedMail's tables have them."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.types import TypeDecorator, TypeEngine

from iredapi.database.datetimes import DATETIME

MYSQL = ("mysql", "mariadb")
"""SQLAlchemy's names of MySQL and MariaDB."""

# --- column types --------------------------------------------------------------------------------

FLAG: TypeEngine[int] = SmallInteger().with_variant(mysql.TINYINT(1), *MYSQL)
"""0 or 1. Always bind and compare integers: PostgreSQL refuses booleans here."""

ID: TypeEngine[int] = (
    BigInteger()
    .with_variant(mysql.BIGINT(unsigned=True), *MYSQL)
    .with_variant(sqlite.INTEGER(), "sqlite")
)
"""A row number that the database generates."""

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
    """Text that the database stores as bytes: BYTEA on PostgreSQL, VARBINARY(255) on MySQL.

    Python only ever sees `str`, in UTF-8. Comparison is exact and case-sensitive.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of a dialect."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(LargeBinary())
        if dialect.name in MYSQL:
            return dialect.type_descriptor(_MySQLByteText(255))
        return dialect.type_descriptor(String(255))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Convert text to the driver's type."""
        if value is not None and dialect.name == "postgresql":
            return value.encode()
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Convert a value from the driver to text."""
        if value is None or isinstance(value, str):
            return value
        return bytes(value).decode("utf-8", "replace")


# --- DDL that Column cannot express ---------------------------------------------------------------

_DDL = "ddl"


def ddl(**by_dialect: str) -> dict[str, Any]:
    """Make a `Column.info` (or `Table.info`) with literal DDL for some dialects.

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
    """Make a `Column.info` or `Table.info`: servers before this release lack it (optional)."""
    return {"since": release}


def varchar_column(name: str, length: int = 255, default: str = "", **kw: Any) -> Column[Any]:
    """Make a VARCHAR that is never NULL."""
    return Column(name, String(length), nullable=False, server_default=default, **kw)


def ascii_column(name: str, **kw: Any) -> Column[Any]:
    """Make a VARCHAR(255), ASCII on MySQL: comparing it with other characters is an error there."""
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
    """Make the column `expired`, which no program reads; the default means never."""
    info = ddl(postgresql="TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT '9999-12-31 01:01:01'")
    return Column(
        "expired", DATETIME, nullable=False, server_default="9999-12-31 00:00:00", info=info
    )
