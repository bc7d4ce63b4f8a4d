"""Dovecot's SCRAM hashes: rounds, salt, StoredKey, ServerKey (RFC 5802, section 3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

MAX_ROUNDS: Final = 1_000_000
_BASE64 = r"[+/0-9A-Za-z]+={0,2}"
_FORM: Final = re.compile(
    rf"(?P<rounds>[1-9][0-9]{{0,8}}),(?P<salt>{_BASE64}),(?P<stored>{_BASE64}),(?P<server>{_BASE64})"
)


def reader(algorithm: str) -> Callable[[bytes], Callable[[bytes], bool] | None]:
    """Return the reader of an algorithm's hashes. Both keys must match the password."""
    size = hashlib.new(algorithm).digest_size

    def read(payload: bytes) -> Callable[[bytes], bool] | None:
        match = _FORM.fullmatch(payload.decode("ascii"))
        if match is None or int(match["rounds"]) > MAX_ROUNDS:
            return None
        rounds = int(match["rounds"])
        salt, stored, server = (
            base64.b64decode(match[name], validate=True) for name in ("salt", "stored", "server")
        )
        if not salt or len(stored) != size or len(server) != size:
            return None

        def check(secret: bytes) -> bool:
            salted = hashlib.pbkdf2_hmac(algorithm, secret, salt, rounds)
            client = hmac.digest(salted, b"Client Key", algorithm)
            found = hashlib.new(algorithm, client).digest()
            wanted = hmac.digest(salted, b"Server Key", algorithm)
            return hmac.compare_digest(found, stored) & hmac.compare_digest(wanted, server)

        return check

    return read
