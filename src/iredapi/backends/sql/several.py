"""Statements about several at once: each value has the number of whom it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, String, bindparam


def padded(count: int) -> int:
    """Return the size of a statement for so many: a power of two, so that there are few."""
    return 1 << (count - 1).bit_length()


def numbered(every: Sequence[Mapping[str, Any]], size: int = 0) -> dict[str, Any]:
    """Return the values of all, ``<name>_<number>`` each; the last one's fill the size."""
    filled = [*every, *[every[-1]] * (size - len(every))]
    return {f"{name}_{n}": value for n, one in enumerate(filled) for name, value in one.items()}


def texts(name: str, size: int) -> list[BindParameter[str]]:
    """Make the parameters of a numbered text."""
    return [bindparam(f"{name}_{n}", type_=String(255)) for n in range(size)]
