"""Searches over all kinds of accounts, and what an address is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = ("domain", "user", "alias", "ml", "maillist")
"""Kinds of results, in the order in which they are shown."""
OWNERS: Final = ("user", "alias", "ml", "maillist", "alias_address", "forwarding", "admin", "free")
"""What an address is; the first that fits counts."""

_STATUS: Final = {None: None, True: "active", False: "disabled"}


@dataclass(frozen=True, slots=True)
class Found:
    """One result."""

    kind: str
    address: str
    name: str
    active: bool | None
    """None: it is hidden."""
    exact: bool = False
    """Whether the address is what was searched for."""

    def to_response(self) -> dict[str, Any]:
        """Return the item of the answer."""
        return {
            "kind": self.kind,
            "address": self.address,
            "name": self.name,
            "accountStatus": _STATUS[self.active],
            "exact": self.exact,
        }


def in_order(found: list[Found]) -> list[Found]:
    """Return results in the order of the answer: exact ones first, then by kind and address."""
    return sorted(found, key=lambda item: (not item.exact, KINDS.index(item.kind), item.address))


@dataclass(frozen=True, slots=True)
class Owner:
    """What an address is, and the account that has it."""

    kind: str = "free"
    account: str = ""
    """Empty without an account."""


def owner(found: list[Owner]) -> Owner:
    """Return the one that counts."""
    return min(found, key=lambda item: (OWNERS.index(item.kind), item.account), default=Owner())
