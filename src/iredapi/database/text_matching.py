"""Comparing what other tools have stored: addresses and names in any case, with blanks around.

``is_like`` matches the same rows on every storage and collation; MariaDB's own comparison would
also ignore accents. It cannot use an index, so callers search by key first where that is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import product
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, String, bindparam, literal, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from iredapi.database.column_types import MYSQL, ByteText
from iredapi.domain.addresses import fold

_MOST: Final = 64
"""Spellings of one name: letters outside ASCII keep their case in some collations."""


class _Folded(FunctionElement[str]):
    """A text without surrounding blanks, in lower case as far as the database knows it."""

    name = "folded"
    type = String()
    inherit_cache = True


class _Same(FunctionElement[str]):
    """A folded text that is compared byte by byte."""

    name = "same"
    type = String()
    inherit_cache = True


class _Ascii(FunctionElement[str]):
    """A text that is compared with an ASCII column, where it may find nothing."""

    name = "in_ascii"
    type = String()
    inherit_cache = True


class _Position(FunctionElement[int]):
    """Where a text first contains another one, beginning with 1; 0: nowhere.

    Upper and lower case are the same as far as the database knows them, nothing else is.
    """

    name = "position_in"
    type = Integer()
    inherit_cache = True


def _argument(element: FunctionElement[Any], compiler: SQLCompiler, kw: dict[str, Any]) -> str:
    return compiler.process(next(iter(element.clauses)), **kw)


def _holds_bytes(element: FunctionElement[Any]) -> bool:
    return isinstance(next(iter(element.clauses)).type, ByteText)


@compiles(_Folded, "postgresql")
def _folded_postgresql(element: _Folded, compiler: SQLCompiler, **kw: Any) -> str:
    text = _argument(element, compiler, kw)
    if _holds_bytes(element):
        text = f"encode({text}, 'escape')"
    return f"lower(btrim({text}, E' \\t\\r\\n'))"


@compiles(_Folded, "sqlite")
def _folded_sqlite(element: _Folded, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower(trim({_argument(element, compiler, kw)}, ' ' || char(9, 10, 13)))"


@compiles(_Folded, *MYSQL)
def _folded_mysql(element: _Folded, compiler: SQLCompiler, **kw: Any) -> str:
    # TRIM takes one text away, not any of some characters. Bytes have no case.
    text = f"CONVERT({_argument(element, compiler, kw)} USING utf8mb4)"
    for blank in ("\\t", "\\r", "\\n"):
        text = f"REPLACE({text}, '{blank}', ' ')"
    return f"LOWER(TRIM({text}))"


@compiles(_Ascii)
def _in_ascii(element: _Ascii, compiler: SQLCompiler, **kw: Any) -> str:
    return _argument(element, compiler, kw)


@compiles(_Ascii, *MYSQL)
def _in_ascii_mysql(element: _Ascii, compiler: SQLCompiler, **kw: Any) -> str:
    # Other letters become question marks; comparing them fails.
    return f"CONVERT({_argument(element, compiler, kw)} USING ascii)"


@compiles(_Same)
def _same(element: _Same, compiler: SQLCompiler, **kw: Any) -> str:
    return _argument(element, compiler, kw)


@compiles(_Same, *MYSQL)
def _same_mysql(element: _Same, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({_argument(element, compiler, kw)} AS BINARY)"


def _column_and_text(
    element: _Position, compiler: SQLCompiler, kw: dict[str, Any]
) -> tuple[str, str]:
    column, text = element.clauses
    return compiler.process(column, **kw), compiler.process(text, **kw)


@compiles(_Position, "postgresql")
def _position_postgresql(element: _Position, compiler: SQLCompiler, **kw: Any) -> str:
    column, text = _column_and_text(element, compiler, kw)
    return f"strpos(lower({column}), {text})"


@compiles(_Position, "sqlite")
def _position_sqlite(element: _Position, compiler: SQLCompiler, **kw: Any) -> str:
    column, text = _column_and_text(element, compiler, kw)
    return f"instr(lower({column}), {text})"


@compiles(_Position, *MYSQL)
def _position_mysql(element: _Position, compiler: SQLCompiler, **kw: Any) -> str:
    column, text = _column_and_text(element, compiler, kw)
    # As bytes: its collations ignore accents, and some compare other letters as equal, too.
    return (
        f"LOCATE(CAST(CONVERT({text} USING utf8mb4) AS BINARY),"
        f" CAST(LOWER(CONVERT({column} USING utf8mb4)) AS BINARY))"
    )


def contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Choose rows whose value contains a text, in upper or lower case.

    No character of the text has a special meaning. No index is used.
    """
    return or_(
        *(_Position(column, literal(form, String(255))) > 0 for form in sorted(_forms(fold(text))))
    )


def folded(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Make SQL for the form in which addresses are compared; see ``is_like`` for its limits."""
    return _Folded(column)


def in_ascii(text: ColumnElement[Any] | str) -> ColumnElement[str]:
    """Make SQL for a value that is compared with a column of ``ascii_column``."""
    return _Ascii(literal(text, String(255)) if isinstance(text, str) else text)


def is_like(column: ColumnElement[Any], names: Iterable[str]) -> ColumnElement[bool]:
    """Choose rows whose value is one of some names, however either is spelled."""
    return _Same(_Folded(column)).in_([_Same(form) for form in spellings_of(names)])


def spellings_of(names: Iterable[str]) -> list[str]:
    """Return the values of the parameters of ``is_one_of``."""
    return sorted({form for name in names for form in _forms(fold(name))})


def is_one_of(column: ColumnElement[Any], count: int) -> ColumnElement[bool]:
    """Choose rows as ``is_like`` does, in a statement that is compiled once.

    The parameters are ``name_0`` to ``name_<count - 1>``.
    """
    names = (bindparam(f"name_{number}", type_=String(255)) for number in range(count))
    return _Same(_Folded(column)).in_([_Same(name) for name in names])


def as_bytes(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Make SQL for a text that is compared byte by byte, also on MariaDB and MySQL."""
    return _Same(column)


def in_bytes(column: ColumnElement[Any], names: Iterable[str]) -> ColumnElement[bool]:
    """Choose rows whose value is one of some names, byte by byte."""
    return _Same(column).in_([_Same(literal(name, String(255))) for name in sorted(names)])


def is_odd(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Choose rows whose value is not spelled as it is compared."""
    return _Same(_Folded(column)) != _Same(column)


def _forms(name: str) -> Collection[str]:
    """Return what a folded name may become in a database that folds ASCII only."""
    if name.isascii():
        return (name,)
    kinds = [{c} if c.isascii() else {c, c.upper(), c.title()} for c in name]
    size = 1
    for kind in kinds:
        size *= len(kind)
    if size > _MOST:
        return {name, "".join(c if c.isascii() else c.upper() for c in name)}
    return {"".join(chars) for chars in product(*kinds)}
