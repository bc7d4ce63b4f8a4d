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
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from iredapi.database.column_types import MYSQL
from iredapi.database.live_schema import Schema
from iredapi.database.text_matching import folded

_BLANK: Final = "\t"
_AFTER_BLANKS: Final = "!"
BLANKS: Final = (_BLANK, _AFTER_BLANKS)
"""The range of blanks: the first is included, the second is not."""
_CAPITALS: Final = {
    letter: (letter.upper(), chr(ord(letter.upper()) + 1)) for letter in ascii_lowercase
}
"""The capital of a letter, and what follows it."""
_BYTES: Final = "bytes"
_WORDS: Final = "words"
_PARTS: Final = {_BYTES: ("low", "high", "wanted"), _WORDS: ("low", "high", "wanted", "beyond")}
_NAMES: Final = {order: [f"{order}_{part}" for part in _PARTS[order]] for order in _PARTS}
"""The parameters of the parts."""


def byte_ranges(address: str) -> list[tuple[str, str]]:
    """Return the ranges, in byte order, that contain all other spellings of a folded address.

    Each is (start, end): the start is included, the end is not.
    """
    local, at, domain = address.rpartition("@")
    ranges = [(_BLANK, _AFTER_BLANKS), (address + _BLANK, address + _AFTER_BLANKS)]
    ranges += _with_capitals(local)
    begin = local + at
    return ranges + [(begin + low, begin + high) for low, high in _in_domain(domain)]


def _with_capitals(text: str) -> list[tuple[str, str]]:
    return [
        (text[:index] + bounds[0], text[:index] + bounds[1])
        for index, letter in enumerate(text)
        if (bounds := _CAPITALS.get(letter))
    ]


@lru_cache(maxsize=1024)
def _in_domain(domain: str) -> list[tuple[str, str]]:
    name, dot, last = domain.rpartition(".")
    if not dot:
        return _with_capitals(domain)
    # One range for all letters of the last label: few addresses differ in nothing else.
    return [*_with_capitals(name), (f"{name}.{last.upper()}", domain)]


@lru_cache(maxsize=1024)
def _lines_in_domain(domain: str) -> tuple[str, str, int]:
    found = _in_domain(domain)
    return "\n".join(low for low, _ in found), "\n".join(high for _, high in found), len(found)


def word_ranges(address: str) -> list[tuple[str, str, str]]:
    """Return the ranges in the order of a linguistic collation.

    Each is (start, end, lower bound): start is included, end and lower bound are excluded. Trailing
    blanks sort before digits. Some collations ignore leading blanks.
    """
    return [
        (_BLANK, _AFTER_BLANKS, ""),
        # The folded spelling sorts first; many rows may have it, so it is excluded.
        *(
            (blank + address, f"{blank}{address.upper()}0", "" if blank else address)
            for blank in ("", " ", _BLANK)
        ),
    ]


def spelling_parameters(
    addresses: Iterable[str], dialect: str, schema: Schema, *, inclusive: bool = False
) -> Mapping[str, str]:
    """Return the parameters of the statements of this module for these addresses.

    ``inclusive``, on PostgreSQL: the ranges contain the addresses as they are, too.
    """
    if dialect in MYSQL:
        return {}
    wanted = sorted(set(addresses))
    if dialect == "sqlite":
        bounds = {low: high for one in wanted for low, high in byte_ranges(one)}
        return {"bytes": orjson.dumps(bounds).decode(), "wanted": orjson.dumps(wanted).decode()}
    found: dict[str, str] = {}
    if schema.sorts_bytes:
        end = "" if inclusive else _BLANK
        found = _texts(_BYTES, [byte_range_lines(one, end) for one in wanted])
    if schema.by_words:
        ranges = [
            (low, high, one, "" if inclusive else beyond)
            for one in wanted
            for low, high, beyond in word_ranges(one)
        ]
        found |= _texts(_WORDS, ranges)
    return found


def byte_range_lines(address: str, end: str = _BLANK) -> tuple[str, str, str]:
    """Return the starts and ends of ``byte_ranges``, and the address for each, as lines.

    Each request needs them: the lines of the domain are made once, and moved behind the local part.
    ``end`` is what follows the address where the range of blanks behind it starts.
    """
    local, at, domain = address.rpartition("@")
    begin = local + at
    lows, highs = [_BLANK, address + end], [_AFTER_BLANKS, address + _AFTER_BLANKS]
    for index, letter in enumerate(local):
        bounds = _CAPITALS.get(letter)
        if bounds:
            before = local[:index]
            lows.append(before + bounds[0])
            highs.append(before + bounds[1])
    low_lines, high_lines, count = _lines_in_domain(domain)
    # One less: there is no line end behind the last one.
    others = len(lows) + count - 1
    if count:
        following = "\n" + begin
        lows.append(begin + low_lines.replace("\n", following))
        highs.append(begin + high_lines.replace("\n", following))
    return "\n".join(lows), "\n".join(highs), f"{address}\n" * others + address


def _texts(order: str, rows: Sequence[tuple[str, ...]]) -> dict[str, str]:
    texts = rows[0] if len(rows) == 1 else map("\n".join, zip(*rows, strict=True))
    return dict(zip(_NAMES[order], texts, strict=True))


def select_other_spellings(
    kind: str, columns: Iterable[ColumnElement[Any]], dialect: str, schema: Schema
) -> list[Select[Any]]:
    """Select addresses that some columns store in another spelling, as ``select_related`` does.

    Owner and text are the folded address. On MariaDB nothing: equality finds them.
    """
    if dialect in MYSQL:
        return []
    if dialect == "sqlite":
        ranges = _ranges()
        return [_in_bytes(kind, column, ranges) for column in columns]
    by_order: dict[str, list[ColumnElement[Any]]] = {}
    for column in columns:
        by_order.setdefault(_order(column, schema), []).append(column)
    found: list[Select[Any]] = []
    for order, some in by_order.items():
        # One scan of the ranges for all columns: a branch of UNION for each costs more.
        bounds = _bounds(order)
        stored = or_(*(_exists(column, bounds) for column in some))
        found.append(_row(kind, bounds.c.wanted, bounds.c.wanted).where(stored))
    return found


def select_from_any(
    columns: Iterable[ColumnElement[Any]], dialect: str, schema: Schema
) -> CompoundSelect[Any]:
    """Return one UNION of ``select_other_spellings``; not for MariaDB."""
    return union_all(*select_other_spellings("taken", columns, dialect, schema))


def values(column: ColumnElement[Any], dialect: str, schema: Schema) -> Select[Any]:
    """Select the distinct other spellings of one name in a column; not for MariaDB."""
    if dialect == "sqlite":
        found = _in_bytes("value", column, _ranges()).subquery()
        return select(found.c.text).distinct()
    bounds = _bounds(_order(column, schema))
    start = _first(column, *_within(column, bounds))
    # Loose index scan: one look-up for each distinct value, however many rows have it.
    each = select(bounds.c.high, bounds.c.wanted, start.label("stored")).cte("each", recursive=True)
    following = _first(column, column > each.c.stored, column < each.c.high)
    each = each.union_all(
        select(each.c.high, each.c.wanted, following).where(each.c.stored.is_not(None))
    )
    return select(each.c.stored).where(folded(each.c.stored) == each.c.wanted).distinct()


def select_leading_to(
    kind: str,
    target: ColumnElement[Any],
    source: ColumnElement[Any],
    dialect: str,
    schema: Schema,
) -> Select[Any]:
    """Select sources whose target is another spelling of one name, as ``select_related`` does.

    On MariaDB the name is the parameter ``mail``: equality ignores case, but not leading blanks.
    """
    if dialect in MYSQL:
        return _row(kind, target, source).where(target.in_(forms_with_blanks()))
    found = values(target, dialect, schema).subquery("spelled")
    (stored,) = found.c
    return _row(kind, target, source).select_from(found.join(target.table, target == stored))


def forms_with_blanks() -> list[ColumnElement[str]]:
    """Return, on MariaDB, the spellings of the parameter ``mail`` that equality does not find."""
    mail = bindparam("mail", type_=String(255))
    blank: ColumnElement[str] = literal_column("' '")
    tab: ColumnElement[str] = literal_column("'\\t'")
    return [blank.concat(mail), tab.concat(mail), mail.concat(tab)]


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


def _bounds(order: str) -> Any:
    newline: ColumnElement[str] = literal_column("E'\\n'")
    parts = _PARTS[order]
    arrays = (func.string_to_array(_text(f"{order}_{part}"), newline) for part in parts)
    return func.unnest(*arrays).table_valued(*parts, name="bounds").render_derived()


def _order(column: ColumnElement[Any], schema: Schema) -> str:
    """Return in which order the database sorts a column."""
    return _WORDS if (column.table.name, column.name) in schema.by_words else _BYTES


def _within(column: ColumnElement[Any], bounds: Any) -> list[ColumnElement[bool]]:
    found = [column >= bounds.c.low, column < bounds.c.high]
    if "beyond" in bounds.c:
        found.append(column > bounds.c.beyond)
    return found


def _exists(column: ColumnElement[Any], bounds: Any) -> ColumnElement[bool]:
    where = [*_within(column, bounds), folded(column) == bounds.c.wanted]
    # OFFSET keeps the planner from making a join of it, which may read the whole table.
    stored: Select[Any] = select(literal_column("1")).where(*where).offset(literal_column("0"))
    return exists(stored.select_from(column.table).correlate_except(column.table))


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
