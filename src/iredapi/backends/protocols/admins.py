"""The roles of standalone admins; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from iredapi.backends.protocols.values import Profile
from iredapi.domain import account_settings
from iredapi.domain.actors import Principal
from iredapi.domain.admins import Admin


class AdminReader(Protocol):
    """Standalone admins, and who may log in, to read."""

    async def principal(self, username: str) -> Principal | None:
        """Return an active admin of either kind, the standalone one first. One round trip."""

    async def inside(self, domains: Collection[str]) -> frozenset[str]:
        """Return the standalone admins whose addresses are in one of these domains."""

    async def exists(self, mails: Collection[str]) -> frozenset[str]:
        """Return which of these are standalone admins or mail users."""

    async def get(self, mail: str) -> Admin | None:
        """Return a standalone admin without claiming it. At most two round trips."""

    async def profile(self, mail: str) -> Profile | None:
        """Return what GET shows; hidden fields are included."""

    async def password(self, mail: str) -> str | None:
        """Return the hash of a standalone admin, or else of a mail user with admin rights."""

    async def limits_of_user(self, mail: str) -> account_settings.Settings:
        """Return a mail user's settings as an admin, whether active or not."""

    async def slow_hashes(self) -> list[str]:
        """Return the hashes of all admins, of either kind.

        Those that are verified in no time may be missing.
        """

    async def globals_without(self, mails: Collection[str], *, domain: str = "") -> int:
        """Count the active global admins but these (and but all of a domain).

        A unit that writes holds the list of global admins until its end, so that two parallel
        removals do not both see the other.
        """


class Admins(AdminReader, Protocol):
    """Standalone admins, and who may log in."""

    async def hold(self, mails: Collection[str]) -> None:
        """Hold accounts whose rights are about to change, in one order."""

    async def claim(self, mail: str) -> Admin | None:
        """Return a standalone admin and hold it."""

    async def rehash(self, mail: str, old: str, new: str, *, standalone: bool) -> bool:
        """Write another hash of the same password, unless it is not the old one any more.

        No date changes: the password is as old as it was.
        """

    async def add(self, admin: Admin) -> None:
        """Add a standalone admin."""

    async def save(self, before: Admin, after: Admin) -> None:
        """Write the difference."""

    async def remove(self, mail: str) -> None:
        """Remove a standalone admin and its rights."""
