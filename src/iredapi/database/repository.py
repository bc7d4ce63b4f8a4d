"""What all repositories share: values in pieces, the time as it is stored, rows as answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

_NULLABLE: Final = frozenset({"allow_nets"})
CHUNK: Final = 500
"""Most values in one IN list."""


def now() -> datetime:
    """Return the time as iRedAdmin stores it: UTC, no fraction, no zone."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as answers show it: times as text without fractions, NULL text as empty."""
    answer = dict(row)
    for key, value in row.items():
        kind = type(value)
        if kind is str or kind is int:
            continue
        if isinstance(value, datetime):
            answer[key] = value.isoformat(" ", "seconds")
        elif isinstance(value, date):
            answer[key] = value.isoformat()
        elif value is None and key not in _NULLABLE:
            answer[key] = ""
    return answer


def chunks(values: Iterable[str]) -> Iterable[list[str]]:
    """Cut values into lists that fit into an IN."""
    every = sorted(values)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]
