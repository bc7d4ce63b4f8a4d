"""MariaDB and MySQL: addresses in other spellings, with collations that tell these apart.

With iRedMail's collation (``utf8mb4_general_ci``) equality finds capitals and trailing blanks.
Equality of ``_bin`` and ``_cs`` does not find capitals, that of ``nopad`` and MySQL's ``0900`` does
not find trailing blanks. There ranges of the column's index are searched, as in ``spellings``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from iredapi.backends.sql.spellings import BLANKS, byte_ranges, word_ranges
from iredapi.database.live_schema import Schema
from iredapi.database.text_matching import as_bytes, in_bytes, is_like


def select_spellings(
    column: ColumnElement[Any], names: Collection[str], schema: Schema
) -> Select[Any] | None:
    """Select the stored spellings of some folded names; None: equality finds all of them."""
    collation = schema.exact.get((column.table.name, column.name))
    if collation is None or not names:
        return None
    return (
        select(column).distinct().where(_within(column, names, collation), is_like(column, names))
    )


def select_other_bytes(
    column: ColumnElement[Any], names: Collection[str], own: Collection[str], schema: Schema
) -> Select[Any]:
    """Select the stored spellings of some folded ASCII names that differ from ``own`` in a byte."""
    collation = schema.exact.get((column.table.name, column.name))
    within = _padded(column, names) if collation is None else _within(column, names, collation)
    # Nearly all rows have the usual spelling: those are left out before anything is sorted.
    each = (
        select(func.min(column).label("stored"))
        .where(within, ~in_bytes(column, own))
        .group_by(as_bytes(column))
        .subquery()
    )
    return select(each.c.stored).where(is_like(each.c.stored, names))


def _padded(column: ColumnElement[Any], names: Collection[str]) -> ColumnElement[bool]:
    # Equality ignores case and pads with blanks, after which tabs and line ends are sorted before
    # the name itself.
    low, high = BLANKS
    return or_(
        and_(column >= low, column < high),
        *(and_(column >= name + low, column < name + high) for name in names),
    )


def _within(
    column: ColumnElement[Any], names: Collection[str], collation: str
) -> ColumnElement[bool]:
    """Choose the ranges of an index that contain the other spellings of some folded names."""
    if collation.endswith("_bin"):
        ranges = {found for name in names for found in byte_ranges(name)}
    else:
        ranges = {(low, high) for name in names for low, high, _ in word_ranges(name)}
    return or_(*(and_(column >= low, column < high) for low, high in sorted(ranges)))
