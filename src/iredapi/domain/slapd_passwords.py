"""Password hashes for slapd: Dovecot 2.3 binds as the user, so slapd must be able to check them.

slapd knows SSHA, SHA, SMD5, MD5 (base64) and CRYPT (everything that the host's crypt(3) knows);
with the module pw-sha2 also the SHA-2 family. A value without a prefix is a password in plain text:
such a value is never stored, but hashed.
"""

from __future__ import annotations

import base64
from typing import Final

from iredapi.domain.passwords import Scheme, check_hash, hash_password

_BASE64: Final = frozenset({"SSHA", "SHA", "SHA1", "SMD5"})
_SHA2: Final = frozenset({"SHA256", "SSHA256", "SHA512", "SSHA512"})
_CRYPT: Final = frozenset(
    {"CRYPT", "DES-CRYPT", "MD5-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "BLF-CRYPT", "BCRYPT"}
)
_MD5_BYTES: Final = 16
UNKNOWN_TO_SLAPD: Final = frozenset({Scheme.PBKDF2, Scheme.ARGON2ID})
"""Schemes of new hashes that slapd cannot check without modules that iRedMail does not load."""


def for_slapd(stored: str) -> str:
    """Return a hash with the scheme as slapd writes it; Dovecot understands it as well.

    Raises ``ValueError('INVALID_PASSWORD_SCHEME')`` for schemes that slapd does not know.
    """
    prefix, _, payload = stored.removeprefix("{").partition("}")
    name = prefix.upper()
    if name in _CRYPT or (name == "MD5" and payload.startswith("$1$")):
        return "{CRYPT}" + payload
    if name in _BASE64:
        return f"{{{'SHA' if name == 'SHA1' else name}}}{payload}"
    if name in _SHA2:
        return f"{{{name}}}{payload}"
    if name in {"MD5", "PLAIN-MD5", "LDAP-MD5"}:
        return "{MD5}" + base64.b64encode(_digest(payload)).decode()
    if name in {"PLAIN", "CLEARTEXT", "CLEAR"}:
        # slapd takes plain text without a scheme only, and Dovecot 2.4 takes none of that.
        return hash_password(payload, Scheme.SSHA)
    raise ValueError("INVALID_PASSWORD_SCHEME")


def is_same_hash(sent: str, stored: str) -> bool:
    """Tell whether a hash would be stored as it is stored already, in SQL or for slapd."""
    try:
        checked = check_hash(sent.strip())
        return stored == checked or stored == for_slapd(checked)
    except ValueError:
        return False


def _digest(payload: str) -> bytes:
    for read in (bytes.fromhex, base64.b64decode):
        try:
            found = read(payload)
        except ValueError:
            continue
        if len(found) == _MD5_BYTES:
            return found
    raise ValueError("INVALID_PASSWORD_SCHEME")
