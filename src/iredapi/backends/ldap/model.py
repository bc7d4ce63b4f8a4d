"""Data types of the LDAP client, independent of the library (bonsai)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Scope(Enum):
    """Scope of a search (RFC 4511 section 4.5.1.2)."""

    BASE = 0
    ONE = 1
    SUB = 2


Search = tuple[str, Scope, str, Sequence[str]]
"""Base, scope, filter, names of attributes."""


class Op(Enum):
    """Operation of a change (RFC 4511 section 4.6)."""

    ADD = 0
    DELETE = 1
    REPLACE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as the server sent it; values are bytes."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]

    def raw(self, name: str) -> tuple[bytes, ...]:
        """Return the values of an attribute, regardless of the case of its name; () if absent."""
        found = self.attributes.get(name)
        if found is not None:
            return found
        wanted = name.lower()
        for stored_name, values in self.attributes.items():
            if stored_name.lower() == wanted:
                return values
        return ()

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values of an attribute as text; bytes that are not UTF-8 become U+FFFD."""
        return tuple(value.decode("utf-8", "replace") for value in self.raw(name))

    def value(self, name: str) -> str:
        """Return the first value of an attribute as text, or ""."""
        values = self.values(name)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a modify. REPLACE and DELETE without values remove the attribute.

    Without a value to remove, REPLACE succeeds and DELETE fails (16).
    """

    op: Op
    name: str
    values: tuple[str | bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """Servers, login, TLS, and limits; times in seconds."""

    uris: tuple[str, ...]
    bind_dn: str
    password: str = field(repr=False)
    starttls: bool = False
    ca_file: str = ""
    verify: bool = True
    size: int = 8
    connect_timeout: float = 5.0
    timeout: float = 30.0
    pool_timeout: float = 10.0
    base: str = ""
    """An entry for testing whether a server accepts writes; "": do not test."""
