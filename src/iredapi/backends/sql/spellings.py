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

from collections.abc import Iterable
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
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)

from iredapi.database.column_types import MYSQL
from iredapi.database.text_matching import folded

_BLANK: Final = "\t"
_AFTER_BLANKS: Final = "!"
_CAPITALS: Final = {
    letter: (letter.upper(), chr(ord(letter.upper()) + 1)) for letter in ascii_lowercase
}
"""The capital of a letter, and what follows it."""
_PARTS: Final = ("low", "high", "beyond", "wanted")


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


def spelling_parameters(addresses: Iterable[str], dialect: str) -> dict[str, str]:
    """Return the parameters of the statements of this module for these addresses."""
    if dialect in MYSQL:
        return {}
    wanted = sorted(set(addresses))
    if dialect == "sqlite":
        bounds = {low: high for one in wanted for low, high, _ in byte_ranges(one)}
        return {"bytes": orjson.dumps(bounds).decode(), "wanted": orjson.dumps(wanted).decode()}
    sent: dict[str, str] = {}
    for kind, ranges in (("bytes", byte_ranges), ("words", word_ranges)):
        every = [(*found, one) for one in wanted for found in ranges(one)]
        for part, texts in zip(_PARTS, zip(*every, strict=True), strict=True):
            sent[f"{kind}_{part}"] = "\n".join(texts)
    return sent


def select_other_spellings(
    kind: str, columns: Iterable[ColumnElement[Any]], dialect: str
) -> list[Select[Any]]:
    """Select other spellings that are stored in some columns, as ``select_related`` does.

    The owner is the folded address. On MariaDB nothing: equality finds them.
    """
    if dialect in MYSQL:
        return []
    if dialect == "sqlite":
        ranges = _ranges()
        return [_in_bytes(kind, column, ranges) for column in columns]
    return [_in_order(kind, column) for column in columns]


def select_from_any(columns: Iterable[ColumnElement[Any]], dialect: str) -> CompoundSelect[Any]:
    """Return one UNION of ``select_other_spellings``; not for MariaDB."""
    first, *more = select_other_spellings("taken", columns, dialect)
    return first.union_all(*more)


def values(column: ColumnElement[Any], dialect: str) -> Select[Any]:
    """Select the distinct other spellings of one name in a column; not for MariaDB."""
    if dialect == "sqlite":
        found = _in_bytes("value", column, _ranges()).subquery()
        return select(found.c.text).distinct()
    bounds = _bounds(column)

    def first(*where: ColumnElement[bool]) -> ColumnElement[Any]:
        found = select(column).where(*where).order_by(column).limit(literal_column("1"))
        return found.correlate_except(column.table).scalar_subquery()

    # Loose index scan: one look-up for each distinct value, however many rows have it.
    each = select(
        bounds.c.high,
        bounds.c.wanted,
        first(column >= bounds.c.low, column > bounds.c.beyond, column < bounds.c.high).label(
            "stored"
        ),
    ).cte("each", recursive=True)
    each = each.union_all(
        select(
            each.c.high, each.c.wanted, first(column > each.c.stored, column < each.c.high)
        ).where(each.c.stored.is_not(None))
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


def _bounds(column: ColumnElement[Any]) -> Any:
    # Asks the database for the collation of this column: linguistic or byte order.
    sample = select(column).where(literal_column("false")).correlate(None).scalar_subquery()
    by_words = func.coalesce(sample, literal_column("'a'")) < literal_column("'B'")
    return (
        func.unnest(
            *(
                func.string_to_array(
                    case((by_words, _text(f"words_{part}")), else_=_text(f"bytes_{part}")),
                    literal_column("E'\\n'"),
                )
                for part in _PARTS
            )
        )
        .table_valued(*_PARTS, name="bounds")
        .render_derived()
    )


def _in_order(kind: str, column: ColumnElement[Any]) -> Select[Any]:
    bounds = _bounds(column)
    # LIMIT makes the planner use the index for each range.
    found = (
        select(column.label("stored"))
        .where(
            column >= bounds.c.low,
            column > bounds.c.beyond,
            column < bounds.c.high,
            folded(column) == bounds.c.wanted,
        )
        .order_by(column)
        .limit(literal_column("1"))
        .lateral("found")
    )
    return _row(kind, bounds.c.wanted, found.c.stored).select_from(bounds.join(found, true()))


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
