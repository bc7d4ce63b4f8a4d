"""What was read a moment ago and may be believed for a moment, in one process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

SECONDS: Final = 1.0
"""How long sessions, principals and the panel's settings are believed (decision 10)."""
_MOST: Final = 10_000
_CHOICES: Final = 100


class Remembered(Generic[Value]):
    """Values by key. What this process changes it forgets at once.

    Who reads a value takes ``now`` before, and hands it in with the value: nothing is remembered
    that was read before something was forgotten.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._values: dict[str, tuple[float, Value]] = {}
        self._forgotten = 0
        self._choices: deque[tuple[int, Callable[[str, Value], bool]]] = deque(maxlen=_CHOICES)
        """What was forgotten since everything was, the last time."""

    @property
    def now(self) -> int:
        """How often something was forgotten so far."""
        return self._forgotten

    def get(self, key: str) -> Value | None:
        """Return what is remembered, if anything."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[0] <= time.monotonic():
            del self._values[key]
            return None
        return found[1]

    def put(self, key: str, value: Value, now: int) -> None:
        """Remember a value that was read after ``now``."""
        if now != self._forgotten and self._was_forgotten(key, value, now):
            return
        if len(self._values) >= _MOST:
            self._values.clear()
        self._values[key] = (time.monotonic() + self._seconds, value)

    def forget(self, which: Callable[[str, Value], bool] | None = None) -> None:
        """Forget what is chosen, or everything."""
        self._forgotten += 1
        if which is None:
            self._values.clear()
            self._choices.clear()
            return
        self._choices.append((self._forgotten, which))
        for key in [key for key, (_, value) in self._values.items() if which(key, value)]:
            del self._values[key]

    def _was_forgotten(self, key: str, value: Value, now: int) -> bool:
        if not self._choices or self._choices[0][0] > now + 1:
            return True  # everything was, or it is not known any more what
        return any(number > now and which(key, value) for number, which in self._choices)
