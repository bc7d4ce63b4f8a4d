"""Keyed digests of requests, so that what was sent is not stored."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from iredapi.state.signing_keys import SigningKeys

_NAME: Final = "idempotency"


class RequestDigests:
    """Makes digests with a key that all replicas have and that outlives restarts.

    ``secret`` is a further part of the key that is not in the state database; None: there is none.
    """

    def __init__(self, signing_keys: SigningKeys, secret: bytes | None) -> None:
        self._signing_keys = signing_keys
        self._secret = secret
        self._key = b""

    async def load(self) -> None:
        """Read the key. Raises StateUnavailable."""
        if not self._key:
            stored = await self._signing_keys.get(_NAME)
            self._key = hashlib.blake2b(self._secret or b"", key=stored).digest()

    def digest(self, text: bytes) -> str:
        """Return the digest of some bytes (64 hexadecimal characters); call ``load`` before."""
        return hashlib.blake2b(text, digest_size=32, key=self._key).hexdigest()

    async def of_request(self, text: bytes, *, has_password: bool) -> str:
        """Return the digest of a request.

        Without a secret, who reads the state database could try passwords: this makes it slow.
        """
        await self.load()
        if not has_password or self._secret is not None:
            return self.digest(text)
        stretched = await asyncio.to_thread(
            hashlib.scrypt, text, salt=self._key, n=1 << 14, r=8, p=1, dklen=32
        )
        return stretched.hex()
