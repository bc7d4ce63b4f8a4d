"""Statements about several at once: each value has the number of whom it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, String, bindparam


def label(name: str, number: int, size: int) -> str:
    """Return what a value is called; a single one has no number."""
    return f"{name}_{number}" if size > 1 else name


def padded(count: int) -> int:
    """Return the size of a statement for so many: a power of two, so that there are few."""
    return 1 << (count - 1).bit_length()


def numbered_parameters(every: Sequence[Mapping[str, Any]], size: int = 0) -> Mapping[str, Any]:
    """Return the values of all by their labels; the last one's fill the size."""
    filled = [*every, *[every[-1]] * (size - len(every))]
    if len(filled) == 1:
        return filled[0]
    return {f"{name}_{n}": value for n, one in enumerate(filled) for name, value in one.items()}


def texts(name: str, size: int) -> list[BindParameter[str]]:
    """Make the parameters of a text of each."""
    return [bindparam(label(name, n, size), type_=String(255)) for n in range(size)]
