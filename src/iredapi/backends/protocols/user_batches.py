"""An optional role: many users at once. Where a storage has it not, each is written by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.domain.domains import Domain
from iredapi.domain.users import User


class UserBatching(Protocol):
    """What a storage can do for many users at once: it decides which requests share a unit.

    Which parameters may be sent in such requests follows from the rules of users and from the
    fields of this class (``own_row_parameters`` and ``new_row_parameters`` of
    ``domain.user_parameters``).
    """

    @property
    def changed_fields(self) -> frozenset[str]:
        """Fields of a user that a change writes into the user's own row, and nowhere else."""

    @property
    def created_fields(self) -> frozenset[str]:
        """Fields of a user that the rows of a new one hold, and nothing else does."""

    @property
    def updates_without_read(self) -> bool:
        """Whether a user's own can be written without being read."""

    @property
    def shares(self) -> bool:
        """Whether requests gain when they share a unit."""

    @property
    def versions(self) -> bool:
        """Whether what was read can be written if nobody has changed it, without being held."""

    @property
    def lanes(self) -> int:
        """How many units may gain from being under way at the same time."""


class UserBatches(Protocol):
    """Many users at once, in a unit that does nothing else."""

    async def claim_all(self, addresses: Sequence[str]) -> list[AddressAvailability | None] | None:
        """Claim some addresses, as ``Addresses.claim``, of one or more domains, first in a unit.

        It waits for nobody: None where somebody else holds one of the domains; then the unit has
        not begun. Three round trips.
        """

    async def add_plain(self, users: Sequence[User], *, changed: datetime | None) -> None:
        """Add users who get their own mail and nothing else: no admins, no members of groups.

        One round trip on SQL.
        """

    async def update_without_read(
        self, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, frozenset[str]]:
        """Write fields of users who are no admins, whatever they are now, and commit them at once.

        No user may be named twice. Returns for each which fields were different, and so were
        written; those of whom anything is out of the ordinary are missing. One round trip on
        PostgreSQL, and elsewhere for one field of one user; else two.
        """

    async def read_with_domain(
        self, mails: Sequence[str]
    ) -> list[tuple[Domain | None, User | None]]:
        """Return users with their domains, for ``save_rows``; nothing is held.

        Neither has anything that does not stand in its own row, but what a user manages. One round
        trip on SQL.
        """

    async def save_rows(self, pairs: Sequence[tuple[User, User]]) -> frozenset[str]:
        """Write differences of what ``read_with_domain`` returned, and commit them at once.

        Returns whose were written: those who, with their domains, nobody has changed or holds.
        """
