"""Exceptions for the result codes of an LDAP server.

Every exception carries the LDAP result code (RFC 4511 section 4.1.9; libldap's own are negative).
The server's diagnostic text may repeat a value, and values may be secrets. Only the text of a
password policy is kept, and only if it contains no value that was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final


class LdapError(Exception):
    """The server refused an operation; ``code`` is the LDAP result code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or f"LDAP result code {code}")
        self.code = code


class NoSuchEntry(LdapError):
    """There is no entry with this DN, or its parent is missing (32)."""


class EntryExists(LdapError):
    """An entry with this DN exists already (68)."""


class ValueExists(LdapError):
    """The attribute has this value already (20)."""


class NoSuchValue(LdapError):
    """The attribute does not have this value (16)."""


class InvalidData(LdapError):
    """A value, name or filter breaks the schema or LDAP's syntax (17, 19, 21, 34, 64, 65, 69)."""


class PasswordRefused(InvalidData):
    """A password policy (overlay ppolicy) rejects the password (19, 50, 53).

    ``text`` is the policy's own sentence; empty if it would repeat a value that was sent.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.text = text


class NotUnique(LdapError):
    """The overlay ``unique`` found the value in another entry (19)."""


class NotLeaf(LdapError):
    """The entry has children (66)."""


class Refused(LdapError):
    """The bind DN has no permission, or the server is unwilling (8, 49, 50, 53)."""


class ReadsOnly(LdapError):
    """This server accepts no writes: a replica, or ``readonly on`` (10, 53)."""


class Busy(LdapError):
    """The server is busy, or its database is not available (51, 52)."""


class SizeLimit(LdapError):
    """The server stopped at a limit of size or time (3, 4, 11)."""


class Unavailable(LdapError):
    """No server could be reached, or none answered in time.

    ``uncertain``: the operation may have been executed.
    """

    def __init__(self, message: str, *, uncertain: bool, code: int = -1) -> None:
        super().__init__(code, message)
        self.uncertain = uncertain


_CLASSES: Final[dict[int, type[LdapError]]] = {
    3: SizeLimit,
    4: SizeLimit,
    8: Refused,
    10: ReadsOnly,
    11: SizeLimit,
    16: NoSuchValue,
    17: InvalidData,
    19: InvalidData,
    20: ValueExists,
    21: InvalidData,
    32: NoSuchEntry,
    34: InvalidData,
    49: Refused,
    50: Refused,
    51: Busy,
    52: Busy,
    53: Refused,
    64: InvalidData,
    65: InvalidData,
    66: NotLeaf,
    68: EntryExists,
    69: InvalidData,
    -7: InvalidData,  # libldap could not read the filter
    -9: InvalidData,  # libldap could not read a DN
}


_READ_ONLY: Final = ("shadow context", "operation restricted", "read-only", "read only")
"""Texts of slapd with code 53: a replica without ``updateref``, and ``readonly on``."""
_MAX_TEXT: Final = 200
"""Maximum length of a policy's text, in characters."""
_MIN_SECRET_LENGTH: Final = 4
"""Minimum length of a value that is searched for in the text."""


def error_of(
    code: int, text: str = "", sent: Iterable[bytes] = (), *, of_password: bool = False
) -> LdapError:
    """Return the exception of a result code.

    ``text`` is the server's text, ``sent`` are the values that were sent, ``of_password`` tells
    whether there was a password among them.
    """
    low = text.lower()
    if of_password and code in {19, 50, 53} and "password" in low:
        return PasswordRefused(code, _harmless(text, sent))
    if code == 19 and ("non-unique" in low or "not unique" in low):
        return NotUnique(code)
    if code == 53 and any(words in low for words in _READ_ONLY):
        return ReadsOnly(code)
    return _CLASSES.get(code, LdapError)(code)


def _harmless(text: str, sent: Iterable[bytes]) -> str:
    """Return a policy's text, or "" if it contains a value that was sent."""
    low = text.lower()
    secrets = (value.decode(errors="replace").lower() for value in sent)
    if any(len(secret) >= _MIN_SECRET_LENGTH and secret in low for secret in secrets):
        return ""
    return "".join(char for char in text[:_MAX_TEXT] if char.isprintable()).strip()
