"""The roles of a backend: what a storage promises, never how.

A role has a part that reads (``UserReader``) and one that writes as well (``Users``): a unit that
only reads (``unit.ReadUnit``) has the first of each.

A *claim* is the read that announces a write: nobody else changes the account until the unit ends.
``save`` gets two complete records and writes their difference, set-valued fields as added and
removed values, and touches nothing that the record does not hold. Records and addresses are lower
case. Lists come in pages of at most ``limit`` items, ordered by name, each in a constant number of
round trips whatever the size of the storage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from iredapi.backends.protocols.values import AddressAvailability, Profile, Removal, Usage
from iredapi.domain.actors import Actor
from iredapi.domain.aliases import Alias
from iredapi.domain.audit_events import Event
from iredapi.domain.domains import Domain
from iredapi.domain.ldif import Export, Record
from iredapi.domain.limits import Sizes, Totals
from iredapi.domain.users import User


class DomainListings(Protocol):
    """What is shown of mail domains."""

    async def profile(self, name: str) -> Profile | None:
        """Return what GET shows, with counters. At most four round trips."""

    async def page(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Profile]:
        """Return profiles without counters, after a name; ``only`` limits them to these."""

    async def records(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Domain]:
        """Return whole records, as ``get`` would. Two round trips."""

    async def names(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[str]:
        """Return names."""


class DomainReader(DomainListings, Protocol):
    """Mail domains, to read."""

    async def get(self, name: str) -> Domain | None:
        """Return a domain without claiming it. At most two round trips."""

    async def taken(self, names: Collection[str]) -> frozenset[str]:
        """Return which names are domains or alias domains."""

    async def usage(self, name: str) -> Usage:
        """Count a domain's accounts. One round trip."""

    async def totals(self, names: Collection[str]) -> Totals:
        """Sum up what these domains were given."""

    async def admins(self, name: str) -> frozenset[str]:
        """Return the admins of a domain (not the global ones)."""

    async def admins_of(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Return the admins of domains whose rights are not switched off. One round trip.

        A domain without any may be missing.
        """


class Domains(DomainReader, Protocol):
    """Mail domains."""

    async def get(self, name: str, *, share: bool = False) -> Domain | None:
        """Return a domain without claiming it. At most two round trips.

        ``share`` holds it against removal and claims, together with others who share it: what is
        written to its accounts meanwhile cannot outlive it.
        """

    async def claim(self, name: str) -> Domain | None:
        """Return a domain and hold it: also the lock of all addresses in it and its limits."""

    async def reserve(self, names: Collection[str]) -> frozenset[str]:
        """Hold names against everybody who wants one as a domain or alias domain meanwhile.

        Returns those that are in use.
        """

    async def add(self, domain: Domain, owner: str, *, verified: bool = True) -> None:
        """Add a domain; ``owner`` (may be empty) becomes its admin.

        Its alias domains are inactive unless ``verified``.
        """

    async def save(self, before: Domain, after: Domain, *, verified: bool = True) -> None:
        """Write the difference; new alias domains are inactive unless ``verified``."""

    async def remove(self, name: str, removal: Removal) -> None:
        """Remove a domain, its accounts, and everything that points to them."""

    async def add_admins(self, name: str, mails: Collection[str]) -> None:
        """Make admins of existing accounts."""

    async def remove_admins(self, name: str, mails: Collection[str]) -> None:
        """Take the domain from these admins; a mail user with none left is no admin any more."""


class UserListings(Protocol):
    """What is shown of mail users."""

    async def profile(self, mail: str) -> Profile | None:
        """Return what GET shows; hidden fields are included. At most two round trips."""

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        """Return profiles. One round trip."""

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[User]:
        """Return whole records, as ``get`` would. Two round trips."""

    async def mails(self, domain: str, after: str, limit: int, *, disabled_only: bool) -> list[str]:
        """Return addresses. One round trip."""


class UserRights(Protocol):
    """Which users of a domain have rights as admins."""

    async def globals_in(self, domain: str) -> frozenset[str]:
        """Return the users of a domain who are global admins."""

    async def admins_beyond(self, domain: str, managed: Collection[str]) -> frozenset[str]:
        """Return the users of a domain who manage a domain that is not among ``managed``."""

    async def admins_in(self, domain: str) -> frozenset[str]:
        """Return the users of a domain who have rights, or a mark of an admin (``has_rights``)."""


class UserReader(UserListings, UserRights, Protocol):
    """Mail users, to read."""

    def unsupported(self, changes: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """Return parameters and values that this server's tables have no place for."""

    async def get(self, mail: str) -> User | None:
        """Return a user without claiming it."""

    async def other_aliases(self, mail: str) -> frozenset[str]:
        """Return further addresses whose routes name the user in another spelling.

        They may be among those that ``get`` returns.
        """

    async def password(self, mail: str) -> str:
        """Return the hash of a user's password; empty: no such user. One round trip."""

    async def allocated(self, domain: str, *, but: str = "") -> int:
        """Sum up the quotas of a domain's users in MB, one of them left out."""

    async def sizes(self, domain: str, quota: int, *, but: Collection[str]) -> Sizes:
        """Say what all users of a domain but some have, when they are to get ``quota`` MB."""

    async def paths_near(self, path: str, *, but: str = "") -> list[str]:
        """Return the paths of living and deleted mailboxes that are, hold or lie in a directory."""


class Users(UserReader, Protocol):
    """Mail users."""

    async def claim(self, mail: str) -> User | None:
        """Return a user and hold it."""

    async def claim_with_domain(
        self, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        """Return a user's domain and the user, and hold the user.

        The domain is shared, as by ``Domains.get``, or held; its catch-all, BCC addresses and
        relay may be missing. At most three round trips on SQL.
        """

    async def unqueue(self, path: str) -> None:
        """Keep the deleted mailbox in exactly this directory: a living one is to use it."""

    async def add(self, user: User, *, groups: Iterable[str], changed: datetime | None) -> None:
        """Add a user, member of existing alias accounts ``groups``.

        ``changed`` is written as the date of the password; None means never changed.
        """

    async def save(self, before: User, after: User) -> None:
        """Write the difference."""

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> frozenset[str]:
        """Change all users of a domain but some; returns the fields that were different.

        A constant number of statements.
        """

    async def rename(self, old: str, new: str) -> None:
        """Give a user another address; the mailbox stays where it is."""

    async def remove(self, mail: str, removal: Removal) -> None:
        """Remove a user and everything that points to it."""


class AliasReader(Protocol):
    """Mail alias accounts, to read."""

    async def get(self, address: str) -> Alias | None:
        """Return an alias without claiming it. At most two round trips."""

    async def profile(self, address: str) -> Profile | None:
        """Return what GET shows. At most two round trips."""

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        """Return profiles. Two round trips."""

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Alias]:
        """Return whole records, as ``get`` would. Two round trips."""

    async def addresses(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[str]:
        """Return addresses."""


class Aliases(AliasReader, Protocol):
    """Mail alias accounts."""

    async def claim(self, address: str) -> Alias | None:
        """Return an alias and hold it."""

    async def add(self, alias: Alias) -> None:
        """Add an alias."""

    async def save(self, before: Alias, after: Alias) -> None:
        """Write the difference."""

    async def rename(self, old: str, new: str) -> None:
        """Give an alias another address."""

    async def remove(self, address: str) -> None:
        """Remove an alias and everything that points to it."""


class Ldif(Protocol):
    """Entries of the directory as they are (``Feature.LDIF``)."""

    async def records(self, what: Export, name: str) -> list[Record]:
        """Return the entries that make up something, parents first; none when it is not there.

        ``name`` is a domain or an address. Attributes are those of users, none is left out.
        """


class AddressReader(Protocol):
    """The one namespace of all accounts, to read."""

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which addresses are users, aliases, lists or per-user alias addresses."""

    async def in_use(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return the same, and which addresses somebody has in other letters."""


class Addresses(AddressReader, Protocol):
    """The one namespace of all accounts."""

    async def claim(self, address: str) -> AddressAvailability | None:
        """Hold the domain of an address, and tell what is in the way of a new account.

        None without such a domain. At most two round trips on SQL.
        """


class RelatedDataReader(Protocol):
    """What other databases (policies, the panel) know of accounts, to read."""

    async def is_pending(self, domain: str) -> bool:
        """Tell whether a domain waits for the proof of its ownership."""


class RelatedData(RelatedDataReader, Protocol):
    """What other databases (policies, the panel) know of accounts."""

    async def forget_account(self, mail: str) -> None:
        """Remove what is stored for an address."""

    async def forget_domain(self, domain: str) -> None:
        """Remove what is stored for a domain and the addresses in it."""

    async def rename_account(self, old: str, new: str) -> None:
        """Carry what is stored for an address over to another."""

    async def forget_admin(self, mail: str) -> None:
        """Remove a standalone admin's panel data."""

    async def pending_ownership(
        self, actor: Actor, domain: str, alias_domains: Collection[str], code: str
    ) -> None:
        """Note that a normal admin must prove to own a domain or alias domains."""


class AuditLog(Protocol):
    """The panel's log."""

    async def write(self, actor: Actor, events: Sequence[Event]) -> None:
        """Append events. Called after the change was committed."""
