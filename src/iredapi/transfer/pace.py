"""How much of an import is done at a time: less while other requests are being answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_LOOKED_UP: Final = (512, 64)
"""Lines that are read from the storage together; while others wait."""
_SHARED: Final = (256, 32)
"""New users that share a transaction; while others wait."""
_REST: Final = (0.0, 0.001)
"""Seconds between two steps; while others wait."""
_LASTING: Final = 0.5
"""Seconds for which a service counts as busy after a request."""


def _never() -> bool:
    return False


@dataclass(slots=True)
class Pace:
    """Sizes of steps. ``others_wait`` tells whether other requests are being answered."""

    others_wait: Callable[[], bool] = _never
    _seen: float = -_LASTING

    @property
    def busy(self) -> bool:
        """Whether other requests were answered just now: more of them will come."""
        now = time.monotonic()
        if self.others_wait():
            self._seen = now
        return now - self._seen < _LASTING

    @property
    def looked_up(self) -> int:
        """How many lines are read from the storage together."""
        return _LOOKED_UP[self.busy]

    @property
    def shared(self) -> int:
        """How many new users share a transaction."""
        return _SHARED[self.busy]

    async def rest(self) -> None:
        """Let other requests have their turn."""
        await asyncio.sleep(_REST[self.busy])
