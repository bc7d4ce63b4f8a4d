"""The role that tells what domains and users use; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from iredapi.domain.usage import DomainUsage, UserUsage


class UsageReader(Protocol):
    """Sizes, numbers of accounts and last logins. Negative numbers of other programs are 0."""

    async def domains(self, only: Collection[str] | None) -> list[DomainUsage]:
        """Return the usage of domains, sorted by name; ``only``: of these.

        At most five statements, whatever the number of domains and users.
        """

    async def users(self, domain: str, after: str, limit: int) -> list[UserUsage]:
        """Return the usage of a domain's users, after an address."""

    async def of_users(self, mails: Collection[str]) -> Mapping[str, UserUsage]:
        """Return the usage of users by folded address."""
