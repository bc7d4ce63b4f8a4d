"""The kind of a stored hash, its cost, and its strength."""

from __future__ import annotations

import re
from typing import Final

from iredapi.domain.password_schemes import SCHEMES, SUFFIXES, Encoding, decode, split_prefix

_CRYPTED = re.compile(
    r"\$(?P<id>1|2[aby]|5|6|g?y|7|sha1)\$(?:rounds=(?P<rounds>\d{1,9})\$|(?P<cost>\d\d)\$)?"
)
_ARGON2_COST = re.compile(r"\$argon2(?P<kind>id?)\$v=19\$m=(?P<memory>\d{1,9}),t=(?P<time>\d{1,9})")
_PBKDF2_COST = re.compile(r"\$1\$[^$]*\$(?P<rounds>\d{1,9})\$")
_CRYPT_KINDS: Final = {
    "1": "MD5-CRYPT",
    "5": "SHA256-CRYPT",
    "6": "SHA512-CRYPT",
    "y": "YESCRYPT",
    "gy": "YESCRYPT",
    "7": "SCRYPT",
    "sha1": "SHA1-CRYPT",
}
_DEFAULT_CRYPT_ROUNDS: Final = 5000
_SLOW: Final = frozenset(
    "BCRYPT SHA1-CRYPT SHA256-CRYPT SHA512-CRYPT PBKDF2 ARGON2I ARGON2ID YESCRYPT SCRYPT"
    " SCRAM-SHA-1 SCRAM-SHA-256".split()
)
_STRENGTHS: Final = {"SMD5": 1, "MD5-CRYPT": 1, "SSHA": 2, "SSHA256": 3, "SSHA512": 4}


def decoded(stored: str) -> tuple[str, str]:
    """Return the scheme and the decoded payload of a hash that ``read_hash`` can read."""
    name, suffix, text = split_prefix(stored) or ("CRYPT", "", stored)
    if suffix and SCHEMES[name].encoding is Encoding.TEXT:
        text = (decode(text, SUFFIXES[suffix], size=0, guess=False) or b"").decode("latin-1")
    return name, text


def kind_of(stored: str) -> tuple[str, int]:
    """Return the kind of a hash and its cost in the measure of the kind (0: it has none).

    Only for hashes that ``read_hash`` can read.
    """
    name, text = decoded(stored)
    if match := _CRYPTED.match(text) if name != "PBKDF2" else None:
        if match["id"].startswith("2"):
            return "BCRYPT", int(match["cost"] or 0)
        kind = _CRYPT_KINDS[match["id"]]
        rounds = int(match["rounds"] or _DEFAULT_CRYPT_ROUNDS)
        return kind, rounds if kind in ("SHA256-CRYPT", "SHA512-CRYPT") else 0
    if match := _PBKDF2_COST.match(text):
        return name, int(match["rounds"])
    if match := _ARGON2_COST.match(text):
        return f"ARGON2{match['kind'].upper()}", int(match["memory"]) * int(match["time"])
    return name, 0


def strength(kind: str) -> int:
    """Return the strength of a kind of hashes, 0 to 5: without salt, with salt, slow."""
    return 5 if kind in _SLOW else _STRENGTHS.get(kind, 0)
