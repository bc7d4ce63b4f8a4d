"""Passwords: making and verifying hashes, and the policy for new passwords.

Everything here is pure and may take long: call it through
``iredapi.concurrency.password_hasher.PasswordHasher``. Passwords are used unchanged; the form
removes surrounding blanks.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import bcrypt
from argon2.low_level import Type as Argon2Type
from argon2.low_level import hash_secret
from passlib.hash import sha512_crypt

from iredapi.domain.crypt3 import MAX_PASSPHRASE
from iredapi.domain.password_costs import is_too_costly
from iredapi.domain.password_kinds import kind_of, strength
from iredapi.domain.password_schemes import (
    BCRYPT_BYTES,
    KNOWN_NAMES,
    MAX_BCRYPT_COST,
    is_bare,
    read_hash,
    split_prefix,
)

MAX_PASSWORD_BYTES: Final = 1024
"""Longer passwords are refused: the time of sha-crypt grows with the length."""
MAX_HASH_LENGTH: Final = 255
"""Length of iRedMail's columns."""
_DIGITS: Final = frozenset(string.digits)
SPECIAL_CHARACTERS: Final = frozenset("#$%&*+-,.:;!=<>'\"?@[]/(){}_`~")

DEFAULT_BCRYPT_COST: Final = 12
HASH_SEPARATOR: Final = "\x1d"
"""Separates the hashes of an account that has several (LDAP); each of them allows the login."""
_MIN_BCRYPT_COST: Final = 4
_SALT_BYTES: Final = 8
# Dovecot may verify these in its single auth process: costly, but well below one second.
_CRYPT_ROUNDS: Final = 50_000
_SHA512_CRYPT: Any = sha512_crypt.using(rounds=_CRYPT_ROUNDS)  # type: ignore[no-untyped-call]
_PBKDF2_ROUNDS: Final = 100_000
_ARGON2_TIME: Final = 3  # the numbers of doveadm
_ARGON2_MEMORY: Final = 64 * 1024


class Scheme(StrEnum):
    """Schemes of new hashes."""

    SSHA512 = "SSHA512"
    SSHA = "SSHA"
    SHA512 = "SHA512"
    SHA512_CRYPT = "SHA512-CRYPT"
    BCRYPT = "BCRYPT"
    PBKDF2 = "PBKDF2"
    ARGON2ID = "ARGON2ID"


def hash_password(
    plain: str, scheme: Scheme = Scheme.SSHA512, *, bcrypt_cost: int = DEFAULT_BCRYPT_COST
) -> str:
    """Return a new hash with the prefix that Dovecot knows.

    Raises ``ValueError`` with a code of the policy for passwords that cannot be hashed: empty, with
    NUL or an unpaired surrogate, too long. A password is never truncated.
    """
    secret = _secret(plain)
    match scheme:
        case Scheme.SSHA512:
            return "{SSHA512}" + _salted("sha512", secret)
        case Scheme.SSHA:
            return "{SSHA}" + _salted("sha1", secret)
        case Scheme.SHA512:
            return "{SHA512}" + base64.b64encode(hashlib.sha512(secret).digest()).decode()
        case Scheme.SHA512_CRYPT:
            if len(secret) > MAX_PASSPHRASE:
                raise ValueError("PW_GREATER_THAN_MAX_LENGTH")
            return "{SHA512-CRYPT}" + str(_SHA512_CRYPT.hash(secret))
        case Scheme.BCRYPT:
            if len(secret) > BCRYPT_BYTES:
                raise ValueError("PW_GREATER_THAN_MAX_LENGTH")
            salt = bcrypt.gensalt(_checked_cost(bcrypt_cost))
            return "{CRYPT}" + bcrypt.hashpw(secret, salt).decode()
        case Scheme.PBKDF2:
            text = secrets.token_urlsafe(12)
            digest = hashlib.pbkdf2_hmac("sha1", secret, text.encode(), _PBKDF2_ROUNDS)
            return f"{{PBKDF2}}$1${text}${_PBKDF2_ROUNDS}${digest.hex()}"
        case Scheme.ARGON2ID:
            salt = secrets.token_bytes(16)
            made = hash_secret(secret, salt, _ARGON2_TIME, _ARGON2_MEMORY, 1, 32, Argon2Type.ID)
            return "{ARGON2ID}" + made.decode()


def verify_password(plain: str, stored: str) -> bool:
    """Tell whether a password matches a stored hash; False for hashes that cannot be read."""
    try:
        secret = _secret(plain)
        known = [read_hash(item) for item in stored.split(HASH_SEPARATOR)]
        return any(item is not None and item.check(secret) for item in known)
    except Exception:  # fail closed: a library may raise anything for a malformed hash
        return False


def outdated(stored: str, scheme: Scheme, *, bcrypt_cost: int = DEFAULT_BCRYPT_COST) -> bool:
    """Tell whether a hash should be replaced by one of ``scheme``: another kind, or a lower cost.

    A hash is never replaced by a weaker one. Several hashes of one account are not replaced: they
    may belong to several passwords.
    """
    if HASH_SEPARATOR in stored:
        return False
    kind, cost = kind_of(stored)
    wanted, wanted_cost = kind_of(_dummy_hash(scheme, bcrypt_cost))
    if kind == wanted:
        # Without its scheme, Dovecot 2.4 takes the text of the hash for the password.
        return cost < wanted_cost or (cost == wanted_cost and split_prefix(stored) is None)
    return strength(kind) <= strength(wanted)


def looks_hashed(plain: str) -> bool:
    """Tell whether a password begins with a known ``{SCHEME}``: a hash in the wrong parameter."""
    parts = split_prefix(plain.lstrip())
    return parts is not None and parts[0] in KNOWN_NAMES


_RENAMED: Final = {
    "BCRYPT": "BLF-CRYPT",  # iRedMail's name, which Dovecot does not know
    "HMAC-MD5": "CRAM-MD5",
}


def check_hash(value: str) -> str:
    """Return the parameter ``password_hash`` as it is stored.

    Raises ``ValueError('PASSWORD_HASH_TOO_COSTLY')`` for hashes that take too long to verify, and
    ``ValueError('INVALID_PASSWORD_SCHEME')`` for those that ``verify_password`` cannot verify.
    Stricter than reading in one point: a salt after a digest, and argon2's digest, must have 4, 8,
    12 … bytes, as all known tools make them. So a truncated hash is noticed.
    """
    parts = split_prefix(value)
    if parts is None and is_bare(value):  # Dovecot 2.4 would read it as a plain password
        parts = ("CRYPT", "", value)
    if parts is None or len(value) > MAX_HASH_LENGTH or _has_controls(value):
        raise ValueError("INVALID_PASSWORD_SCHEME")
    name, suffix, payload = parts
    name = _RENAMED.get(name, name)
    if name == "ARGON2" and not suffix:  # unknown to Dovecot 2.3
        name = "ARGON2ID" if payload.startswith("$argon2id$") else "ARGON2I"
    prefix = f"{name}.{suffix}" if suffix else name
    stored = f"{{{prefix}}}{payload}"
    known = read_hash(stored)
    if known is None and is_too_costly(stored):
        raise ValueError("PASSWORD_HASH_TOO_COSTLY")
    if known is None or len(stored) > MAX_HASH_LENGTH:
        raise ValueError("INVALID_PASSWORD_SCHEME")
    if known.salt_length is not None and known.salt_length % 4:
        raise ValueError("INVALID_PASSWORD_SCHEME")
    return stored


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """Rules for new passwords; the defaults are iRedMail's."""

    min_length: int = 8
    max_length: int = 0
    """0: no limit."""
    letter: bool = True
    uppercase: bool = True
    digit: bool = True
    special: bool = True
    ascii_only: bool = True
    """Printable ASCII only; otherwise any text without control characters; all letters count."""


def violations(plain: str, policy: PasswordPolicy) -> list[str]:
    """Return the codes of all rules that a password violates, in the order of iRedMail."""
    if not plain:
        return ["PW_EMPTY"]
    counted = plain
    if policy.ascii_only and not plain.isascii():
        counted = "".join(filter(str.isascii, plain))
    broken = {
        "PW_NON_ASCII": not (plain.isascii() and plain.isprintable())
        and (_has_controls(plain) or (policy.ascii_only and not plain.isascii())),
        "PW_SHORTER_THAN_MIN_LENGTH": len(plain) < policy.min_length,
        "PW_GREATER_THAN_MAX_LENGTH": 0 < policy.max_length < len(plain),
        "PW_NO_LETTER": policy.letter and not any(map(str.isalpha, counted)),
        "PW_NO_UPPERCASE": policy.uppercase and not any(map(str.isupper, counted)),
        "PW_NO_DIGIT_NUMBER": policy.digit and _DIGITS.isdisjoint(counted),
        "PW_NO_SPECIAL_CHAR": policy.special and SPECIAL_CHARACTERS.isdisjoint(counted),
    }
    return [code for code, is_broken in broken.items() if is_broken]


def _secret(plain: str) -> bytes:
    if not plain:
        raise ValueError("PW_EMPTY")
    if "\0" in plain:
        raise ValueError("PW_NON_ASCII")
    try:
        secret = plain.encode()
    except UnicodeEncodeError:
        raise ValueError("PW_NON_ASCII") from None
    if len(secret) > MAX_PASSWORD_BYTES:
        raise ValueError("PW_GREATER_THAN_MAX_LENGTH")
    return secret


def _salted(algorithm: str, secret: bytes) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.new(algorithm, secret + salt, usedforsecurity=False).digest()
    return base64.b64encode(digest + salt).decode()


def _checked_cost(cost: int) -> int:
    if not _MIN_BCRYPT_COST <= cost <= MAX_BCRYPT_COST:
        raise ValueError(f"bcrypt cost must be {_MIN_BCRYPT_COST} to {MAX_BCRYPT_COST}")
    return cost


def _dummy_hash(scheme: Scheme, bcrypt_cost: int) -> str:
    """Return a well-formed hash with the cost of those that ``hash_password`` makes."""
    match scheme:
        case Scheme.SSHA512:
            return "{SSHA512}" + base64.b64encode(bytes(64 + _SALT_BYTES)).decode()
        case Scheme.SSHA:
            return "{SSHA}" + base64.b64encode(bytes(20 + _SALT_BYTES)).decode()
        case Scheme.SHA512:
            return "{SHA512}" + base64.b64encode(bytes(64)).decode()
        case Scheme.SHA512_CRYPT:
            return f"{{SHA512-CRYPT}}$6$rounds={_CRYPT_ROUNDS}${'.' * 16}${'.' * 86}"
        case Scheme.BCRYPT:
            return f"{{CRYPT}}$2b${_checked_cost(bcrypt_cost):02}${'.' * 53}"
        case Scheme.PBKDF2:
            return f"{{PBKDF2}}$1${'.' * 16}${_PBKDF2_ROUNDS}${'0' * 40}"
        case Scheme.ARGON2ID:
            costs = f"m={_ARGON2_MEMORY},t={_ARGON2_TIME},p=1"
            return f"{{ARGON2ID}}$argon2id$v=19${costs}${'A' * 22}${'A' * 43}"


def _has_controls(text: str) -> bool:
    """Tell whether a text has control characters; most have none, and that is found out fast."""
    return not text.isprintable() and any(map(_is_control, text))


def _is_control(char: str) -> bool:
    """Tell whether it is a control character, line or paragraph separator, or a surrogate."""
    return unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}
