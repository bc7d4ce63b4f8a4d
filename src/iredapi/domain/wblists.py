"""White- and blacklists: directions, kinds, and the parsing of address lists.

Inbound lists apply to mail *from* the addresses *to* the account, outbound lists to mail *from* the
account *to* the addresses. An address is on only one of the two lists of an account and direction:
adding it to one removes it from the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from iredapi.domain import addresses, sender_patterns


class Direction(StrEnum):
    """Direction of mail."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Kind(StrEnum):
    """Kind of list."""

    WHITELIST = "whitelist"
    BLACKLIST = "blacklist"

    @property
    def mark(self) -> str:
        """The value of the column ``wb``; iRedAPD knows these two letters only."""
        return "W" if self is Kind.WHITELIST else "B"


@dataclass(frozen=True, slots=True)
class AddressList:
    """The items of a sent list, and which of them are valid addresses."""

    items: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    """In normal form, without duplicates."""
    invalid: tuple[str, ...] = ()

    @property
    def spellings(self) -> frozenset[str]:
        """All texts that the items may be stored as: other programs do not normalise."""
        return frozenset({*self.valid, *self.items})


def parse_addresses(items: Iterable[str]) -> AddressList:
    """Parse the items of a sent list."""
    sent = tuple(items)
    valid, invalid = [], []
    for item in sent:
        try:
            valid.append(sender_patterns.wblist_address(item))
        except addresses.InvalidAddress:
            invalid.append(item)
    return AddressList(sent, addresses.unique(valid), tuple(invalid))
