"""MariaDB and MySQL: addresses in other spellings, with collations that tell these apart.

With iRedMail's collation (``utf8mb4_general_ci``) equality finds capitals and trailing blanks.
Equality of ``_bin`` and ``_cs`` does not find capitals, that of ``nopad`` and MySQL's ``0900`` does
not find trailing blanks. There ranges of the column's index are searched, as in ``spellings``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from iredapi.backends.sql.spellings import byte_ranges, word_ranges
from iredapi.database.live_schema import Schema
from iredapi.database.text_matching import is_like


def select_spellings(
    column: ColumnElement[Any], names: Collection[str], schema: Schema
) -> Select[Any] | None:
    """Select the stored spellings of some folded names; None: equality finds all of them."""
    collation = schema.exact.get((column.table.name, column.name))
    if collation is None or not names:
        return None
    if collation.endswith("_bin"):
        ranges = {found for name in names for found in byte_ranges(name)}
    else:
        ranges = {(low, high) for name in names for low, high, _ in word_ranges(name)}
    within = [and_(column >= low, column < high) for low, high in sorted(ranges)]
    return select(column).distinct().where(or_(*within), is_like(column, names))
