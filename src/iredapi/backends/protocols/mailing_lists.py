"""What keeps mlmmj's lists promises, whether it is mlmmjadmin or this process itself.

Lists are named by addresses that ``domain.lists.is_safe`` has passed. The caller holds the list's
lock during every change, so that no two of ours overlap. Every method raises ApiError with status
503 when the server is away or fails; what it was doing may then have happened or not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from iredapi.domain.lists import Control, Subscriber
from iredapi.errors import ApiError


class Untouched(ApiError):
    """The list server was not reached, or refused us: nothing can have happened there."""


class Subscriptions(Protocol):
    """Who is subscribed to the lists."""

    def accepts(self, mail: str) -> bool:
        """Tell whether the server can handle an address; others it would drop without a word."""

    def can_drop(self, mail: str) -> bool:
        """Tell whether the server can unsubscribe an address that is subscribed."""

    async def subscribers(self, address: str) -> list[Subscriber]:
        """Return all subscribers, sorted by address."""

    async def subscriptions(self, address: str, mails: Collection[str]) -> dict[str, str]:
        """Return which of these are subscribed, and how."""

    async def add(self, address: str, mails: Sequence[str], version: str) -> None:
        """Subscribe people who are not subscribed, without telling them. May be repeated."""

    async def drop(self, address: str, mails: Sequence[str]) -> None:
        """Unsubscribe people, whatever their kind, without telling them. May be repeated."""

    async def invite(self, address: str, mails: Sequence[str], version: str) -> None:
        """Ask people by mail to confirm a subscription. Never retried automatically."""

    async def lists_of(self, mail: str) -> dict[str, str]:
        """Return the lists to which an address is subscribed, with the kind of subscription."""


class ListServer(Subscriptions, Protocol):
    """The lists' settings, subscribers and archives."""

    async def ping(self) -> None:
        """Raise unless the server works."""

    async def exists(self, address: str) -> bool:
        """Tell whether there is data of a list, be it what another one left behind."""

    async def get(self, address: str) -> Control | None:
        """Return what mlmmj obeys; None: there is no such list."""

    async def create(self, address: str, control: Control) -> None:
        """Create a list that does not exist (see ``exists``). Never retried automatically."""

    async def save(self, address: str, before: Control, after: Control) -> None:
        """Write the difference. May be repeated."""

    async def remove(self, address: str, *, archive: bool) -> None:
        """Remove a list, or move it to the archive; one that is not there is no error."""

    async def close(self) -> None:
        """Give back what is open."""
