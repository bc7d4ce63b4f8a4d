"""Parameters of statements about several items: each name ends with the number of its item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, String, bindparam


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
