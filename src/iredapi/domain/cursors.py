"""Cursors: signed texts that say where the next page of a list begins (docs/adr/0015)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, Final

from iredapi.domain.listing import Key
from iredapi.errors import InvalidParameters, problem

KEY_BYTES: Final = 32
MAX_LENGTH: Final = 8192
"""Maximum length of a cursor in characters; a name and a value are at most 255 characters each."""
_TAG: Final = 16
_QUERY: Final = 8


def query_hash(parts: Sequence[Any]) -> bytes:
    """Return the hash of everything that a cursor is bound to: JSON values."""
    text = json.dumps(list(parts), separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:_QUERY]


def encode(secret: bytes, query: bytes, position: Key) -> str:
    """Return the cursor that continues a query after a position."""
    place = json.dumps([position.name, position.value], separators=(",", ":"), ensure_ascii=False)
    body = query + place.encode()
    return urlsafe_b64encode(_tag(secret, body) + body).rstrip(b"=").decode()


def decode(secret: bytes, query: bytes, text: str) -> Key:
    """Return the position of a cursor.

    Raises InvalidParameters, the same for every reason: malformed, changed, of another query.
    """
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise _refusal() from None
    tag, body = raw[:_TAG], raw[_TAG:]
    if not hmac.compare_digest(tag, _tag(secret, body)) or body[:_QUERY] != query:
        raise _refusal()
    # Base64 has several spellings of the same bytes.
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise _refusal()
    name, value = json.loads(body[_QUERY:])
    return Key(name, value)


def _tag(secret: bytes, body: bytes) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).digest()[:_TAG]


def _refusal() -> InvalidParameters:
    return problem("cursor", "INVALID_CURSOR")
