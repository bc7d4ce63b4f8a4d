"""Readers of stored password hashes: the table of Dovecot's schemes.

A stored value is ``{SCHEME}payload`` or ``{SCHEME.ENCODING}payload``. Reading it gives a
``StoredHash`` that can check a secret, or None. A value that does not match completely is not a
hash: nobody can log in with it.

* The scheme's name is read without regard to case, as in Dovecot.
* A bare ``$1$``, ``$5$``, ``$6$``, ``$2?$``, ``$y$``, ``$gy$`` or ``$7$`` is ``{CRYPT}``
  (iRedMail's default scheme). Any other value without prefix is refused: hex digits could be MD5
  or NTLM.
* Kinds that our libraries do not know are checked with the host's crypt(3) (``crypt3``).
* Hashes that cost more than the ``MAX_*`` below are refused: one account with a billion rounds must
  not block all threads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, TypeAlias

import bcrypt
from argon2.low_level import Type as Argon2Type
from argon2.low_level import hash_secret_raw
from passlib.hash import md5_crypt, nthash, sha256_crypt, sha512_crypt

from iredapi.domain import cram_md5, crypt3, scram

MAX_STORED_LENGTH: Final = 1024
MAX_BCRYPT_COST: Final = 14
MAX_CRYPT_ROUNDS: Final = 1_000_000
MAX_PBKDF2_ROUNDS: Final = 2_000_000
MAX_ARGON2_MEMORY: Final = 256 * 1024  # KiB
MAX_ARGON2_TIME: Final = 16
MAX_ARGON2_WORK: Final = 1024 * 1024  # KiB times passes
MAX_ARGON2_LANES: Final = 16

BCRYPT_BYTES: Final = 72
"""bcrypt reads only this many bytes of a password. Dovecot truncates longer ones. We refuse to hash
or verify them: a password of 73 bytes and its first 72 must not be equal. The owner of a hash that
Dovecot made can still log in with the first 72 bytes."""

Check: TypeAlias = Callable[[bytes], bool]
Reader: TypeAlias = Callable[[bytes], Check | None]
"""Makes the check of a secret from a decoded payload; None when the payload is malformed."""


class Encoding(Enum):
    """Encodings of payloads."""

    TEXT = auto()
    HEX = auto()
    BASE64 = auto()


SUFFIXES: Final = {"B64": Encoding.BASE64, "BASE64": Encoding.BASE64, "HEX": Encoding.HEX}


@dataclass(frozen=True, slots=True)
class _Form:
    """Encoding and reader of a scheme's payload."""

    read: Reader
    encoding: Encoding = Encoding.TEXT
    size: int = 0
    """Length of the digest in bytes; 0: any."""
    salted: bool = False
    """A salt of any length follows the digest."""


@dataclass(frozen=True, slots=True)
class StoredHash:
    """A stored value that was read."""

    check: Check
    salt_length: int | None
    """Length in bytes of the last part where it can vary: a salt after a digest, or the digest of
    argon2; None for other schemes."""


# ---- readers ----------------------------------------------------------------------------------


def _read_plain(payload: bytes) -> Check | None:
    if not payload or b"\0" in payload:
        return None
    return lambda secret: hmac.compare_digest(secret, payload)


def _read_digest(digest: Callable[[bytes], bytes]) -> Reader:
    """Return the reader of digests without salt; ``decode`` has checked their length."""

    def read(payload: bytes) -> Check:
        return lambda secret: hmac.compare_digest(digest(secret), payload)

    return read


def _read_salted(algorithm: str) -> Reader:
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def read(payload: bytes) -> Check | None:
        digest, salt = payload[:size], payload[size:]
        if not salt:
            return None
        return lambda secret: hmac.compare_digest(_digest(algorithm)(secret + salt), digest)

    return read


def _digest(algorithm: str) -> Callable[[bytes], bytes]:
    return lambda secret: hashlib.new(algorithm, secret, usedforsecurity=False).digest()


def _ntlm(secret: bytes) -> bytes:
    return bytes.fromhex(nthash.hash(secret.decode()))


def _read_crypt(*kinds: str, any_other: bool = False) -> Reader:
    """Return the reader of crypt(3) formats: some kinds, and optionally those of the host only."""

    def read(payload: bytes) -> Check | None:
        text = payload.decode("ascii")
        for kind in kinds:
            if match := _CRYPT_FORMATS[kind].fullmatch(text):
                return _CRYPT_CHECKS[kind](match)
        return crypt3.read(text) or crypt3.read_des(text) if any_other else None

    return read


def _read_des(payload: bytes) -> Check | None:
    return crypt3.read_des(payload.decode("ascii"))


def _host_check(text: str) -> Check | None:
    """Return the check by the host's crypt(3), which accepts salts that our libraries refuse."""
    return crypt3.checker(text) if crypt3.supports(text) else None


def _md5_crypt(match: re.Match[str]) -> Check | None:
    if not _USUAL_SALT.fullmatch(match["salt"]):
        return _host_check(match.group())
    return lambda secret: bool(md5_crypt.verify(secret, match.group()))


def _sha_crypt(match: re.Match[str]) -> Check | None:
    if match["rounds"] and not 1000 <= int(match["rounds"]) <= MAX_CRYPT_ROUNDS:
        return None
    # crypt(3) runs in C without the GIL, where the host has it.
    check = _host_check(match.group())
    if check is not None or not _USUAL_SALT.fullmatch(match["salt"]):
        return check
    scheme = sha512_crypt if match["kind"] == "6" else sha256_crypt
    return lambda secret: bool(scheme.verify(secret, match.group()))


def _bcrypt(match: re.Match[str]) -> Check | None:
    if not 4 <= int(match["cost"]) <= MAX_BCRYPT_COST:
        return None
    stored = match.group().encode()
    return lambda secret: len(secret) <= BCRYPT_BYTES and bcrypt.checkpw(secret, stored)


_USUAL_SALT: Final = re.compile(r"[./0-9A-Za-z]*")
_CRYPT_FORMATS: Final = {
    "md5": re.compile(rf"\$1\$(?P<salt>(?!rounds=){crypt3.SALT}{{0,8}})\$[./0-9A-Za-z]{{22}}"),
    "sha256": re.compile(
        rf"\$(?P<kind>5)\$(rounds=(?P<rounds>[1-9][0-9]{{0,8}})\$)?(?P<salt>(?!rounds=){crypt3.SALT}{{0,16}})"
        r"\$[./0-9A-Za-z]{43}"
    ),
    "sha512": re.compile(
        rf"\$(?P<kind>6)\$(rounds=(?P<rounds>[1-9][0-9]{{0,8}})\$)?(?P<salt>(?!rounds=){crypt3.SALT}{{0,16}})"
        r"\$[./0-9A-Za-z]{86}"
    ),
    "bcrypt": re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./0-9A-Za-z]{21}[.Oeu][./0-9A-Za-z]{31}"),
}
_CRYPT_CHECKS: Final[Mapping[str, Callable[[re.Match[str]], Check | None]]] = {
    "md5": _md5_crypt,
    "sha256": _sha_crypt,
    "sha512": _sha_crypt,
    "bcrypt": _bcrypt,
}


def _read_md5(payload: bytes) -> Check | None:
    """Read ``{MD5}``: md5-crypt, or the digest in hex or base64."""
    if payload.startswith(b"$1$"):
        return _read_crypt("md5")(payload)
    digest = decode(payload.decode("ascii"), Encoding.HEX, size=16, guess=True)
    return None if digest is None else _read_digest(_digest("md5"))(digest)


_PBKDF2 = re.compile(
    r"\$1\$(?P<salt>[!-#%-~]{1,64})\$(?P<rounds>[1-9][0-9]{0,8})\$(?P<digest>[0-9a-fA-F]{40})"
)


def _read_pbkdf2(payload: bytes) -> Check | None:
    match = _PBKDF2.fullmatch(payload.decode("ascii"))
    if match is None or int(match["rounds"]) > MAX_PBKDF2_ROUNDS:
        return None
    salt, rounds = match["salt"].encode(), int(match["rounds"])
    digest = bytes.fromhex(match["digest"])
    return lambda secret: hmac.compare_digest(
        hashlib.pbkdf2_hmac("sha1", secret, salt, rounds), digest
    )


_ARGON2 = re.compile(
    r"\$argon2(?P<kind>i|id)\$v=19\$m=(?P<memory>[1-9][0-9]{0,6}),t=(?P<time>[1-9][0-9]?)"
    r",p=(?P<lanes>[1-9][0-9]?)\$(?P<salt>[+/0-9A-Za-z]{11,86})\$(?P<digest>[+/0-9A-Za-z]{22,86})"
)
_ARGON2_DIGEST: Final = 16  # libsodium's minimum; most programs make 32


def _read_argon2(payload: bytes) -> Check | None:
    """Read argon2i or argon2id: Dovecot goes by the payload, not by the scheme."""
    match = _ARGON2.fullmatch(payload.decode("ascii"))
    if match is None:
        return None
    argon2_type = Argon2Type.ID if match["kind"] == "id" else Argon2Type.I
    memory, time, lanes = int(match["memory"]), int(match["time"]), int(match["lanes"])
    if not 8 * lanes <= memory <= MAX_ARGON2_MEMORY:
        return None
    if memory * time > MAX_ARGON2_WORK:
        return None
    if time > MAX_ARGON2_TIME or lanes > MAX_ARGON2_LANES:
        return None
    salt, digest = _unpadded(match["salt"]), _unpadded(match["digest"])
    if len(salt) < 8 or len(digest) < _ARGON2_DIGEST:
        return None
    return lambda secret: hmac.compare_digest(
        hash_secret_raw(secret, salt, time, memory, lanes, len(digest), argon2_type), digest
    )


def _unpadded(text: str) -> bytes:
    found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if base64.b64encode(found).decode().rstrip("=") != text:
        raise ValueError("bits after the last byte are set")
    return found


# ---- the table --------------------------------------------------------------------------------


def _unsalted(algorithm: str, encoding: Encoding = Encoding.BASE64) -> _Form:
    digest = _digest(algorithm)
    return _Form(_read_digest(digest), encoding, len(digest(b"")))


def _salted(algorithm: str) -> _Form:
    size = len(_digest(algorithm)(b""))
    return _Form(_read_salted(algorithm), Encoding.BASE64, size, salted=True)


_PLAIN = _Form(_read_plain)
_SHA_CRYPT = _Form(_read_crypt("sha256", "sha512"))  # Dovecot accepts either with both names

SCHEMES: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "PLAIN": _PLAIN,
        "CLEAR": _PLAIN,
        "CLEARTEXT": _PLAIN,
        "SHA": _unsalted("sha1"),
        "SHA1": _unsalted("sha1"),
        "SHA256": _unsalted("sha256"),
        "SHA512": _unsalted("sha512"),
        "SSHA": _salted("sha1"),
        "SSHA256": _salted("sha256"),
        "SSHA512": _salted("sha512"),
        "SMD5": _salted("md5"),
        "MD5": _Form(_read_md5),
        "PLAIN-MD5": _unsalted("md5", Encoding.HEX),
        "LDAP-MD5": _unsalted("md5"),
        "CRAM-MD5": _Form(_read_digest(cram_md5.context), Encoding.HEX, 32),
        "HMAC-MD5": _Form(_read_digest(cram_md5.context), Encoding.HEX, 32),
        "NTLM": _Form(_read_digest(_ntlm), Encoding.HEX, 16),
        "CRYPT": _Form(_read_crypt("md5", "sha256", "sha512", "bcrypt", any_other=True)),
        "BLF-CRYPT": _Form(_read_crypt("bcrypt")),
        "DES-CRYPT": _Form(_read_des),
        "SHA512-CRYPT": _SHA_CRYPT,
        "SHA256-CRYPT": _SHA_CRYPT,
        "MD5-CRYPT": _Form(_read_crypt("md5")),
        "PBKDF2": _Form(_read_pbkdf2),
        "ARGON2": _Form(_read_argon2),
        "ARGON2I": _Form(_read_argon2),
        "ARGON2ID": _Form(_read_argon2),
        "SCRAM-SHA-1": _Form(scram.reader("sha1")),
        "SCRAM-SHA-256": _Form(scram.reader("sha256")),
    }
)
"""Schemes that can be verified."""

KNOWN_NAMES: Final = frozenset(SCHEMES) | {
    # Never verified; known, so that such a hash is not taken for a password in plain text.
    "BCRYPT",
    "DIGEST-MD5",
    "LANMAN",
    "OTP",
    "PLAIN-MD4",
    "PLAIN-TRUNC",
    "RPA",
    "SASL",
    "SKEY",
}

_PREFIX = re.compile(r"\{(?P<name>[A-Za-z0-9-]{1,20})(\.(?P<suffix>[A-Za-z0-9]{1,6}))?\}")
_BARE = re.compile(r"\$(1|2[aby]|5|6|g?y|7)\$")


# ---- reading ----------------------------------------------------------------------------------


def is_bare(stored: str) -> bool:
    """Tell whether a value begins like a crypt(3) hash without ``{CRYPT}``."""
    return _BARE.match(stored) is not None


def split_prefix(stored: str) -> tuple[str, str, str] | None:
    """Return scheme and encoding (may be empty) in upper case, and payload; None: no prefix."""
    match = _PREFIX.match(stored)
    if match is None:
        return None
    return match["name"].upper(), (match["suffix"] or "").upper(), stored[match.end() :]


def read_hash(stored: str) -> StoredHash | None:
    """Read a stored hash; None if it is malformed or its scheme is not known."""
    if not stored or len(stored) > MAX_STORED_LENGTH:
        return None
    parts = split_prefix(stored)
    if parts is None:
        if not is_bare(stored):
            return None
        parts = ("CRYPT", "", stored)
    name, suffix, text = parts
    form = SCHEMES.get(name)
    if form is None or (suffix and suffix not in SUFFIXES):
        return None
    encoding = SUFFIXES[suffix] if suffix else form.encoding
    size = 0 if form.salted else form.size
    payload = decode(text, encoding, size=size, guess=not suffix)
    if payload is None:
        return None
    try:
        check = form.read(payload)
    except ValueError:  # not ASCII, or invalid base64 inside argon2
        return None
    if check is None:
        return None
    length = len(payload) - form.size if form.salted else None
    if form.read is _read_argon2:
        length = len(payload.rpartition(b"$")[2]) * 3 // 4
    return StoredHash(check, length)


def decode(text: str, encoding: Encoding, *, size: int, guess: bool) -> bytes | None:
    """Return the payload as bytes, or None; ``size`` is the length of an unsalted digest (0: any).

    ``guess``: without a suffix, Dovecot tells hex from base64 by the length of such digests.
    """
    if guess and size:
        encoding = Encoding.HEX if len(text) == 2 * size else Encoding.BASE64
    try:
        if encoding is Encoding.TEXT:
            payload = text.encode()
        elif encoding is Encoding.HEX:
            payload = binascii.unhexlify(text)
        else:
            payload = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return None if size and len(payload) != size else payload
