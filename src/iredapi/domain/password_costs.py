"""How dear stored hashes are to verify: which are refused, and which wait in a queue of their own.

The costs were measured on one quiet core of a server of 2023; what matters is their ratio.
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
MOST_OF_ACCOUNT: Final = 100
MOST_MILLISECONDS: Final = 2000
"""What all hashes of one account may take together, where it has several."""
MOST_IN_USE: Final = 8
"""Kinds of hashes whose time a wrong password takes, at most: the dearest ones."""
_NOT_MEASURED: Final = 500
_MOST_OF_KIND: Final = {
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
"""Rounds; for argon2 KiB of memory times passes."""
_BCRYPT_PER_MILLISECOND: Final = 20
_SCRAM_PER_MILLISECOND: Final = 1600
_QUICK: Final = frozenset(
    "PLAIN CLEAR CLEARTEXT SHA SHA1 SHA256 SHA512 SSHA SSHA256 SSHA512 SMD5 MD5 PLAIN-MD5 LDAP-MD5"
    " PLAIN-MD4 DIGEST-MD5 HMAC-MD5 CRAM-MD5 NTLM LANMAN DES-CRYPT".split()
)
"""Kinds that take microseconds."""
_ARGON2: Final = re.compile(
    r"\$argon2id?\$v=\d+\$m=(?P<memory>\d+),t=(?P<time>\d+),p=(?P<lanes>\d+)"
)
_PARAMETERS: Final = re.compile(
    r"\$argon2id?\$v=\d+\$(m=\d+,t=\d+,p=\d+)|(\$g?y\$[^$]*)|(\$7\$.{11})|(\$sha1\$\d+)"
    r"|(\$md5(?:,rounds=\d+)?)|(_[./0-9A-Za-z]{4})|([0-9]{1,9})(?=,)"
)
"""What decides on the time where the cost is not one number: of argon2, of crypt(3)'s own kinds,
and the rounds of SCRAM."""
_Kind = tuple[str, int, str]
_USUAL_YESCRYPT: Final = "$y$j9T"
_HOSTS_OWN: Final = frozenset({"YESCRYPT", "SCRYPT", "SHA1-CRYPT"})


def is_too_costly(stored: str) -> bool:
    """Tell whether a hash is refused for what it would take to verify it, whoever stored it."""
    kind, cost, parameters = _kind(stored)
    if kind in _MOST_OF_KIND and cost > _MOST_OF_KIND[kind]:
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
    """Tell whether one account has more hashes than are verified; in LDAP users write them."""
    if len(several) == 1:
        return False
    return len(several) > MOST_OF_ACCOUNT or _together(several) > MOST_MILLISECONDS


def are_heavy(several: list[str]) -> bool:
    """Tell whether verifying all hashes of one account takes more than is usual."""
    return any(map(is_heavy, several)) or _together(several) > HEAVY_MILLISECONDS


def _together(several: list[str]) -> float:
    return sum(map(_milliseconds, several))


def is_quick(stored: str) -> bool:
    """Tell whether verifying takes microseconds; so do values that are no hashes."""
    return _kind(stored)[0] in _QUICK


def is_heavy(stored: str) -> bool:
    """Tell whether a hash takes much more time or memory than those that are usual."""
    if _kind(stored)[0].startswith("ARGON2"):
        match = _ARGON2.match(_text(stored))
        if match is None or int(match["memory"]) > HEAVY_MEMORY:
            return True
    return _milliseconds(stored) > HEAVY_MILLISECONDS


def in_use(hashes: Iterable[list[str]]) -> tuple[str, ...]:
    """Return one hash of each kind and cost that is not quick, the dearest ones.

    ``hashes`` are those of each account. Where one account has several of a kind, so many are
    returned.
    """
    most: Counter[_Kind] = Counter()
    examples: dict[_Kind, str] = {}
    for several in hashes:
        slow = [item for item in several if not is_quick(item) and read_hash(item)]
        most |= Counter(map(_kind, slow))
        examples |= {_kind(item): item for item in slow}
    found = [examples[kind] for kind in most.elements()]
    return tuple(sorted(found, key=_milliseconds, reverse=True)[:MOST_IN_USE])


def rest(in_use_: Iterable[str], verified: Iterable[str]) -> list[str]:
    """Return what is to be verified still, so that every wrong password takes the same."""
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
    """Return what takes the same time: the kind, its cost, and other parameters of the hash."""
    try:
        kind, cost = kind_of(stored) if stored else ("PLAIN", 0)
        if kind in _QUICK:
            return kind, cost, ""
    except (KeyError, ValueError):
        return "PLAIN", 0, ""  # nothing that could be verified
    match = _PARAMETERS.match(_text(stored))
    return kind, cost, (match[match.lastindex or 0] if match else "")


def _text(stored: str) -> str:
    """Return what stands behind the scheme, whatever it is encoded in."""
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
    # BSDi's and Solaris' have such, DES has none.
    return _NOT_MEASURED if kind == "CRYPT" and parameters else 0.0
