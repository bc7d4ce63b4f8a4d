"""The roles of an account storage: contracts that SQL and LDAP implement.

Each role has a reader (``UserReader``) and a subclass that also writes (``Users``): a unit that
only reads (``unit_of_work.ReadUnit``) has the readers.

``claim`` reads and locks: no other transaction changes the account until the unit ends.
``save`` gets two complete records and writes their difference, set-valued fields as added and
removed values, and touches nothing that the record does not hold. Records and addresses are lower
case. Lists come in pages of at most ``limit`` items, ordered by name, each in a constant number of
round trips whatever the size of the storage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from iredapi.backends.protocols.values import (
    AddressAvailability,
    JoinedGroups,
    OwnRow,
    Profile,
    Removal,
    Usage,
)
from iredapi.domain.actors import Actor
from iredapi.domain.aliases import Alias
from iredapi.domain.audit_events import Event
from iredapi.domain.domains import Domain
from iredapi.domain.inventory import AliasDomain
from iredapi.domain.ldif import Export, Record
from iredapi.domain.limits import Sizes, Totals
from iredapi.domain.listing import Key, ListQuery
from iredapi.domain.search import Owner
from iredapi.domain.users import User


class Listed(Protocol):
    """What every list in pages needs of a role (docs/adr/0015)."""

    async def keys(
        self, domains: Collection[str] | None, query: ListQuery, after: Key | None, limit: int
    ) -> list[Key]:
        """Return the next keys of a list, at most ``limit``: fewer only at its end.

        ``domains``: only accounts of these; None: all. ``after``: behind this key; None: from the
        beginning. The order never changes, and equal values are sorted by name.
        """

    async def count(self, domains: Collection[str] | None, query: ListQuery) -> int:
        """Count the items of a list. One round trip."""

    def fields(self) -> Collection[str]:
        """Return the keys that native items of a list may have; others have none of them."""


class DomainListings(Listed, Protocol):
    """Profiles and pages of mail domains.

    They can be sorted by ``name`` (the description), ``created``, ``modified`` and ``quota``.
    """

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        """Return profiles as ``page`` does, by names that ``keys`` returned; some may be gone."""

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Domain]:
        """Return records as ``records`` does, by names that ``keys`` returned."""

    async def profile(self, name: str) -> Profile | None:
        """Return the data of the GET answer, with counters. At most four round trips."""

    async def page(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Profile]:
        """Return profiles without counters, after a name; ``only``: of these domains only."""

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

    async def own(self, name: str) -> Domain | None:
        """Return a domain as its own row or entry tells: name, state, limits and settings.

        What other rows tell may be missing: catch-all, alias domains, BCC and relay. One round
        trip.
        """

    async def alias_domains(self, only: Collection[str] | None) -> list[AliasDomain]:
        """Return the alias domains of these domains; None: of all. One round trip."""

    async def taken(self, names: Collection[str]) -> frozenset[str]:
        """Return which of these names are domains or alias domains."""

    async def hosted(self, names: Collection[str], *, but: str) -> frozenset[str]:
        """Return, folded, which of a domain's alias domains are not only its own.

        Other programs store a domain also as the alias domain of another one (``but``), and in LDAP
        one alias domain in two domains: what is stored under these names is not only its own.
        """

    async def usage(self, name: str) -> Usage:
        """Count a domain's accounts. One round trip."""

    async def totals(self, names: Collection[str]) -> Totals:
        """Sum up the limits (quota, accounts) of these domains."""

    async def admins(self, name: str) -> frozenset[str]:
        """Return the admins of a domain (not the global ones)."""

    async def admins_of(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Return the admins of domains whose rights are active. One round trip.

        A domain without admins may be missing.
        """


class Domains(DomainReader, Protocol):
    """Mail domains."""

    async def get(self, name: str, *, share: bool = False) -> Domain | None:
        """Return a domain without claiming it. At most two round trips.

        ``share`` takes a shared lock: until the unit ends nobody removes or claims the domain, so
        that no account can be written into a domain that is being removed.
        """

    async def claim(self, name: str) -> Domain | None:
        """Return a domain and lock it; the lock also guards its limits and all its addresses."""

    async def reserve(self, names: Collection[str]) -> frozenset[str]:
        """Lock names of new domains and alias domains until the unit ends.

        Returns the names that are in use.
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
        """Make existing accounts admins of a domain."""

    async def remove_admins(self, name: str, mails: Collection[str]) -> None:
        """Remove admins of a domain; a mail user without any domain left is no admin any more."""


class UserListings(Listed, Protocol):
    """Profiles and pages of mail users.

    They can be sorted by ``name``, ``created``, ``modified``, ``quota`` and ``used`` (bytes).
    """

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        """Return profiles as ``page`` does, by names that ``keys`` returned; some may be gone."""

    async def records_of(self, names: Sequence[str]) -> Mapping[str, User]:
        """Return records as ``records`` does, by names that ``keys`` returned."""

    async def profile(self, mail: str) -> Profile | None:
        """Return the data of the GET answer with hidden fields. At most two round trips."""

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
        """Return the users of a domain who have rights, or an admin mark (``User.has_rights``)."""


class UserReader(UserListings, UserRights, Protocol):
    """Mail users, to read."""

    def unsupported(self, changes: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """Return parameters, with their values, that this server's tables cannot store."""

    async def get(self, mail: str) -> User | None:
        """Return a user without claiming it."""

    async def own_fields(self, mails: Sequence[str]) -> Mapping[str, OwnRow]:
        """Return fields of the users that have exactly these addresses. One round trip on SQL."""

    async def other_aliases(self, mail: str) -> frozenset[str]:
        """Return alias addresses whose rows name the user in another spelling.

        ``get`` may return them as well.
        """

    async def password(self, mail: str) -> str:
        """Return the hash of a user's password; empty: no such user. One round trip."""

    async def allocated(self, domain: str, *, but: str = "") -> int:
        """Sum up the quotas of a domain's users in MB, without the user ``but``."""

    async def sizes(self, domain: str, quota: int, *, but: Collection[str]) -> Sizes:
        """Count a domain's users, except ``but``, and compare their quotas with ``quota`` MB."""

    async def paths_near(self, path: str, *, but: str = "", queued: bool = True) -> list[str]:
        """Return paths of existing and queued mailboxes that equal, contain or are inside it.

        ``queued`` False: of existing ones only.
        """


class Users(UserReader, Protocol):
    """Mail users."""

    async def claim(self, mail: str) -> User | None:
        """Return a user and lock it."""

    async def claim_with_domain(
        self, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        """Return a user's domain and the user, and lock the user.

        The domain gets a shared lock as in ``Domains.get``, or with ``hold_domain`` an exclusive
        one. Its catch-all, BCC addresses and relay may be missing. At most three round trips on
        SQL.
        """

    async def unqueue(self, path: str) -> None:
        """Take a directory out of the removal queue, because an existing mailbox uses it."""

    async def add(
        self, user: User, *, groups: Iterable[str], changed: datetime | None
    ) -> JoinedGroups:
        """Add a user, and make it a member of those ``groups`` that exist; return these.

        ``changed`` is written as the date of the password; None means never changed.
        """

    async def save(self, before: User, after: User) -> None:
        """Write the difference."""

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> Mapping[str, Any]:
        """Change all users of a domain except ``but``; return the fields that differed.

        With each the value that these users had; None: a password, or not the same for all of them.
        The number of statements does not depend on the number of users.
        """

    async def set_suspended(self, domain: str, *, suspended: bool) -> bool:
        """Suspend or resume all users of a domain (``User.held_by_domain``).

        Users who are suspended themselves stay so. Returns whether anything was to be done.
        """

    async def rename(self, old: str, new: str) -> None:
        """Change the address of a user; its mailbox stays in the same directory."""

    async def remove(self, mail: str, removal: Removal) -> None:
        """Remove a user and everything that points to it."""


class AliasReader(Listed, Protocol):
    """Mail alias accounts, to read.

    They can be sorted by ``name``, ``created`` and ``modified``.
    """

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        """Return profiles as ``page`` does, by names that ``keys`` returned; some may be gone."""

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Alias]:
        """Return records as ``records`` does, by names that ``keys`` returned."""

    async def get(self, address: str) -> Alias | None:
        """Return an alias without claiming it. At most two round trips."""

    async def profile(self, address: str) -> Profile | None:
        """Return the data of the GET answer. At most two round trips."""

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
        """Return an alias and lock it."""

    async def add(self, alias: Alias) -> None:
        """Add an alias."""

    async def save(self, before: Alias, after: Alias) -> None:
        """Write the difference."""

    async def rename(self, old: str, new: str) -> None:
        """Change the address of an alias."""

    async def remove(self, address: str) -> None:
        """Remove an alias and everything that points to it."""


class Ldif(Protocol):
    """LDAP entries with all attributes (``Feature.LDIF``)."""

    async def records(self, what: Export, name: str) -> list[Record]:
        """Return the entries of a domain or an account, parents first; empty: it does not exist.

        ``name`` is a domain or an address. Operational attributes are left out.
        """


class AddressReader(Protocol):
    """Addresses of all kinds of accounts, to read: no two accounts share one."""

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which addresses are users, aliases, lists or per-user alias addresses."""

    async def owner(self, address: str) -> Owner:
        """Return what an address is, in any spelling."""

    async def in_use(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return ``taken``, and the addresses that an account has in another spelling."""


class Addresses(AddressReader, Protocol):
    """Addresses of all kinds of accounts."""

    async def claim(self, address: str) -> AddressAvailability | None:
        """Lock the domain of an address, and return whether a new account can have the address.

        None: no such domain. At most two round trips on SQL.
        """


class AuditLog(Protocol):
    """iRedAdmin's log of administrative operations."""

    async def write(self, actor: Actor, events: Sequence[Event]) -> None:
        """Append events. Called after the change was committed."""
