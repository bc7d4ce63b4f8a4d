"""White- and blacklists: directions, kinds, and what of a client's list is an address.

Inbound lists are about mail *from* the addresses *to* the account, outbound ones about mail *from*
the account *to* the addresses. An address is on one of the two lists of an account and direction:
adding it to one takes it from the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from iredapi.domain import addresses, sender_patterns


class Direction(StrEnum):
    """Which way the mail goes."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Kind(StrEnum):
    """Which list."""

    WHITELIST = "whitelist"
    BLACKLIST = "blacklist"

    @property
    def mark(self) -> str:
        """What is stored in ``wb``; the daemon knows these two letters only."""
        return "W" if self is Kind.WHITELIST else "B"


@dataclass(frozen=True, slots=True)
class AddressList:
    """The items of a list as they were sent, and what they are."""

    items: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    """In normal form, without repetition."""
    invalid: tuple[str, ...] = ()

    @property
    def spellings(self) -> frozenset[str]:
        """Everything that an item may be stored as: other programs store what we would not."""
        return frozenset({*self.valid, *self.items})


def parse_addresses(items: Iterable[str]) -> AddressList:
    """Sort out what was sent."""
    sent = tuple(items)
    valid, invalid = [], []
    for item in sent:
        try:
            valid.append(sender_patterns.wblist_address(item))
        except addresses.InvalidAddress:
            invalid.append(item)
    return AddressList(sent, addresses.unique(valid), tuple(invalid))
