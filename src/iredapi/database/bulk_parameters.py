"""Parameters of statements about several items.

Each name ends with the number of its item; or each parameter is an array (PostgreSQL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ARRAY, BindParameter, String, TableValuedAlias, bindparam, func
from sqlalchemy.types import TypeEngine

ANY_NUMBER: Final = 0
"""Instead of the number of items: the parameters are arrays."""


def label(name: str, number: int, size: int) -> str:
    """Return the name of a parameter; with a single item it has no number."""
    return f"{name}_{number}" if size > 1 else name


def padded(count: int) -> int:
    """Round up to a power of two, so that few different statements are compiled."""
    return 1 << (count - 1).bit_length()


def numbered_parameters(every: Sequence[Mapping[str, Any]], size: int = 0) -> Mapping[str, Any]:
    """Return the values of all items by name; the last item is repeated up to ``size``."""
    filled = [*every, *[every[-1]] * (size - len(every))]
    if len(filled) == 1:
        return filled[0]
    return {f"{name}_{n}": value for n, one in enumerate(filled) for name, value in one.items()}


def texts(name: str, size: int) -> list[BindParameter[str]]:
    """Return the parameters of a text of each item."""
    return [bindparam(label(name, n, size), type_=String(255)) for n in range(size)]


def array_parameters(every: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the values of all items by name, as arrays; all have the names of the first."""
    return {name: [one[name] for one in every] for name in every[0]}


def unbounded(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type for an array: a cast to ``VARCHAR(255)`` would cut longer values off."""
    return String() if type(kind) is String else kind


def rows_of_arrays(name: str, kinds: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """Return a table with a row for each item; its columns are the parameters (PostgreSQL)."""
    arrays = [bindparam(key, type_=ARRAY(unbounded(kind))) for key, kind in kinds.items()]
    return func.unnest(*arrays).table_valued(*kinds, name=name).render_derived()
