"""How the program that logs users in reads a stored password: Dovecot 2.3 or 2.4, or slapd.

Seen with Dovecot 2.3.19 and 2.4.1 (and its error log), and slapd 2.5 and 2.6:

* A value without ``{SCHEME}`` has the default scheme of Dovecot's configuration. iRedMail's for SQL
  says CRYPT with 2.3, and nothing with 2.4: PLAIN. With LDAP it is CRYPT.
* 2.4 refuses ``WEAK`` schemes as a temporary failure (``auth_allow_weak_schemes = no``), and
  crypt(3) hashes of the kinds MD5 and DES. ``doveadm pw -t`` verifies them all the same.
* Of several values of ``userPassword`` Dovecot reads the first. A bind takes all of them.
* slapd takes a value without ``{SCHEME}`` for the password itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from iredapi.domain.password_kinds import decoded
from iredapi.domain.password_schemes import KNOWN_NAMES, SUFFIXES, split_prefix
from iredapi.domain.passwords import HASH_SEPARATOR

WEAK: Final = frozenset(
    "MD5 PLAIN-MD5 LDAP-MD5 SMD5 MD5-CRYPT DES-CRYPT HMAC-MD5 PLAIN-MD4 LANMAN".split()
)
"""Schemes that Dovecot 2.4 refuses as too weak."""
_UNKNOWN: Final = {
    "2.3": frozenset({"ARGON2", "BCRYPT", "NTLM"}),
    "2.4": frozenset({"BCRYPT", "LANMAN", "NTLM", "RPA", "SKEY"}),
}
_CRYPT: Final = frozenset({"CRYPT", "SHA256-CRYPT", "SHA512-CRYPT"})
_SLAPD: Final = frozenset("SSHA SHA SMD5 MD5 CRYPT SHA256 SSHA256 SHA512 SSHA512".split())
"""What slapd knows, with its module pw-sha2."""


@dataclass(frozen=True, slots=True)
class PasswordReader:
    """Which program checks the passwords of users."""

    version: str = ""
    """Dovecot's: ``2.3``, ``2.4`` (also every later one), or empty: not known."""
    ldap: bool = False
    """Whether the passwords are in OpenLDAP."""
    binds: bool = False
    """Whether Dovecot binds as the user, so that slapd checks the password."""

    def __str__(self) -> str:
        """Its name for messages."""
        return "slapd" if self.binds else f"Dovecot {self.version}".strip()

    def as_read(self, stored: str) -> str:
        """Return the values that can log a user in, each with its scheme; "" for none.

        When the version is not known, everything is returned as it is stored.
        """
        if not self.version:
            return stored
        values = stored.split(HASH_SEPARATOR)
        if self.ldap and not self.binds:
            values = values[:1]
        usable = (value for value in values if value and not self.refuses(value))
        return HASH_SEPARATOR.join(map(self._scheme_added, usable))

    def refuses(self, stored: str) -> str:
        """Say why no password can log in with one stored value; "" if one can.

        The value itself is never in the text: it may be a password in plain text.
        """
        if not self.version:
            return ""
        parts = split_prefix(self._scheme_added(stored))
        if parts is None or parts[0] not in KNOWN_NAMES:
            return f"{self} does not know the scheme"
        name, suffix, _ = parts
        if self.binds:
            known = name in _SLAPD | {"PLAIN", "LDAP-MD5"} and not suffix
            return "" if known else f"slapd does not know {{{name}}}"
        if name in _UNKNOWN[self.version]:
            return f"{self} does not know {{{name}}}"
        if self.version == "2.3":
            return ""
        if name in _CRYPT and (kind := _weak_crypt(stored)):
            return f"{self} refuses {kind} as too weak"
        return f"{self} refuses {{{name}}} as too weak" if name in WEAK else ""

    def _scheme_added(self, value: str) -> str:
        """Return a stored value with the scheme that the program takes it for."""
        parts = split_prefix(value)
        if self.binds:
            if parts is None and not (value.startswith("{") and "}" in value):
                return "{PLAIN}" + value
            if parts is not None and parts[0] == "MD5":
                return "{LDAP-MD5}" + parts[2]
            return "{UNKNOWN}" if parts and parts[0] in {"PLAIN", "LDAP-MD5"} else value
        if parts is not None or (value.startswith("{") and "}" in value):
            return value
        return ("{CRYPT}" if self.ldap or self.version == "2.3" else "{PLAIN}") + value


NOT_KNOWN: Final = PasswordReader()
"""Judges nothing."""


def _weak_crypt(stored: str) -> str:
    """Return what an operator calls a crypt(3) hash of a weak kind; "" for others."""
    parts = split_prefix(stored)
    if parts is not None and parts[1] and parts[1] not in SUFFIXES:
        return ""
    text = decoded(stored)[1]
    if text.startswith("$1$"):
        return "a crypt hash of MD5 ($1$)"
    return "" if text.startswith("$") else "a crypt hash of DES"
