"""How many requests of one kind somebody may have under way; more are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from iredapi.errors import Overloaded


class Turns:
    """Requests under way in this process, by the name of whoever sends them."""

    def __init__(self, most: int, refusal: str) -> None:
        self._most = most
        self._refusal = refusal
        self._busy: Counter[str] = Counter()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Take one of the places of ``name``. Raises Overloaded."""
        if self._busy[name] >= self._most:
            raise Overloaded(self._refusal)
        self._busy[name] += 1
        try:
            yield
        finally:
            self._busy[name] -= 1
            if not self._busy[name]:
                del self._busy[name]
