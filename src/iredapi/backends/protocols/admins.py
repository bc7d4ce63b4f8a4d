"""The roles of standalone admins; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from iredapi.backends.protocols.values import Profile
from iredapi.domain import account_settings
from iredapi.domain.actors import Principal
from iredapi.domain.admins import Admin
from iredapi.domain.inventory import AnyAdmin


class AdminListings(Protocol):
    """Who the admins are."""

    async def every(self) -> list[AnyAdmin]:
        """Return all admins of both kinds, without hashes. At most three round trips on SQL.

        A standalone admin counts, and not a mail user of the same address.
        """

    async def hashes(self, mails: Collection[str]) -> Mapping[str, str]:
        """Return the password hashes of standalone admins, by folded address.

        The number of round trips does not depend on that of the admins, as far as 500 of them.
        """

    async def inside(self, domains: Collection[str]) -> frozenset[str]:
        """Return the standalone admins whose addresses are in one of these domains."""


class AdminReader(AdminListings, Protocol):
    """Standalone admins, and who may log in, to read."""

    async def principal(self, username: str) -> Principal | None:
        """Return an active admin of either kind, the standalone one first. One round trip."""

    async def exists(self, mails: Collection[str]) -> frozenset[str]:
        """Return which of these addresses are standalone admins or mail users."""

    async def get(self, mail: str) -> Admin | None:
        """Return a standalone admin without claiming it. At most two round trips."""

    async def profile(self, mail: str) -> Profile | None:
        """Return the data of the GET answer with hidden fields."""

    async def password(self, mail: str) -> str | None:
        """Return the password hash of a standalone admin, or else of a user with admin rights."""

    async def limits_of_user(self, mail: str) -> account_settings.Settings:
        """Return a mail user's settings as an admin, also of a disabled user."""

    async def slow_hashes(self) -> list[str]:
        """Return the password hashes of all admins of either kind.

        Hashes of fast schemes (SSHA, SSHA512) may be missing.
        """

    async def globals_without(self, mails: Collection[str], *, domain: str = "") -> int:
        """Count the active global admins, except ``mails`` and all addresses of ``domain``.

        A unit that writes locks the list of global admins, so that of two parallel removals the
        second one counts after the first one has committed.
        """


class Admins(AdminReader, Protocol):
    """Standalone admins, and who may log in."""

    async def hold(self, mails: Collection[str]) -> None:
        """Lock accounts whose rights will change, in a fixed order."""

    async def claim(self, mail: str) -> Admin | None:
        """Return a standalone admin and lock it."""

    async def rehash(self, mail: str, old: str, new: str, *, standalone: bool) -> bool:
        """Replace the hash ``old`` by another hash of the same password; False: it has changed.

        The date of the last password change stays.
        """

    async def add(self, admin: Admin) -> None:
        """Add a standalone admin."""

    async def save(self, before: Admin, after: Admin) -> None:
        """Write the difference."""

    async def remove(self, mail: str) -> None:
        """Remove a standalone admin and its rights."""
