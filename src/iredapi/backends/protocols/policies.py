"""The roles of the policy databases: always SQL, whatever the account storage is.

Accounts are in their stored form (``@.``, ``@domain``, an address). All methods raise NotSupported
when the database is not configured. Otherwise as in ``backends.protocols``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from iredapi.domain.greylists import Setting
from iredapi.domain.scopes import Scope
from iredapi.domain.spam import Policy
from iredapi.domain.throttles import Throttle
from iredapi.domain.wblists import Direction, Kind


class SpamPolicyReader(Protocol):
    """Amavisd's policies, to read."""

    async def get(self, scope: Scope) -> Policy | None:
        """Return the account's own policy with all its columns. One round trip."""

    async def layers(self, accounts: Sequence[str]) -> list[Policy]:
        """Return what Amavisd finds for these accounts, the highest priority first.

        A policy is told under the account that leads to it, whoever it belongs to. One round trip.
        """


class SpamPolicies(SpamPolicyReader, Protocol):
    """Amavisd's policies. An account has one of its own, or none."""

    async def claim(self, scope: Scope) -> Policy | None:
        """Return the account's own policy and hold the account: nobody else gives it one."""

    async def add(self, policy: Policy) -> None:
        """Give a held account without a policy its own."""

    async def save(self, before: Policy, after: Policy) -> None:
        """Write the difference of a held policy."""

    async def remove(self, scope: Scope) -> None:
        """Remove the account's own policy, if it has one; its lists stay."""


class WblistReader(Protocol):
    """White- and blacklists, to read. Each call is one round trip."""

    async def page(
        self, scope: Scope, direction: Direction, kind: Kind, after: str, limit: int
    ) -> list[str]:
        """Return the addresses of a list as they are stored, after an address. One round trip."""

    async def stored(
        self,
        scope: Scope,
        direction: Direction,
        kind: Kind,
        addresses: Collection[str],
        *,
        exact: bool = False,
    ) -> frozenset[str]:
        """Return which addresses are on a list; ``exact``: as we would store it. One round trip."""

    async def listed(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Collection[str]
    ) -> frozenset[str]:
        """Return what is on a list and compares equal to one of some addresses, as it is stored."""


class Wblists(WblistReader, Protocol):
    """White- and blacklists. Each call is a constant number of round trips."""

    async def add(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Mapping[str, int]
    ) -> None:
        """Put addresses, each with its priority, on a list and take them from the other one."""

    async def remove(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Collection[str]
    ) -> None:
        """Take addresses from a list, if they are on it."""

    async def clear(self, scope: Scope, direction: Direction, kind: Kind) -> None:
        """Take all addresses from a list."""


class ThrottleReader(Protocol):
    """Limits of how much mail is sent and received, to read."""

    @property
    def largest_counts(self) -> Mapping[str, int]:
        """Up to where iRedAPD can count for a limit, where the database's columns are narrower."""

    async def get(self, account: str, direction: str) -> Throttle | None:
        """Return an account's own setting. One round trip."""

    async def matching(self, accounts: Collection[str], direction: str) -> list[Throttle]:
        """Return the settings of these accounts, the highest priority first. One round trip."""


class Throttles(ThrottleReader, Protocol):
    """Limits of how much mail is sent and received."""

    async def claim(self, account: str, direction: str) -> Throttle:
        """Return an account's setting and hold it; a missing one is made, and limits nothing.

        Where the storage has several for the same account, the one that counts stays.
        """

    async def save(self, before: Throttle, after: Throttle) -> None:
        """Write the difference; what the daemon has counted so far stays."""

    async def remove(self, account: str, direction: str) -> bool:
        """Remove an account's setting and what was counted for it; tell whether there was one."""


class GreylistReader(Protocol):
    """Greylisting, to read."""

    @property
    def longest(self) -> int:
        """Most characters of an account or a sender."""

    async def get(self, account: str) -> Setting | None:
        """Return an account's own setting for all senders."""

    async def matching(self, accounts: Collection[str]) -> list[Setting]:
        """Return all rows of these accounts in the order in which the daemon tries them."""

    async def page(self, after: Setting | None, limit: int) -> list[Setting]:
        """Return rows of all accounts, in the same order."""

    async def senders(self, accounts: Collection[str], after: str, limit: int) -> list[str]:
        """Return whitelisted senders."""

    async def stored_senders(
        self, accounts: Collection[str], texts: Collection[str]
    ) -> frozenset[str]:
        """Return which texts are whitelisted, letter by letter but for their case."""

    async def domains(self, after: str, limit: int) -> list[str]:
        """Return the domains whose senders' networks are whitelisted for everybody."""

    async def stored_domains(self, texts: Collection[str]) -> frozenset[str]:
        """Return which of these are among them, whatever the case of their letters."""


class Greylists(GreylistReader, Protocol):
    """Greylisting."""

    async def save(self, account: str, priority: int, *, active: bool) -> None:
        """Switch greylisting on or off for an account and all senders."""

    async def remove(self, account: str) -> bool:
        """Remove that setting; rows for single senders stay. Tell whether there was one."""

    async def add_senders(self, account: str, senders: Collection[str]) -> None:
        """Whitelist senders that are not yet."""

    async def remove_senders(self, account: str, texts: Collection[str]) -> None:
        """Take entries off a whitelist, whatever the case of their letters."""

    async def replace_senders(self, account: str, senders: Collection[str]) -> None:
        """Make a whitelist of exactly these; of two at a time one is the last."""

    async def add_domains(self, domains: Collection[str]) -> None:
        """Add such domains."""

    async def remove_domains(self, texts: Collection[str]) -> None:
        """Remove such domains, and the networks that were derived from them."""

    async def replace_domains(self, domains: Collection[str]) -> None:
        """Keep exactly these, and remove the others as above."""

    async def save_derived(
        self, networks: Mapping[str, Collection[str]], *, complete: Collection[str]
    ) -> None:
        """Store the networks of domains, in place of those that the ``complete`` ones had."""
