"""Greylisting: who is asked to come back later, and which senders are not.

The daemon takes the rows of all accounts of the recipient, by the account's priority and then the
sender's, and the first one whose sender matches decides; without any, greylisting is off. A
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
    """One row: whether mail from a sender to an account is greylisted."""

    number: int
    account: str
    sender: str
    active: bool
    priority: int
    sender_priority: int
    comment: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to an account's mail: the row that decides, and those for some senders."""

    decisive: Setting | None
    exceptions: tuple[Setting, ...]

    @property
    def active(self) -> bool:
        """Whether mail is greylisted, but for the exceptions."""
        return self.decisive is not None and self.decisive.active


def verdict(rows: Sequence[Setting]) -> Verdict:
    """Return what the rows of all accounts that the daemon asks for, by priority, amount to."""
    for place, row in enumerate(rows):
        if row.sender == EVERYBODY:
            return Verdict(row, tuple(rows[:place]))
    return Verdict(None, tuple(rows))


LONGEST_DOMAIN: Final = 255 - len(_DERIVED)
"""Characters of a sender domain that the mark of its derived rows has room for."""


def derived_comment(domain: str) -> str:
    """Return the mark of the rows that come from a sender domain's DNS records."""
    return _DERIVED + domain


@dataclass(frozen=True, slots=True)
class StoredForms:
    """Entries to remove: under which texts they may be stored, and which are malformed."""

    texts: frozenset[str]
    malformed: frozenset[str]


def stored_forms(entries: Iterable[str]) -> StoredForms:
    """Return how the entries to remove may be stored: older tools did not store normal forms."""
    return _stored_forms(entries, sender_patterns.greylisting_sender)


def stored_domain_forms(entries: Iterable[str]) -> StoredForms:
    """Return how the domains to remove may be stored."""
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
