"""The headers of a request."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

_KEY: Final = "iredapi.headers"


def names(scope: Any) -> Container[bytes]:
    """Return the names of the headers that were sent, in small letters; made once per request."""
    found: Container[bytes] | None = scope.get(_KEY)
    if found is None:
        found = scope[_KEY] = dict(scope["headers"])
    return found


def values(scope: Any, name: bytes) -> list[bytes]:
    """Return the values of all headers with a name (small letters)."""
    # Most requests have few of the headers that they might have.
    if name not in names(scope):
        return []
    return [value for key, value in scope["headers"] if key == name]
