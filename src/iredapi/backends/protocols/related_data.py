"""The roles of what other databases hold about accounts: policies, and iRedAdmin's own data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from iredapi.domain.actors import Actor
from iredapi.domain.ownership import Proof


class RelatedDataReader(Protocol):
    """Data about accounts in other databases (policies, iRedAdmin), to read."""

    async def is_ownership_pending(self, domain: str) -> bool:
        """Return whether the ownership of a domain still has to be verified."""

    async def proofs(self, domain: str) -> list[Proof] | None:
        """Return the proofs of ownership of a domain and its alias domains, also missing ones.

        None: iRedAdmin's database is not configured, or too old to have any.
        """


class RelatedData(RelatedDataReader, Protocol):
    """Data about accounts in other databases (policies, iRedAdmin)."""

    def rehearse(self) -> None:
        """Write nothing from now on that a rollback would not undo."""

    async def remove_account_data(self, mail: str) -> None:
        """Remove the data of an address."""

    async def remove_domain_data(self, domain: str) -> None:
        """Remove the data of a domain and of all addresses in it."""

    async def rename_account(self, old: str, new: str) -> None:
        """Move the data of an address to another address."""

    async def remove_admin_data(self, mail: str) -> None:
        """Remove a standalone admin's data in iRedAdmin's database."""

    async def add_pending_ownership(
        self, actor: Actor, domain: str, alias_domains: Collection[str], code: str
    ) -> None:
        """Store that a normal admin has to prove the ownership of a domain or alias domains."""

    async def verify_ownership(self, domain: str, codes: Mapping[str, str]) -> None:
        """Store that these codes of a domain or its alias domains, by name, were found.

        Other proofs of the same names are not waited for any more.
        """

    async def end_pending_ownership(self, domain: str, names: Collection[str]) -> None:
        """Remove what waits for a proof of these names: a domain and its alias domains."""
