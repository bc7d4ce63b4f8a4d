"""Limits of what ``--fix`` removes, and the SQL file that restores it.

With a wrong or empty account storage, every row of the other databases seems to be orphaned:
therefore only a limited number of rows is removed, and each is written to the file first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, Text, cast, column, delete, false, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi import __version__
from iredapi.config.errors import ConfigurationError

SHARE: Final = 10
"""Percent of a table's rows that may be removed."""
ROWS: Final = 20
"""Number of rows that may be removed even when they are a larger part of the table."""

_INSERT: Final = {
    "postgresql": ("INSERT INTO", " ON CONFLICT DO NOTHING"),
    "sqlite": ("INSERT OR IGNORE INTO", ""),
    "mysql": ("INSERT IGNORE INTO", ""),
}
"""Existing rows stay unchanged, so that the file can be applied twice."""
_HEAD: Final = {
    "postgresql": "SET standard_conforming_strings = on;\nSET client_encoding = 'UTF8';\n",
    "sqlite": "",
    "mysql": "SET NAMES utf8mb4;\nSET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\n",
}
_COMMAND: Final = {
    "postgresql": "psql -f FILE DATABASE",
    "sqlite": "sqlite3 DATABASE < FILE",
    "mysql": "mariadb DATABASE < FILE",
}


@dataclass(slots=True)
class Removals:
    """Counts the removals of one run and writes the removed rows to files.

    ``most`` is the number of rows of each table that may be removed in any case.
    """

    directory: Path
    most: int = 0
    files: dict[str, Path] = field(default_factory=dict)
    """The file of each database from which rows were removed."""
    _removed: dict[str, int] = field(default_factory=dict)
    _stamp: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))

    def held_back(self, table: str, number: int, total: int, *, hosts_any: bool) -> str:
        """Return why ``number`` rows of a table may not be removed; "" when they may.

        ``table`` is ``database.table``; ``total`` is the number of its rows.
        """
        number += self._removed.get(table, 0)
        if not number or number <= self.most:
            return ""
        if not hosts_any:
            reason = "the account storage holds no domain: is it the right one, and restored?"
        elif number > ROWS and number * 100 > SHARE * (total + self._removed.get(table, 0)):
            reason = "is the account storage the right one, and complete?"
        else:
            return ""
        return f"{number} of {total} rows; {reason} --remove-strays {number} removes them"

    def count(self, table: str, number: int) -> None:
        """Count rows that were removed."""
        self._removed[table] = self._removed.get(table, 0) + number

    @contextmanager
    def recording(self, database: str) -> Iterator[None]:
        """Let ``keep`` and ``remove`` write to the file of a database."""
        token = _KEEPING.set((self, database))
        try:
            yield
        finally:
            _KEEPING.reset(token)

    def append(self, database: str, dialect: str, statements: Iterable[str]) -> None:
        """Append statements to the file of a database and wait until they are on disk.

        Raises ConfigurationError when that fails.
        """
        path = self.files.get(database)
        try:
            if path is None:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                path, descriptor = self._new_file(database)
            else:
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                if database not in self.files:
                    file.write(self._heading(database, dialect))
                file.writelines(f"{statement}\n" for statement in statements)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "text that is not Unicode"
            raise ConfigurationError(
                f"--removed-to: the rows to remove cannot be written to "
                f"{path or self.directory}: {why}; none of them was removed"
            ) from None
        self.files[database] = path

    def _new_file(self, database: str) -> tuple[Path, int]:
        for more in ("", *(f"-{number}" for number in range(2, 100))):
            path = self.directory / f"doctor-{self._stamp}-{database}{more}.sql"
            with suppress(FileExistsError):
                return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _heading(self, database: str, dialect: str) -> str:
        return (
            f"-- Rows of the database {database} that iredapi doctor {__version__} removed at "
            f"{self._stamp}.\n-- To restore those that do not exist:\n"
            f"--   {_COMMAND[dialect]}\n{_HEAD[dialect]}"
        )


_KEEPING: ContextVar[tuple[Removals, str]] = ContextVar("removals")


async def keep(connection: AsyncConnection, table: Table, where: ColumnElement[bool]) -> None:
    """Write rows to the file; to be called before they are removed in the same transaction.

    Raises LookupError outside of ``Removals.recording``.
    """
    removals, database = _KEEPING.get()
    dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    everything: Select[Any] = select(text("*")).select_from(table)
    # All columns of the table, also those that plugins have added.
    names = list((await connection.execute(everything.where(false()))).keys())
    statement = everything.where(where)
    if dialect == "postgresql":
        # Every type of PostgreSQL reads the text that it writes.
        texts: list[Any] = [cast(column(name), Text).label(name) for name in names]
        statement = select(*texts).select_from(table).where(where)
    rows = (await connection.execute(statement)).all()
    if not rows:
        return
    quote = connection.dialect.identifier_preparer.quote
    begin, end = _INSERT[dialect]
    columns = ", ".join(quote(name) for name in names)
    removals.append(
        database,
        dialect,
        (
            f"{begin} {quote(table.name)} ({columns}) VALUES "
            f"({', '.join(_literal(value, dialect) for value in row)}){end};"
            for row in rows
        ),
    )


async def remove(connection: AsyncConnection, table: Table, where: ColumnElement[bool]) -> None:
    """Write rows to the file and then remove them."""
    await keep(connection, table, where)
    await connection.execute(delete(table).where(where))


def _literal(value: Any, dialect: str) -> str:
    """Return a value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float | Decimal):
        return repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"X'{bytes(value).hex()}'"
    if isinstance(value, timedelta):
        return f"'{_clock(value)}'"
    if isinstance(value, datetime | date | time):
        return f"'{str(value).replace('T', ' ')}'"
    whole = str(value)
    if dialect == "mysql" and not (whole.isascii() and whole.isprintable() and "\\" not in whole):
        # Whether a backslash escapes depends on sql_mode (NO_BACKSLASH_ESCAPES).
        return f"CONVERT(X'{whole.encode().hex()}' USING utf8mb4)"
    if dialect == "sqlite" and "\0" in whole:
        return f"CAST(X'{whole.encode().hex()}' AS TEXT)"
    doubled = whole.replace("'", "''")
    return f"'{doubled}'"


def _clock(value: timedelta) -> str:
    """Return a TIME of MariaDB as text; it may be negative or longer than a day."""
    seconds = int(abs(value).total_seconds())
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
