"""Greylisting: settings of accounts, and whitelisted senders.

iRedAPD reads the rows of all accounts of the recipient, ordered by the priority of the account and
then of the sender. The first row whose sender matches decides; without any, greylisting is off. A
whitelist entry of any of the accounts is enough, and has no priority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from iredapi.domain import addresses, sender_patterns
from iredapi.domain.addresses import InvalidAddress
from iredapi.domain.sender_patterns import EVERYBODY

_DERIVED: Final = "AUTO-UPDATE: "


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of ``greylisting``: whether mail from a sender to an account is greylisted."""

    number: int
    account: str
    sender: str
    active: bool
    priority: int
    sender_priority: int
    comment: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The effective setting of an account: the row that decides, and the exceptions of senders."""

    decisive: Setting | None
    exceptions: tuple[Setting, ...]

    @property
    def active(self) -> bool:
        """Whether mail is greylisted, apart from the exceptions."""
        return self.decisive is not None and self.decisive.active


def verdict(rows: Sequence[Setting]) -> Verdict:
    """Return the effective setting; ``rows`` are those that iRedAPD finds, by priority."""
    for place, row in enumerate(rows):
        if row.sender == EVERYBODY:
            return Verdict(row, tuple(rows[:place]))
    return Verdict(None, tuple(rows))


LONGEST_DOMAIN: Final = 255 - len(_DERIVED)
"""Maximum length of a sender domain: its name must fit into the comment of derived rows."""


def derived_comment(domain: str) -> str:
    """Return the comment of the rows derived from a sender domain's DNS records."""
    return _DERIVED + domain


@dataclass(frozen=True, slots=True)
class StoredForms:
    """Entries to remove: the texts that they may be stored as, and those that are malformed."""

    texts: frozenset[str]
    malformed: frozenset[str]


def stored_forms(entries: Iterable[str]) -> StoredForms:
    """Return the texts that senders to remove may be stored as: older tools did not normalise."""
    return _stored_forms(entries, sender_patterns.greylisting_sender)


def stored_domain_forms(entries: Iterable[str]) -> StoredForms:
    """Return the texts that sender domains to remove may be stored as."""
    return _stored_forms(entries, addresses.existing_domain)


def _stored_forms(entries: Iterable[str], normal: Callable[[str], str]) -> StoredForms:
    texts, malformed = set(), set()
    for entry in entries:
        text = entry.lower()
        texts.add(text)
        try:
            texts.add(normal(text))
        except InvalidAddress:
            malformed.add(text)
    return StoredForms(frozenset(texts), frozenset(malformed))
