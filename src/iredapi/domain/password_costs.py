"""The cost of verifying stored hashes: which are refused, and which use a queue of their own.

The costs were measured on one idle core of a server of 2023; only their ratio matters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from iredapi.domain import crypt3, scram
from iredapi.domain.password_kinds import decoded, kind_of
from iredapi.domain.password_schemes import (
    MAX_ARGON2_LANES,
    MAX_ARGON2_MEMORY,
    MAX_ARGON2_TIME,
    MAX_ARGON2_WORK,
    MAX_BCRYPT_COST,
    MAX_CRYPT_ROUNDS,
    MAX_PBKDF2_ROUNDS,
    read_hash,
)

HEAVY_MILLISECONDS: Final = 300
HEAVY_MEMORY: Final = 64 * 1024  # KiB
MAX_HASHES_OF_ACCOUNT: Final = 100
MAX_MILLISECONDS: Final = 2000
"""Maximum time of all hashes of one account together, where it has several."""
MAX_KINDS_IN_USE: Final = 8
"""Maximum number of kinds of hashes that a failed login verifies: the most costly ones."""
_NOT_MEASURED: Final = 500
_MAX_COSTS: Final = {
    "BCRYPT": MAX_BCRYPT_COST,
    "SHA256-CRYPT": MAX_CRYPT_ROUNDS,
    "SHA512-CRYPT": MAX_CRYPT_ROUNDS,
    "PBKDF2": MAX_PBKDF2_ROUNDS,
    "ARGON2I": MAX_ARGON2_WORK,
    "ARGON2ID": MAX_ARGON2_WORK,
}
_PER_MILLISECOND: Final = {
    "SHA256-CRYPT": 2000,
    "SHA512-CRYPT": 2000,
    "PBKDF2": 2500,
    "ARGON2I": 1365,
    "ARGON2ID": 1365,
}
"""Rounds per millisecond; for argon2 KiB of memory times passes."""
_BCRYPT_PER_MILLISECOND: Final = 20
_SCRAM_PER_MILLISECOND: Final = 1600
_QUICK: Final = frozenset(
    "PLAIN CLEAR CLEARTEXT SHA SHA1 SHA256 SHA512 SSHA SSHA256 SSHA512 SMD5 MD5 PLAIN-MD5 LDAP-MD5"
    " PLAIN-MD4 DIGEST-MD5 HMAC-MD5 CRAM-MD5 NTLM LANMAN DES-CRYPT".split()
)
"""Kinds that are verified in microseconds."""
_ARGON2: Final = re.compile(
    r"\$argon2id?\$v=\d+\$m=(?P<memory>\d+),t=(?P<time>\d+),p=(?P<lanes>\d+)"
)
_PARAMETERS: Final = re.compile(
    r"\$argon2id?\$v=\d+\$(m=\d+,t=\d+,p=\d+)|(\$g?y\$[^$]*)|(\$7\$.{11})|(\$sha1\$\d+)"
    r"|(\$md5(?:,rounds=\d+)?)|(_[./0-9A-Za-z]{4})|([0-9]{1,9})(?=,)"
)
"""The parameters that decide on the time where the cost is not one number: those of argon2 and of
the kinds of crypt(3), and the rounds of SCRAM."""
_Kind = tuple[str, int, str]
_USUAL_YESCRYPT: Final = "$y$j9T"
_HOSTS_OWN: Final = frozenset({"YESCRYPT", "SCRYPT", "SHA1-CRYPT"})


def is_too_costly(stored: str) -> bool:
    """Tell whether a hash is refused because verifying it would take too long."""
    kind, cost, parameters = _kind(stored)
    if kind in _MAX_COSTS and cost > _MAX_COSTS[kind]:
        return True
    if kind.startswith("SCRAM"):
        return bool(parameters) and int(parameters) > scram.MAX_ROUNDS
    text = _text(stored)
    if match := _ARGON2.match(text):
        return (
            int(match["memory"]) > MAX_ARGON2_MEMORY
            or int(match["time"]) > MAX_ARGON2_TIME
            or int(match["lanes"]) > MAX_ARGON2_LANES
        )
    return crypt3.is_too_costly(text)


def are_too_costly(several: list[str]) -> bool:
    """Tell whether one account has too many hashes to verify; in LDAP users can add them."""
    if len(several) == 1:
        return False
    return len(several) > MAX_HASHES_OF_ACCOUNT or _together(several) > MAX_MILLISECONDS


def are_heavy(several: list[str]) -> bool:
    """Tell whether verifying all hashes of one account takes more time or memory than usual."""
    return any(map(is_heavy, several)) or _together(several) > HEAVY_MILLISECONDS


def _together(several: list[str]) -> float:
    return sum(map(_milliseconds, several))


def is_quick(stored: str) -> bool:
    """Tell whether verifying takes microseconds; also for values that are not hashes."""
    return _kind(stored)[0] in _QUICK


def is_heavy(stored: str) -> bool:
    """Tell whether verifying a hash takes much more time or memory than usual."""
    if _kind(stored)[0].startswith("ARGON2"):
        match = _ARGON2.match(_text(stored))
        if match is None or int(match["memory"]) > HEAVY_MEMORY:
            return True
    return _milliseconds(stored) > HEAVY_MILLISECONDS


def in_use(hashes: Iterable[list[str]]) -> tuple[str, ...]:
    """Return one hash of each kind and cost that is not quick, the most costly ones first.

    ``hashes`` are those of each account. Where an account has several hashes of a kind, that many
    are returned.
    """
    numbers: Counter[_Kind] = Counter()
    examples: dict[_Kind, str] = {}
    for several in hashes:
        slow = [item for item in several if not is_quick(item) and read_hash(item)]
        numbers |= Counter(map(_kind, slow))
        examples |= {_kind(item): item for item in slow}
    found = [examples[kind] for kind in numbers.elements()]
    return tuple(sorted(found, key=_milliseconds, reverse=True)[:MAX_KINDS_IN_USE])


def rest(in_use_: Iterable[str], verified: Iterable[str]) -> list[str]:
    """Return the hashes still to verify, so that every failed login takes the same time."""
    done = Counter(_kind(item) for item in verified if read_hash(item))
    left = []
    for item in in_use_:
        kind = _kind(item)
        if done[kind]:
            done[kind] -= 1
        else:
            left.append(item)
    return left


def _kind(stored: str) -> _Kind:
    """Return what decides on the time of a hash: its kind, its cost, and other parameters."""
    try:
        kind, cost = kind_of(stored) if stored else ("PLAIN", 0)
        if kind in _QUICK:
            return kind, cost, ""
    except (KeyError, ValueError):
        return "PLAIN", 0, ""  # cannot be verified
    match = _PARAMETERS.match(_text(stored))
    return kind, cost, (match[match.lastindex or 0] if match else "")


def _text(stored: str) -> str:
    """Return the decoded text after the scheme; empty when it cannot be decoded."""
    try:
        return decoded(stored)[1]
    except (KeyError, ValueError):
        return ""


def _milliseconds(stored: str) -> float:
    kind, cost, parameters = _kind(stored)
    if kind in _QUICK:
        return 0.0
    if kind == "BCRYPT":
        return 2.0 ** min(cost, 99) / _BCRYPT_PER_MILLISECOND
    if kind in _PER_MILLISECOND:
        return cost / _PER_MILLISECOND[kind]
    if kind.startswith("SCRAM") and parameters:
        return int(parameters) / _SCRAM_PER_MILLISECOND
    if kind in _HOSTS_OWN and parameters != _USUAL_YESCRYPT:
        return _NOT_MEASURED
    # Of the other crypt(3) kinds, BSDi's and Solaris' have parameters, DES has none.
    return _NOT_MEASURED if kind == "CRYPT" and parameters else 0.0
