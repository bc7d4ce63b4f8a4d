"""What ``--fix`` may remove, and the file that what it removes is written to before.

Whoever has connected the wrong account storage, or an empty one, finds a stray in every row.
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
"""Percent of a table that may go, unless more is allowed by number …"""
ROWS: Final = 20
"""… and rows that may go however few there are."""

_INSERT: Final = {
    "postgresql": ("INSERT INTO", " ON CONFLICT DO NOTHING"),
    "sqlite": ("INSERT OR IGNORE INTO", ""),
    "mysql": ("INSERT IGNORE INTO", ""),
}
"""Rows that are there already stay as they are: the file may be read twice."""
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
    """The removals of one run. ``most`` rows of a table may go in any case."""

    directory: Path
    most: int = 0
    files: dict[str, Path] = field(default_factory=dict)
    """The file of each database of which something was removed."""
    _removed: dict[str, int] = field(default_factory=dict)
    _stamp: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))

    def held_back(self, table: str, number: int, total: int, *, hosts_any: bool) -> str:
        """Say why so many rows of a table (``database.table``) may not go; "" when they may."""
        number += self._removed.get(table, 0)
        if not number or number <= self.most:
            return ""
        if not hosts_any:
            reason = "the account storage holds no domain: is it the right one, and restored?"
        elif number > ROWS and number * 100 > SHARE * (total + self._removed.get(table, 0)):
            reason = "is the account storage the right one, and whole?"
        else:
            return ""
        return f"{number} of {total} rows; {reason} --remove-strays {number} removes them"

    def count(self, table: str, number: int) -> None:
        """Count rows that were removed."""
        self._removed[table] = self._removed.get(table, 0) + number

    @contextmanager
    def recording(self, database: str) -> Iterator[None]:
        """Have ``keep`` write to the file of a database."""
        token = _KEEPING.set((self, database))
        try:
            yield
        finally:
            _KEEPING.reset(token)

    def append(self, database: str, dialect: str, statements: Iterable[str]) -> None:
        """Write statements to the disk. Raises ConfigurationError when that fails."""
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
                f"--removed-to: what is to be removed cannot be written to "
                f"{path or self.directory}: {why}; nothing of it was removed"
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
            f"{self._stamp}.\n-- They are put back, where they are not there already, with:\n"
            f"--   {_COMMAND[dialect]}\n{_HEAD[dialect]}"
        )


_KEEPING: ContextVar[tuple[Removals, str]] = ContextVar("removals")


async def keep(connection: AsyncConnection, table: Table, where: ColumnElement[bool]) -> None:
    """Write rows to the file, before they are removed in the same transaction.

    Raises LookupError outside of ``Removals.recording``.
    """
    removals, database = _KEEPING.get()
    dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    everything: Select[Any] = select(text("*")).select_from(table)
    # All columns that there are: plugins add some that we do not know.
    names = list((await connection.execute(everything.where(false()))).keys())
    statement = everything.where(where)
    if dialect == "postgresql":
        # What a type shows as text it also reads.
        shown: list[Any] = [cast(column(name), Text).label(name) for name in names]
        statement = select(*shown).select_from(table).where(where)
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
    """Remove rows; they are in the file before."""
    await keep(connection, table, where)
    await connection.execute(delete(table).where(where))


def _literal(value: Any, dialect: str) -> str:
    """Write a value as SQL."""
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
        # A backslash means something or nothing, as sql_mode has it.
        return f"CONVERT(X'{whole.encode().hex()}' USING utf8mb4)"
    if dialect == "sqlite" and "\0" in whole:
        return f"CAST(X'{whole.encode().hex()}' AS TEXT)"
    doubled = whole.replace("'", "''")
    return f"'{doubled}'"


def _clock(value: timedelta) -> str:
    """MariaDB's TIME, which may be negative or longer than a day."""
    seconds = int(abs(value).total_seconds())
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
