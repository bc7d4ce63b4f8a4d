"""An optional role: writing many users in one unit. Without it each has a unit of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.domain.domains import Domain
from iredapi.domain.users import User


class UserBatching(Protocol):
    """Properties of a storage that decide which requests share a unit.

    The parameters of such requests follow from the rules of users and from the fields here
    (``own_row_parameters`` and ``new_row_parameters`` of ``domain.user_parameters``).
    """

    @property
    def changed_fields(self) -> frozenset[str]:
        """Fields of a user that are stored in the user's own row only."""

    @property
    def created_fields(self) -> frozenset[str]:
        """Fields of a new user that are stored in the rows of ``add_users`` only."""

    @property
    def updates_without_read(self) -> bool:
        """Whether a user can be updated without being read first."""

    @property
    def gains_from_batching(self) -> bool:
        """Whether requests are faster when they share a unit."""

    @property
    def has_row_versions(self) -> bool:
        """Whether rows have versions: then ``save_rows`` works without locks."""

    @property
    def max_concurrent_batches(self) -> int:
        """How many units of batches should run at the same time."""


class UserBatches(Protocol):
    """Reads and writes of many users, in a unit that does nothing else."""

    async def claim_addresses(
        self, addresses: Sequence[str]
    ) -> list[AddressAvailability | None] | None:
        """Claim addresses in one or more domains as ``Addresses.claim`` does; first in a unit.

        It never waits. None: another transaction has locked one of the domains, and the unit has
        not begun. Three round trips.
        """

    async def add_users(self, users: Sequence[User], *, changed: datetime | None) -> None:
        """Add users who receive mail at their own address and are no admins or members.

        One round trip on SQL.
        """

    async def update_without_read(
        self, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Update ordinary users (no admin rights) without reading them; commit at once.

        No user may be named twice. Returns for each address the fields that differed and were
        written, with the values before, or None where these are not known; never a hash. Missing
        are addresses of unknown users and of admins, and those whose row another
        transaction has locked. One round trip on PostgreSQL, and for one field of one user; else
        two.
        """

    async def read_with_domain(
        self, mails: Sequence[str]
    ) -> list[tuple[Domain | None, User | None]]:
        """Return domains and users for ``save_rows``, without locking them.

        The records have the fields of their own rows, and the domains that a user manages; other
        fields are empty. One round trip on SQL.
        """

    async def save_rows(self, pairs: Sequence[tuple[User, User]]) -> frozenset[str]:
        """Write differences to users of ``read_with_domain``; commit at once.

        Returns the addresses that were written. Users are left out when they or their domains
        were changed since, or are locked by another transaction.
        """
