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

    async def within(self, domains: Collection[str] | None, after: str, limit: int) -> list[Policy]:
        """Return the next policies of accounts in these domains, sorted by account; None: of all.

        Each is returned with the account that uses it. One round trip.
        """

    async def layers(self, accounts: Sequence[str]) -> list[Policy]:
        """Return the policies that Amavisd finds for these accounts, the highest priority first.

        Each is returned with the account by which it was found, which need not own it. One round
        trip.
        """


class SpamPolicies(SpamPolicyReader, Protocol):
    """Amavisd's policies. An account has one of its own, or none."""

    async def claim(self, scope: Scope) -> Policy | None:
        """Return the account's own policy and lock the account, also without a policy."""

    async def add(self, policy: Policy) -> None:
        """Add a policy to a claimed account without one."""

    async def save(self, before: Policy, after: Policy) -> None:
        """Write the difference of a claimed policy."""

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
        """Return which addresses are on a list; ``exact``: in our spelling. One round trip."""

    async def within(
        self,
        domains: Collection[str] | None,
        direction: Direction,
        kind: Kind,
        after: tuple[str, str],
        limit: int,
    ) -> list[tuple[str, str]]:
        """Return the next accounts in these domains with an address of their list; None: of all.

        Sorted by account and address; ``after``: behind this pair.
        """

    async def listed(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Collection[str]
    ) -> frozenset[str]:
        """Return entries of a list that equal one of the addresses in any spelling, as stored."""


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
        """The largest value of each limit that the columns of iRedAPD's counters can hold."""

    async def get(self, account: str, direction: str) -> Throttle | None:
        """Return an account's own setting. One round trip."""

    async def matching(self, accounts: Collection[str], direction: str) -> list[Throttle]:
        """Return the settings of these accounts, the highest priority first. One round trip."""

    async def within(
        self, domains: Collection[str] | None, after: tuple[str, str], limit: int
    ) -> list[Throttle]:
        """Return the next settings of accounts in these domains; None: of all. One round trip.

        Sorted by account and direction; ``after``: behind this pair. Of several settings of one
        account and direction the one that iRedAPD uses is the first.
        """


class Throttles(ThrottleReader, Protocol):
    """Limits of how much mail is sent and received."""

    async def claim(self, account: str, direction: str) -> Throttle:
        """Return an account's setting and lock it; a missing one is created without limits.

        When the account has several, all but the one that iRedAPD uses are removed.
        """

    async def save(self, before: Throttle, after: Throttle) -> None:
        """Write the difference; the daemon's counters stay."""

    async def remove(self, account: str, direction: str) -> bool:
        """Remove an account's setting and its counters; return whether there was one."""


class GreylistListings(Protocol):
    """Greylisting of many accounts."""

    async def within(
        self, domains: Collection[str] | None, after: str, limit: int
    ) -> list[Setting]:
        """Return the next accounts' own settings for all senders, sorted by account.

        ``domains``: of accounts in these; None: of all. One round trip.
        """

    async def whitelisted(
        self, domains: Collection[str] | None, after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]:
        """Return the next accounts in these domains with a whitelisted sender; None: of all.

        Sorted by account and sender; ``after``: behind this pair. One round trip.
        """


class GreylistReader(GreylistListings, Protocol):
    """Greylisting, to read."""

    @property
    def longest(self) -> int:
        """The maximum length of an account or a sender, in characters."""

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
        """Return which of these texts are whitelisted; case is ignored."""

    async def domains(self, after: str, limit: int) -> list[str]:
        """Return the domains whose senders' networks are whitelisted for all accounts."""

    async def stored_domains(self, texts: Collection[str]) -> frozenset[str]:
        """Return which of these texts are such domains; case is ignored."""


class Greylists(GreylistReader, Protocol):
    """Greylisting."""

    async def save(self, account: str, priority: int, *, active: bool) -> None:
        """Switch greylisting on or off for an account and all senders."""

    async def remove(self, account: str) -> bool:
        """Remove that setting; rows for single senders stay. Return whether there was one."""

    async def add_senders(self, account: str, senders: Collection[str]) -> None:
        """Whitelist senders; those that are whitelisted already are skipped."""

    async def remove_senders(self, account: str, texts: Collection[str]) -> None:
        """Remove entries from a whitelist; case is ignored."""

    async def replace_senders(self, account: str, senders: Collection[str]) -> None:
        """Replace a whitelist by these senders; parallel calls are serialised."""

    async def add_domains(self, domains: Collection[str]) -> None:
        """Add domains whose senders' networks are whitelisted."""

    async def remove_domains(self, texts: Collection[str]) -> None:
        """Remove such domains, and the networks that were found for them."""

    async def replace_domains(self, domains: Collection[str]) -> None:
        """Replace all such domains by these; networks of removed ones are removed."""

    async def save_derived(
        self, networks: Mapping[str, Collection[str]], *, complete: Collection[str]
    ) -> None:
        """Add networks of domains; for ``complete`` domains they replace the stored ones."""
