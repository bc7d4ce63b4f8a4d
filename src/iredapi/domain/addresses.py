"""Mail addresses and domain names: a strict grammar for new ones, a lenient one for existing ones.

ASCII only: Postfix runs with ``smtputf8_enable = no`` on iRedMail; MariaDB has some address columns
in ASCII and ignores accents in comparisons. Unicode domain names become punycode (IDNA 2008).
Everything is lower case. Every parser raises ``InvalidAddress`` for text that does not match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Self

import idna

MAX_ADDRESS = 254
MAX_LOCAL = 64
MAX_DOMAIN = 253
MAX_STORED = 255
"""Maximum length of a database column, in characters."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOP_LABEL = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])")
# Existing domains may have underscores: older tools accepted them.
_LENIENT_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Local part of an account here: what iRedMail's tools allow. Postfix bounces a leading "-".
_ACCOUNT = re.compile(r"[a-z0-9_#][a-z0-9_.&#-]*")
# Local part of any address: also an extension, a VERP form, and all other atoms of RFC 5322.
_ANYBODY = re.compile(r"[a-z0-9_#!$%&'*/=?^`{|}~+][a-z0-9_.#!$%&'*/=?^`{|}~+-]*")
_PRINTABLE = re.compile(r"[!-~]+")


class InvalidAddress(ValueError):
    """The text is not an address or domain name of the required kind."""


def fold(text: str) -> str:
    """Return the form in which addresses and domain names are compared, on every storage."""
    return text.strip().lower()


class Name(str):
    """The folded name of an existing account or domain, with the client's spelling of it.

    Names that other tools stored may differ in case only, or may be no valid addresses.
    """

    __slots__ = ("typed", "well_formed")

    typed: str
    """The name as the client sent it, without surrounding blanks."""
    well_formed: bool
    """Whether the name matches the grammar."""

    @classmethod
    def of(cls, text: str, read: Callable[[str], str]) -> Self:
        """Return the name in a text; ``read`` is the parser of the grammar that it should match."""
        try:
            found, well_formed = read(text), True
        except InvalidAddress:
            found, well_formed = fold(text), False
        name = cls(found)
        name.typed, name.well_formed = text.strip(), well_formed
        return name


def spellings(text: str) -> frozenset[str]:
    """Return the folded forms that a name is compared in: as sent, and in its normal form."""
    found = frozenset({fold(text)})
    return found | {fold(text.typed)} if isinstance(text, Name) else found


def typed(text: str) -> str:
    """Return a name as the client sent it."""
    return text.typed if isinstance(text, Name) else text


def without(present: Iterable[str], removed: Iterable[str]) -> frozenset[str]:
    """Return the stored values without those that compare equal to one of ``removed``."""
    wanted = frozenset[str]().union(*map(spellings, removed))
    return frozenset(value for value in present if fold(value) not in wanted)


def joined(present: Collection[str], new: Iterable[str]) -> frozenset[str]:
    """Return the stored values, and the new ones that compare equal to none of them."""
    there = {fold(value) for value in present}
    return frozenset(present) | {value for value in new if fold(value) not in there}


def domain_of(mail: str) -> str:
    """Return the part after the last ``@``, folded: the domain whose admins manage the address."""
    return mail.rpartition("@")[2].rstrip().lower()


def local_part_of(mail: str) -> str:
    """Return the part before the last ``@``."""
    return mail.rpartition("@")[0]


def domain_name(text: str) -> str:
    """Parse the name of a new domain, at least two labels; return it in lower-case ASCII."""
    return _domain(text, _LABEL)


@lru_cache(maxsize=4096)
def existing_domain(text: str) -> str:
    """Parse the name of a domain that may exist, or the domain part of any address."""
    return _domain(text, _LENIENT_LABEL)


def _domain(text: str, label_pattern: re.Pattern[str]) -> str:
    name = text.strip().lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise InvalidAddress("not a domain name") from None
    labels = name.split(".")
    if (
        len(name) > MAX_DOMAIN
        or len(labels) < 2
        or not all(label_pattern.fullmatch(label) for label in labels[:-1])
        or not _TOP_LABEL.fullmatch(labels[-1])
    ):
        raise InvalidAddress("not a domain name such as example.com")
    return name


def _split(text: str, local_pattern: re.Pattern[str]) -> str:
    local, at, domain = text.strip().rpartition("@")
    local = local.lower()
    if not at or not local_pattern.fullmatch(local) or len(local) > MAX_LOCAL:
        raise InvalidAddress("not an e-mail address such as user@example.com")
    mail = f"{local}@{existing_domain(domain)}"
    if len(mail) > MAX_ADDRESS:
        raise InvalidAddress(f"longer than {MAX_ADDRESS} characters")
    return mail


def _dots_are_between(mail: str) -> str:
    local = local_part_of(mail)
    if local.startswith(".") or local.endswith(".") or ".." in local:
        raise InvalidAddress("a dot stands at an end, or twice in a row")
    return mail


def new_account(text: str) -> str:
    """Parse the address of a new account (user, alias, list, admin)."""
    return _dots_are_between(_split(text, _ACCOUNT))


def any_mail(text: str) -> str:
    """Parse any mail address: a forwarding destination, a member, a BCC address."""
    return _dots_are_between(_split(text, _ANYBODY))


def existing_mail(text: str) -> str:
    """Parse an address that may be stored already: any printable local part.

    What older tools stored must be readable and removable. ``@`` inside the local part is refused:
    the domain of ``a@b@c`` is ambiguous.
    """
    mail = _split(text, _PRINTABLE)
    if "@" in local_part_of(mail):
        raise InvalidAddress("more than one @")
    return mail


DOVECOT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-_@"
"""Dovecot's default characters of user names (``auth_username_chars``), in lower case."""


def strange_characters(mail: str, allowed: str) -> str:
    """Return the characters of an address that Dovecot refuses; empty ``allowed``: none."""
    lower = mail.lower()
    if not allowed or _characters(allowed).issuperset(lower):
        return ""
    return "".join(sorted(set(lower) - _characters(allowed), key=lower.index))


@lru_cache(maxsize=16)
def _characters(allowed: str) -> frozenset[str]:
    return frozenset(allowed.lower())


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values without duplicates, in their order."""
    return tuple(dict.fromkeys(values))


def can_have_accounts(name: str) -> bool:
    """Tell whether there can be accounts in a domain of this name.

    Other programs store alias domains with empty names, too: ``@.`` would be an account of them.
    """
    return bool(fold(name).strip("."))
