"""Scopes of policies (all accounts, a domain, one address), and their priorities.

Accounts are stored as the daemons look them up: ``@.``, ``@example.com``, ``user@example.com``. The
row with the higher priority has precedence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from iredapi.domain import addresses

EVERYBODY: Final = "global"
"""The word in request paths for all accounts of the server."""


class Kind(StrEnum):
    """Kinds of scopes."""

    GLOBAL = "global"
    DOMAIN = "domain"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Scope:
    """Scope of a policy. ``name`` is ``global``, a domain or an address, as in the path."""

    kind: Kind
    name: str

    @property
    def account(self) -> str:
        """The account as stored in ``users.email``, ``throttle.account`` and so on."""
        return {Kind.GLOBAL: "@.", Kind.DOMAIN: f"@{self.name}", Kind.USER: self.name}[self.kind]

    @property
    def accounts(self) -> tuple[str, ...]:
        """All forms of the account that the daemons look up; the one that we store is first.

        ``@.example.com``, which other programs store, is a domain with its subdomains.
        """
        if self.kind is Kind.DOMAIN:
            return (self.account, f"@.{self.name}")
        return (self.account,)

    @property
    def domain(self) -> str:
        """The domain whose admins manage the policy; empty for the global scope."""
        return "" if self.kind is Kind.GLOBAL else addresses.domain_of(self.name)

    @property
    def lookup_accounts(self) -> tuple[str, ...]:
        """The accounts that iRedAPD looks up: the scope's own first, ``@.`` (all) last."""
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
    """Parse ``global``, a domain or an address. Raises InvalidAddress."""
    word = text.strip()
    if word.lower() == EVERYBODY:
        return Scope(Kind.GLOBAL, EVERYBODY)
    if "@" in word:
        return Scope(Kind.USER, addresses.existing_mail(word))
    return Scope(Kind.DOMAIN, addresses.existing_domain(word))
