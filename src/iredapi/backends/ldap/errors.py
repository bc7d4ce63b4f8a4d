"""What an LDAP server may answer instead of success, as exceptions.

Every exception carries the LDAP result code (RFC 4511 section 4.1.9; libldap's own are negative).
None carries the server's diagnostic text: it may repeat a value, and values may be secrets.
"""

from __future__ import annotations

from typing import Final


class LdapError(Exception):
    """The server refused an operation; ``code`` is the LDAP result code."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message or f"LDAP result code {code}")
        self.code = code


class NoSuchEntry(LdapError):
    """There is no entry of this name, or its parent is missing (32)."""


class EntryExists(LdapError):
    """There is an entry of this name already (68)."""


class ValueExists(LdapError):
    """The attribute has this value already (20)."""


class NoSuchValue(LdapError):
    """The attribute, or this value of it, is not there (16)."""


class InvalidData(LdapError):
    """A value, name or filter breaks the schema or LDAP's syntax (17, 19, 21, 34, 64, 65, 69)."""


class NotLeaf(LdapError):
    """The entry has children (66)."""


class Refused(LdapError):
    """Our bind may not do this, or the server will not (8, 49, 50, 53)."""


class Busy(LdapError):
    """The server has no time for us, or no database at the moment (51, 52)."""


class SizeLimit(LdapError):
    """The server stopped at a limit of size or time (3, 4, 11)."""


class Unavailable(LdapError):
    """No server could be asked, or none answered in time.

    ``uncertain`` tells a writer that the operation may have been carried out all the same.
    """

    def __init__(self, message: str, *, uncertain: bool, code: int = -1) -> None:
        super().__init__(code, message)
        self.uncertain = uncertain


_CLASSES: Final[dict[int, type[LdapError]]] = {
    3: SizeLimit,
    4: SizeLimit,
    8: Refused,
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


def error_of(code: int) -> LdapError:
    """Return the exception of a result code."""
    return _CLASSES.get(code, LdapError)(code)
