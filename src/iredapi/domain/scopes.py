"""Whom a policy is for: everybody, a domain, or one address; and the two scales of priorities.

The accounts are stored as the daemons ask for them: ``@.``, ``@example.com``,
``user@example.com``. Higher priorities win everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from iredapi.domain import addresses

EVERYBODY: Final = "global"
"""The word in the path for all accounts of the server."""


class Kind(StrEnum):
    """How wide a scope is."""

    GLOBAL = "global"
    DOMAIN = "domain"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a policy is for. ``name`` is ``global``, a domain or an address, as in the path."""

    kind: Kind
    name: str

    @property
    def account(self) -> str:
        """The form that is stored in ``users.email``, ``throttle.account`` and so on."""
        return {Kind.GLOBAL: "@.", Kind.DOMAIN: f"@{self.name}", Kind.USER: self.name}[self.kind]

    @property
    def accounts(self) -> tuple[str, ...]:
        """All forms of it that the daemons ask for, the one that we write first.

        ``@.example.com``, which other programs write, is a domain with all below it.
        """
        if self.kind is Kind.DOMAIN:
            return (self.account, f"@.{self.name}")
        return (self.account,)

    @property
    def domain(self) -> str:
        """The domain whose admins are responsible; empty for the global scope."""
        return "" if self.kind is Kind.GLOBAL else addresses.domain_of(self.name)

    @property
    def lookup_accounts(self) -> tuple[str, ...]:
        """The accounts that iRedAPD asks for, the scope's own first, everybody last."""
        if self.kind is Kind.GLOBAL:
            return (self.account,)
        labels = self.domain.split(".")
        above = [f"@.{'.'.join(labels[place:])}" for place in range(len(labels))]
        found = (self.account, f"@{self.domain}", *above, "@.")
        return addresses.unique(found)

    @property
    def amavisd_priority(self) -> int:
        """``amavisd.users.priority``: Amavisd's scale of 0 to 10."""
        return {Kind.GLOBAL: 0, Kind.DOMAIN: 5, Kind.USER: 10}[self.kind]

    @property
    def iredapd_priority(self) -> int:
        """``priority`` of throttle and greylisting rows: iRedAPD's scale of 0 to 100."""
        return {Kind.GLOBAL: 0, Kind.DOMAIN: 60, Kind.USER: 100}[self.kind]


def scope(text: str) -> Scope:
    """Read ``global``, a domain or an address. Raises InvalidAddress."""
    word = text.strip()
    if word.lower() == EVERYBODY:
        return Scope(Kind.GLOBAL, EVERYBODY)
    if "@" in word:
        return Scope(Kind.USER, addresses.existing_mail(word))
    return Scope(Kind.DOMAIN, addresses.existing_domain(word))
