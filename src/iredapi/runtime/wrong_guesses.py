"""Guesses that were wrong a moment ago: nobody keeps the hashing busy by repeating one.

The throttle counts the same guess once, so that a program with an old password locks nobody out.
Each is verified once in a while only.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 60.0
"""No longer: a verification may have failed for want of memory."""
_MOST: Final = 4096


class WrongGuesses:
    """What one process has verified lately, as keyed digests of account, network and password.

    The stored hash is part of it: a new password is looked at at once.
    """

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def note(self, *guess: str) -> None:
        """Remember that a guess was wrong."""
        digest = self._digest(guess)
        self._until[digest] = self._clock() + _SECONDS
        self._until.move_to_end(digest)
        if len(self._until) > _MOST:
            self._until.popitem(last=False)

    def has(self, *guess: str) -> bool:
        """Tell whether a guess was wrong a moment ago."""
        return self._until.get(self._digest(guess), 0.0) > self._clock()

    def _digest(self, guess: tuple[str, ...]) -> bytes:
        parts = "".join(f"{len(part)}:{part}" for part in guess)
        return hmac.digest(self._key, parts.encode("utf-8", "surrogatepass"), "sha256")
