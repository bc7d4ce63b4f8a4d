"""Conversion of stored dates and times; a value that Python cannot represent becomes None.

MariaDB stores ``0000-00-00`` (iRedMail's default before 0.9.6) and ``2020-00-00``, PostgreSQL
``infinity`` and years from -4713 to 294276, SQLite any text or number. Python's dates begin with
year 1 and end with year 9999. Each driver has its own hook for conversions (that of aiomysql is
``mysql_results.DECODERS``); after that a value is a ``datetime``, a ``date`` or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Date, DateTime, Dialect, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean, TypeEngine, UserDefinedType

_CACHED: Final = 4096
"""Number of converted values that are kept: most rows share their dates with others."""

__all__ = ["DATE", "DATETIME", "is_unknown", "prepare_asyncpg"]


# --- PostgreSQL -----------------------------------------------------------------------------------

_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 (the tables hold no zone)
_FIRST_DAY: Final = date(2000, 1, 1)


@lru_cache(maxsize=_CACHED)
def _read_microseconds(value: tuple[int]) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=value[0])
    except OverflowError:
        return None


@lru_cache(maxsize=_CACHED)
def _read_days(value: tuple[int]) -> date | None:
    try:
        return _FIRST_DAY + timedelta(value[0])
    except OverflowError:
        return None


@lru_cache(maxsize=_CACHED)
def _microseconds(value: datetime) -> tuple[int]:
    return ((value.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1),)


def _days(value: date) -> tuple[int]:
    return ((value - _FIRST_DAY).days,)


async def _set_codecs(connection: Any) -> None:
    for name, encode, decode in (
        ("timestamp", _microseconds, _read_microseconds),
        ("date", _days, _read_days),
    ):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=decode, format="tuple"
        )


def prepare_asyncpg(engine: AsyncEngine) -> None:
    """Make connections of an engine return None for dates that Python cannot represent."""

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.run_async(_set_codecs)


# --- SQLite ---------------------------------------------------------------------------------------

_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)"
    r"(?:[ T](\d\d?):(\d\d?)(?::(\d\d?)(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)


_USUAL: Final = {10: "--", 19: "-- ::"}
"""Characters of ``YYYY-MM-DD`` and ``YYYY-MM-DD HH:MM:SS``, and what is between the numbers."""


@lru_cache(maxsize=_CACHED)
def read_text(value: object) -> datetime | None:
    """Parse a stored date or time, without fraction and zone; None if it is not valid."""
    # The usual form is parsed in C. (ISO 8601 has forms that are no date here.)
    if isinstance(value, str) and value[4:17:3] == _USUAL.get(len(value)):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return _read_any_text(value)
    return _read_any_text(value)


def _read_any_text(value: object) -> datetime | None:
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None


# Its constructor has no annotations.
_Datetime: Any = sqlite.DATETIME


class _SqliteDatetime(_Datetime):  # type: ignore[misc]
    """``YYYY-MM-DD HH:MM:SS``, without a fraction: other programs read the file."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(
            storage_format=("%(year)04d-%(month)02d-%(day)02d %(hour)02d:%(minute)02d:%(second)02d")
        )

    def result_processor(self, _dialect: Dialect, _coltype: Any) -> Callable[[Any], Any]:
        """Return what converts a value that was read."""
        return read_text


class _SqliteDate(UserDefinedType[date]):
    """``YYYY-MM-DD``. (SQLAlchemy's own type becomes another one in the dialect.)"""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Return the type's name in CREATE TABLE."""
        return "DATE"

    def bind_processor(self, _dialect: Dialect) -> Callable[[Any], Any]:
        """Return what converts a value that is bound."""
        return lambda value: value.isoformat() if isinstance(value, date) else value

    def result_processor(self, _dialect: Dialect, _coltype: Any) -> Callable[[Any], Any]:
        """Return what converts a value that was read."""

        def read(value: object) -> date | None:
            found = read_text(value)
            return None if found is None else found.date()

        return read


# --- types and conditions -------------------------------------------------------------------------

DATETIME: Final[TypeEngine[datetime]] = DateTime().with_variant(_SqliteDatetime(), "sqlite")
"""Date and time without a zone. PostgreSQL keeps microseconds: bind values without them."""

DATE: Final[TypeEngine[date]] = Date().with_variant(_SqliteDate(), "sqlite")
"""A day."""


class is_unknown(FunctionElement[bool]):  # noqa: N801 (used as a function)
    """SQL: whether a date column has a value that is not a valid date."""

    name = "is_unknown"
    type = Boolean()
    inherit_cache = True


@compiles(is_unknown, "postgresql")
def _unknown_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    x = compiler.process(element.clauses, **kw)
    return f"(NOT isfinite({x}) OR {x} < '0001-01-01' OR {x} >= '10000-01-01')"


@compiles(is_unknown, "mysql", "mariadb")
def _unknown_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    x = compiler.process(element.clauses, **kw)
    # LAST_DAY of 2020-02-31 is NULL, of 2020-02-00 it is not.
    return f"({x} IS NOT NULL AND (DAYOFMONTH({x}) = 0 OR LAST_DAY({x}) IS NULL))"


@compiles(is_unknown, "sqlite")
def _unknown_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    x = compiler.process(element.clauses, **kw)
    # SQLite reads 2020-02-31 as 2 March, and any number as a day.
    day = f"substr({x}, 1, 10)"
    known = f"{day} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' AND {day} >= '0001'"
    known += f" AND datetime({x}) IS NOT NULL AND date({day}, '+0 days') = {day}"
    return f"({x} IS NOT NULL AND NOT coalesce({known}, 0))"
