"""Index look-ups of addresses that are stored with capitals or with blanks around them.

``is_like`` compares every row. These statements select ranges in the order of the column's index
first, so that a million rows cost a few index look-ups:

* Where bytes are compared (SQLite; PostgreSQL with the collation ``C``), a spelling with a capital
  has the same beginning as the folded one, then a capital: one range for each letter.
* Other collations of PostgreSQL sort the spellings of a word next to each other: one range, from
  the folded one to the one in capitals.

Other rows in these ranges are filtered out. Equality on MariaDB ignores case anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from string import ascii_lowercase
from typing import Any, Final

import orjson
from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from iredapi.database.column_types import MYSQL
from iredapi.database.text_matching import folded

_BLANK: Final = "\t"
_AFTER_BLANKS: Final = "!"
_CAPITALS: Final = {
    letter: (letter.upper(), chr(ord(letter.upper()) + 1)) for letter in ascii_lowercase
}
"""The capital of a letter, and what follows it."""
_PARTS: Final = ("low", "high", "beyond", "wanted", "sorting")
_BYTES: Final = "bytes"
_WORDS: Final = "words"


def byte_ranges(address: str) -> Iterable[tuple[str, str, str]]:
    """Return the ranges, in byte order, that contain all other spellings of a folded address.

    Each is (start, end, lower bound): start is included, end and lower bound are excluded.
    """
    yield _BLANK, _AFTER_BLANKS, ""
    yield address + _BLANK, address + _AFTER_BLANKS, ""
    for index, letter in enumerate(address):
        if bounds := _CAPITALS.get(letter):
            start = address[:index]
            yield start + bounds[0], start + bounds[1], ""


def word_ranges(address: str) -> Iterable[tuple[str, str, str]]:
    """Return the ranges in the order of a linguistic collation, with at most one leading blank.

    Trailing blanks sort before digits.
    """
    for blank in ("", " ", _BLANK):
        # The folded spelling sorts first; many rows may have it, so it is excluded.
        yield blank + address, f"{blank}{address.upper()}0", "" if blank else address


def spelling_parameters(addresses: Iterable[str], dialect: str) -> Mapping[str, str]:
    """Return the parameters of the statements of this module for these addresses."""
    if dialect in MYSQL:
        return {}
    wanted = sorted(set(addresses))
    return _of_one(wanted[0], dialect) if len(wanted) == 1 else _parameters(wanted, dialect)


@lru_cache(maxsize=256)
def _of_one(address: str, dialect: str) -> Mapping[str, str]:
    return _parameters([address], dialect)


def _parameters(wanted: Sequence[str], dialect: str) -> Mapping[str, str]:
    if dialect == "sqlite":
        bounds = {low: high for one in wanted for low, high, _ in byte_ranges(one)}
        return {"bytes": orjson.dumps(bounds).decode(), "wanted": orjson.dumps(wanted).decode()}
    rows = [
        (*found, one, sorting)
        for sorting, ranges in ((_BYTES, byte_ranges), (_WORDS, word_ranges))
        for one in wanted
        for found in ranges(one)
    ]
    texts = map("\n".join, zip(*rows, strict=True))
    return {f"spelling_{part}": text for part, text in zip(_PARTS, texts, strict=True)}


def select_other_spellings(
    kind: str, columns: Iterable[ColumnElement[Any]], dialect: str
) -> list[Select[Any]]:
    """Select addresses that some columns store in another spelling, as ``select_related`` does.

    Owner and text are the folded address. On MariaDB nothing: equality finds them.
    """
    if dialect in MYSQL:
        return []
    if dialect == "sqlite":
        ranges = _ranges()
        return [_in_bytes(kind, column, ranges) for column in columns]
    # One scan of the ranges for all columns: a branch of UNION for each costs more.
    bounds = _bounds()
    found = (
        and_(
            bounds.c.sorting == _sorting(column),
            _first(
                column,
                column >= bounds.c.low,
                column > bounds.c.beyond,
                column < bounds.c.high,
                folded(column) == bounds.c.wanted,
            ).is_not(None),
        )
        for column in columns
    )
    return [_row(kind, bounds.c.wanted, bounds.c.wanted).where(or_(*found))]


def select_from_any(columns: Iterable[ColumnElement[Any]], dialect: str) -> CompoundSelect[Any]:
    """Return one UNION of ``select_other_spellings``; not for MariaDB."""
    return union_all(*select_other_spellings("taken", columns, dialect))


def values(column: ColumnElement[Any], dialect: str) -> Select[Any]:
    """Select the distinct other spellings of one name in a column; not for MariaDB."""
    if dialect == "sqlite":
        found = _in_bytes("value", column, _ranges()).subquery()
        return select(found.c.text).distinct()
    bounds = _bounds()
    start = _first(column, column >= bounds.c.low, column > bounds.c.beyond, column < bounds.c.high)
    # Loose index scan: one look-up for each distinct value, however many rows have it.
    each = (
        select(bounds.c.high, bounds.c.wanted, start.label("stored"))
        .where(bounds.c.sorting == _sorting(column))
        .cte("each", recursive=True)
    )
    following = _first(column, column > each.c.stored, column < each.c.high)
    each = each.union_all(
        select(each.c.high, each.c.wanted, following).where(each.c.stored.is_not(None))
    )
    return select(each.c.stored).where(folded(each.c.stored) == each.c.wanted).distinct()


def select_leading_to(
    kind: str, target: ColumnElement[Any], source: ColumnElement[Any], dialect: str
) -> Select[Any]:
    """Select sources whose target is another spelling of one name, as ``select_related`` does.

    On MariaDB the name is the parameter ``mail``: equality ignores case, but not leading blanks.
    """
    if dialect in MYSQL:
        mail = bindparam("mail", type_=String(255))
        forms = [literal_column("' '").concat(mail)]
        forms += [literal_column("'\\t'").concat(mail), mail.concat(literal_column("'\\t'"))]
        return _row(kind, target, source).where(target.in_(forms))
    found = values(target, dialect).subquery("spelled")
    (stored,) = found.c
    return _row(kind, target, source).select_from(found.join(target.table, target == stored))


def _ranges() -> CTE:
    """Return the ranges as a table expression for SQLite; it is read once for all columns."""
    each = func.json_each(_text("bytes")).table_valued("key", "value").alias("each")
    low, high = cast(each.c.key, Text).label("low"), cast(each.c.value, Text).label("high")
    return select(low, high).cte("ranges")


def _in_bytes(kind: str, column: ColumnElement[Any], ranges: CTE) -> Select[Any]:
    wanted = func.json_each(_text("wanted")).table_valued("value")
    return _row(kind, folded(column), column).where(
        column >= ranges.c.low,
        column < ranges.c.high,
        folded(column).in_(select(wanted.c.value)),
    )


def _bounds() -> Any:
    newline: ColumnElement[str] = literal_column("E'\\n'")
    arrays = (func.string_to_array(_text(f"spelling_{part}"), newline) for part in _PARTS)
    return func.unnest(*arrays).table_valued(*_PARTS, name="bounds").render_derived()


def _sorting(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return whether the database sorts this column in byte order or in a linguistic one."""
    sample = select(column).where(literal_column("false")).correlate(None).scalar_subquery()
    by_words = func.coalesce(sample, literal_column("'a'")) < literal_column("'B'")
    return case((by_words, literal_column(f"'{_WORDS}'")), else_=literal_column(f"'{_BYTES}'"))


def _first(column: ColumnElement[Any], *where: ColumnElement[bool]) -> ColumnElement[Any]:
    # ORDER BY and LIMIT make the planner use the index for each range.
    found = select(column).where(*where).order_by(column).limit(literal_column("1"))
    return found.correlate_except(column.table).scalar_subquery()


def _row(kind: str, wanted: ColumnElement[Any], stored: ColumnElement[Any]) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [
        literal_column(f"'{kind}'").label("kind"),
        cast(wanted, String(255)).label("owner"),
        cast(stored, String(255)).label("text"),
        literal_column("0").label("number"),
    ]
    return select(*columns)


def _text(name: str) -> ColumnElement[str]:
    return cast(bindparam(name, type_=Text), Text)
