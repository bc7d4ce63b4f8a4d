"""A cache of wrong passwords, so that repeating one does not cost a verification each time.

The login throttle counts the same wrong password once, so that a program with an old password does
not lock out its user. Without this cache it could keep the password hasher busy.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 60.0
"""TTL. It is short because a verification may also fail for lack of memory."""
_MAX_ENTRIES: Final = 4096


class WrongGuesses:
    """Wrong passwords of one process, as keyed digests of account, network, password and hash.

    The stored hash is part of the digest, so that entries end when the password is changed.
    """

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = key
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def note(self, *guess: str) -> None:
        """Add a wrong password."""
        digest = self._digest(guess)
        self._until[digest] = self._clock() + _SECONDS
        self._until.move_to_end(digest)
        if len(self._until) > _MAX_ENTRIES:
            self._until.popitem(last=False)

    def has(self, *guess: str) -> bool:
        """Return whether a password was added in the last seconds."""
        return self._until.get(self._digest(guess), 0.0) > self._clock()

    def _digest(self, guess: tuple[str, ...]) -> bytes:
        parts = "".join(f"{len(part)}:{part}" for part in guess)
        return hmac.digest(self._key, parts.encode("utf-8", "surrogatepass"), "sha256")
