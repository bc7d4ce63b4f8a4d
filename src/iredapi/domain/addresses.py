"""Mail addresses and domain names: the strict grammar for new ones, the lenient for what is there.

ASCII only: Postfix runs with ``smtputf8_enable = no`` on iRedMail, MariaDB keeps some address
columns in ASCII and compares accents away. Unicode domain names become punycode (IDNA 2008).
Everything is lower case. Every function raises ``InvalidAddress`` for text that does not fit.
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
"""Most characters that a database has room for."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOP_LABEL = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])")
# Domains that are there already may have underscores: older tools accepted them.
_LENIENT_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A local account's name: the characters that iRedMail's tools allow; Postfix bounces a leading "-".
_ACCOUNT = re.compile(r"[a-z0-9_#][a-z0-9_.&#-]*")
# Anybody's address may also have an extension or a VERP form, and the rest of RFC 5322's atoms.
_ANYBODY = re.compile(r"[a-z0-9_#!$%&'*/=?^`{|}~+][a-z0-9_.#!$%&'*/=?^`{|}~+-]*")
_PRINTABLE = re.compile(r"[!-~]+")


class InvalidAddress(ValueError):
    """The text is no address or domain name of the kind that is asked for."""


def fold(text: str) -> str:
    """Return the form in which addresses and domain names are compared, on every storage."""
    return text.strip().lower()


class Name(str):
    """The name of something that is there, in folded form, as all rules know it.

    What other tools have stored may be told apart by capitals alone, or may be no address at all.
    """

    __slots__ = ("typed", "well_formed")

    typed: str
    """What the client wrote, without surrounding blanks."""
    well_formed: bool
    """Whether it is an address (or a domain name) by the grammar."""

    @classmethod
    def of(cls, text: str, read: Callable[[str], str]) -> Self:
        """Return the name of what may be there; ``read`` is the grammar that it should have."""
        try:
            found, well_formed = read(text), True
        except InvalidAddress:
            found, well_formed = fold(text), False
        name = cls(found)
        name.typed, name.well_formed = text.strip(), well_formed
        return name


def spellings(text: str) -> frozenset[str]:
    """Return what a name may be compared as, folded: as it was typed, and in its normal form."""
    found = frozenset({fold(text)})
    return found | {fold(text.typed)} if isinstance(text, Name) else found


def typed(text: str) -> str:
    """Return a name as the client wrote it."""
    return text.typed if isinstance(text, Name) else text


def without(present: Iterable[str], gone: Iterable[str]) -> frozenset[str]:
    """Return what is stored but for what compares equal to one of some texts."""
    wanted = frozenset[str]().union(*map(spellings, gone))
    return frozenset(value for value in present if fold(value) not in wanted)


def joined(present: Collection[str], new: Iterable[str]) -> frozenset[str]:
    """Return what is stored, and new values that none of it compares equal to."""
    there = {fold(value) for value in present}
    return frozenset(present) | {value for value in new if fold(value) not in there}


def domain_of(mail: str) -> str:
    """Return the part after the last ``@``, folded: the domain whose admins are responsible."""
    return mail.rpartition("@")[2].rstrip().lower()


def local_part_of(mail: str) -> str:
    """Return the part before the last ``@``."""
    return mail.rpartition("@")[0]


def domain_name(text: str) -> str:
    """Return the lower-case, ASCII form of a new domain's name: at least two labels."""
    return _domain(text, _LABEL)


@lru_cache(maxsize=4096)
def existing_domain(text: str) -> str:
    """Return the form of a domain name that may be there already, or be part of an address."""
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
    """Return the address of an account that is to be made here (user, alias, list, admin)."""
    return _dots_are_between(_split(text, _ACCOUNT))


def any_mail(text: str) -> str:
    """Return anybody's address: a forwarding destination, a member, a BCC address."""
    return _dots_are_between(_split(text, _ANYBODY))


def existing_mail(text: str) -> str:
    """Return an address that may already be in a database: lenient in its local part.

    What older tools stored must be readable and removable, so only what could not be an address
    at all is refused. ``@`` inside the local part is: who owns ``a@b@c``?
    """
    mail = _split(text, _PRINTABLE)
    if "@" in local_part_of(mail):
        raise InvalidAddress("more than one @")
    return mail


DOVECOT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-_@"
"""What Dovecot takes in the name of a user (``auth_username_chars``), in lower case."""


def strange_characters(mail: str, allowed: str) -> str:
    """Return the characters of a user's address that Dovecot refuses; nothing allowed: any are."""
    strange = set(mail.lower()).difference(allowed.lower()) if allowed else ()
    return "".join(sorted(strange, key=mail.lower().index))


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values without repetition, in their order."""
    return tuple(dict.fromkeys(values))
