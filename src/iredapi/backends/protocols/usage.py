"""The role that tells what domains and users use; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from iredapi.domain.usage import DomainUsage, Sums, UserUsage


class UsageReader(Protocol):
    """Sizes, numbers of accounts and last logins. Negative numbers of other programs are 0."""

    async def strays(self, only: Collection[str] | None) -> Mapping[str, Sums]:
        """Return what accounts use whose domain is spelled as ``domains`` does not find it.

        By the folded name of the domain; as a rule there is nothing. ``only``: of these, without
        reading anything of others. At most five statements, whatever the number of domains and
        users; one, or three, for all domains.
        """

    async def domains(
        self,
        only: Collection[str] | None,
        after: str,
        limit: int,
        strays: Mapping[str, Sums],
    ) -> list[DomainUsage]:
        """Return the usage of the next domains after a name as it is stored, sorted by name.

        ``only``: of these, which are folded. ``strays`` are added. The rows are computed one after
        the other, as they are read.
        """

    async def totals(self) -> Mapping[str, Sums]:
        """Return numbers of users, their quotas and sizes of all domains, by folded name.

        Other numbers may be 0. Two statements on SQL, whatever the number of domains.
        """

    async def of_domains(self, names: Collection[str]) -> list[DomainUsage]:
        """Return the usage of domains whose names are as they are stored.

        At most seven statements, whatever their number.
        """

    async def spellings(self, domain: str) -> Sequence[str]:
        """Return how the rows of users spell their domain, for ``users``."""

    async def users(
        self, spelled: Sequence[str], after: str, limit: int, *, active: bool
    ) -> list[UserUsage]:
        """Return the usage of a domain's users, after an address; ``active``: whether it is."""

    async def of_users(self, mails: Collection[str]) -> Mapping[str, UserUsage]:
        """Return the usage of users by folded address."""
