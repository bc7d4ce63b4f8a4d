"""The roles of mailing lists of both kinds; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from iredapi.backends.protocols.accounts import Listed
from iredapi.backends.protocols.values import Profile
from iredapi.domain.lists import MailingList
from iredapi.domain.maillists import MailList


class MailListReader(Listed, Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``), to read.

    They can be sorted by ``name``, ``created`` and ``modified``.
    """

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        """Return profiles, by names that ``keys`` returned; some may be gone."""

    async def records_of(self, names: Sequence[str]) -> Mapping[str, MailList]:
        """Return lists, by names that ``keys`` returned; some may be gone."""

    async def get(self, address: str) -> MailList | None:
        """Return a list without claiming it. At most three round trips."""

    async def profile(self, address: str) -> Profile | None:
        """Return the data of the GET answer, with the members."""

    async def primaries(self, domain: str, addresses: Collection[str]) -> Mapping[str, str]:
        """Map addresses to the primary addresses of the accounts of a domain that have them.

        Addresses without an account are missing.
        """


class MailLists(MailListReader, Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``)."""

    async def claim(self, address: str) -> MailList | None:
        """Return a list and lock it."""

    async def add(self, mail_list: MailList) -> None:
        """Add a list with its members; members in local domains must exist."""

    async def save(self, before: MailList, after: MailList) -> None:
        """Write the difference."""

    async def remove(self, address: str) -> None:
        """Remove a list, all memberships in it, and everything that points to it."""


class ListReader(Listed, Protocol):
    """Subscribable mailing lists: what Postfix and iRedAPD read of them.

    Subscribers and settings are kept by the list server (``protocols.mailing_lists``). They can be
    sorted by ``name``, ``created`` and ``modified``.
    """

    async def records_of(self, names: Sequence[str]) -> Mapping[str, MailingList]:
        """Return lists as ``page`` does, by names that ``keys`` returned; some may be gone."""

    async def get(self, address: str) -> MailingList | None:
        """Return a list without claiming it. At most two round trips."""

    async def has_any(self) -> bool:
        """Return whether there may be a list in any domain. One round trip."""

    async def other_addresses(self, address: str) -> frozenset[str]:
        """Return further addresses of a list, stored in any spelling. Slow: uses no index."""

    async def page(self, domain: str, after: str, limit: int) -> list[MailingList]:
        """Return lists. At most two round trips."""

    async def addresses(self, domain: str, after: str, limit: int) -> list[str]:
        """Return addresses."""

    async def managed_by(self, mails: Collection[str], domains: Collection[str]) -> frozenset[str]:
        """Return lists with an owner or moderator among ``mails`` or in one of ``domains``."""


class Lists(ListReader, Protocol):
    """Subscribable mailing lists, as ``ListReader``."""

    async def claim(self, address: str) -> MailingList | None:
        """Return a list and lock it."""

    async def add(self, item: MailingList) -> None:
        """Add a list, so that mail gets to it."""

    async def save(self, before: MailingList, after: MailingList) -> None:
        """Write the difference; ``active`` is written for all addresses of the list."""

    async def remove(self, address: str) -> None:
        """Remove a list and everything that points to it; a missing one is no error."""
