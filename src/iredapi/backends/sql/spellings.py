"""Addresses that are stored in other letters, or with blanks around them, found by an index.

``is_like`` compares every row. Here ranges in the column's own order choose rows first, so that a
million rows cost a few index look-ups:

* Where bytes are compared (SQLite; PostgreSQL with the collation ``C``), a spelling with a capital
  begins as the plain one does and goes on with a capital: one range for each letter.
* Other collations of PostgreSQL sort the spellings of a word next to each other: one range, from
  the plain one to the one in capitals.

What else is in these ranges is compared and left out. Equality on MariaDB ignores case anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)

from iredapi.backends.sql.account_repository import side
from iredapi.database.dialect import MYSQL
from iredapi.database.text_matching import folded

_BLANK: Final = "\t"
_AFTER_BLANKS: Final = "!"
_PARTS: Final = ("low", "high", "wanted")


def byte_ranges(address: str) -> Iterable[tuple[str, str]]:
    """Return the ranges of bytes that hold all other spellings of a folded address."""
    yield _BLANK, _AFTER_BLANKS
    yield address + _BLANK, address + _AFTER_BLANKS
    for place, letter in enumerate(address):
        capital = letter.upper()
        if capital != letter and letter.isascii():
            start = address[:place]
            yield start + capital, start + chr(ord(capital) + 1)


def word_ranges(address: str) -> Iterable[tuple[str, str]]:
    """Return the same for a collation that sorts words, not bytes: up to one blank in front.

    Blanks behind sort before digits.
    """
    for blank in ("", " ", _BLANK):
        yield blank + address, f"{blank}{address.upper()}0"


def spelled(addresses: Iterable[str], dialect: str) -> dict[str, str]:
    """Return the parameters of ``others``."""
    if dialect in MYSQL:
        return {}
    kinds = {"bytes": byte_ranges}
    if dialect != "sqlite":
        kinds["words"] = word_ranges
    found: dict[str, str] = {}
    for kind, ranges in kinds.items():
        every = [(low, high, one) for one in sorted(set(addresses)) for low, high in ranges(one)]
        for part, texts in zip(_PARTS, zip(*every, strict=True), strict=True):
            found[f"{kind}_{part}"] = json.dumps(texts) if dialect == "sqlite" else "\n".join(texts)
    return found


def others(kind: str, columns: Iterable[ColumnElement[Any]], dialect: str) -> list[Select[Any]]:
    """Select what is stored in another spelling in some columns, as a kind of side value.

    Its owner is the address that was asked for. Nothing where equality finds them.
    """
    if dialect in MYSQL:
        return []
    select_ = _in_bytes if dialect == "sqlite" else _in_order
    return [select_(kind, column) for column in columns]


def of_any(columns: Iterable[ColumnElement[Any]], dialect: str) -> CompoundSelect[Any]:
    """Select the same from some columns; not on MariaDB."""
    first, *more = others("taken", columns, dialect)
    return first.union_all(*more)


def _in_bytes(kind: str, column: ColumnElement[Any]) -> Select[Any]:
    low, high, wanted = (
        func.json_each(_text(f"bytes_{part}")).table_valued("key", "value").alias(part)
        for part in _PARTS
    )
    return side(
        kind, wanted.c.value, column,
        low.c.key == high.c.key, low.c.key == wanted.c.key,
        column >= low.c.value, column < high.c.value, folded(column) == wanted.c.value,
    )  # fmt: skip


def _in_order(kind: str, column: ColumnElement[Any]) -> Select[Any]:
    # As the database sorts this very column.
    sample = select(column).where(literal_column("false")).correlate(None).scalar_subquery()
    by_words = func.coalesce(sample, literal_column("'a'")) < literal_column("'B'")
    bounds = (
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
    # The limit makes the planner use the index for each range.
    found = (
        select(column.label("stored"))
        .where(
            column >= bounds.c.low,
            column < bounds.c.high,
            folded(column) == bounds.c.wanted,
        )
        .order_by(column)
        .limit(literal_column("1"))
        .lateral("found")
    )
    return side(kind, bounds.c.wanted, found.c.stored).select_from(bounds.join(found, true()))


def _text(name: str) -> ColumnElement[str]:
    return cast(bindparam(name, type_=Text), Text)
