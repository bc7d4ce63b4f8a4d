"""The roles of mailing lists of both kinds; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from iredapi.backends.protocols.values import Profile
from iredapi.domain.lists import MailingList
from iredapi.domain.maillists import MailList


class MailListReader(Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``), to read."""

    async def get(self, address: str) -> MailList | None:
        """Return a list without claiming it. At most three round trips."""

    async def profile(self, address: str) -> Profile | None:
        """Return what GET shows, with the members."""

    async def primaries(self, domain: str, addresses: Collection[str]) -> Mapping[str, str]:
        """Return the primary addresses of a domain's accounts by those that were asked for.

        Addresses that no account of the domain has are missing.
        """


class MailLists(MailListReader, Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``)."""

    async def claim(self, address: str) -> MailList | None:
        """Return a list and hold it."""

    async def add(self, mail_list: MailList) -> None:
        """Add a list with its members; internal ones exist."""

    async def save(self, before: MailList, after: MailList) -> None:
        """Write the difference."""

    async def remove(self, address: str) -> None:
        """Remove a list, everybody's membership in it, and everything that points to it."""


class ListReader(Protocol):
    """Subscribable mailing lists: what makes mail get to them, and what iRedAPD reads.

    Subscribers and settings are the list server's (``list_protocols``).
    """

    async def get(self, address: str) -> MailingList | None:
        """Return a list without claiming it. At most two round trips."""

    async def has_any(self) -> bool:
        """Tell whether there may be a list in any domain. One round trip."""

    async def other_addresses(self, address: str) -> frozenset[str]:
        """Return what leads to a list in any spelling. Slow: no index helps."""

    async def page(self, domain: str, after: str, limit: int) -> list[MailingList]:
        """Return lists. At most two round trips."""

    async def addresses(self, domain: str, after: str, limit: int) -> list[str]:
        """Return addresses."""

    async def managed_by(self, mails: Collection[str], domains: Collection[str]) -> frozenset[str]:
        """Return the lists that have one of these people, or one of these domains, for owner or
        moderator.
        """


class Lists(ListReader, Protocol):
    """Subscribable mailing lists, as ``ListReader``."""

    async def claim(self, address: str) -> MailingList | None:
        """Return a list and hold it."""

    async def add(self, item: MailingList) -> None:
        """Add a list, so that mail gets to it."""

    async def save(self, before: MailingList, after: MailingList) -> None:
        """Write the difference; ``active`` goes for all its addresses."""

    async def remove(self, address: str) -> None:
        """Remove a list and everything that points to it; one that is not there is no error."""
