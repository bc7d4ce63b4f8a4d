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
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from iredapi.domain import account_settings
from iredapi.domain.actors import Actor, Principal
from iredapi.domain.admins import Admin
from iredapi.domain.aliases import Alias
from iredapi.domain.audit_events import Event
from iredapi.domain.domains import Domain
from iredapi.domain.ldif import Export, Record
from iredapi.domain.limits import Sizes, Totals
from iredapi.domain.lists import MailingList
from iredapi.domain.maillists import MailList
from iredapi.domain.users import User

Profile = dict[str, Any]


class RetryUnit(Exception):
    """A unit that is to be run again in a moment; nothing is held meanwhile."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"again in {seconds:.2f} s")


class ChangedMeanwhile(RetryUnit):
    """Somebody else changed what the unit had read: run again at once, but not for ever."""

    def __init__(self) -> None:
        super().__init__(0.0)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a domain holds: numbers of accounts, and the users' quotas summed up in MB."""

    users: int
    aliases: int
    lists: int
    allocated_quota: int


@dataclass(frozen=True, slots=True)
class AddressAvailability:
    """What the rules ask about the address of an account that is to be made."""

    domain: Domain
    """Its domain, held. Its catch-all, BCC addresses and relay may be missing."""
    in_use: bool
    """Whether somebody has it: any account, an alias address, an admin without a mailbox."""
    queued: frozenset[str]
    """Mailbox paths of earlier users with the address, which are not yet removed."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How an account goes: who removed it, and from which day its mailbox may be deleted.

    ``delete_after`` None keeps the mailbox for ever.
    """

    by: str
    delete_after: date | None


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


class MailListReader(Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``), to read."""

    async def get(self, address: str) -> MailList | None:
        """Return a list without claiming it. At most three round trips."""

    async def profile(self, address: str) -> Profile | None:
        """Return what GET shows, with the members."""

    async def primaries(self, domain: str, addresses: Collection[str]) -> Mapping[str, str]:
        """Return the primary addresses of a domain's accounts by those that were asked for.

        Addresses that no account of the domain has are missing.
        """


class MailLists(MailListReader, Protocol):
    """Unsubscribable mailing lists (``Feature.MAILLIST``)."""

    async def claim(self, address: str) -> MailList | None:
        """Return a list and hold it."""

    async def add(self, mail_list: MailList) -> None:
        """Add a list with its members; internal ones exist."""

    async def save(self, before: MailList, after: MailList) -> None:
        """Write the difference."""

    async def remove(self, address: str) -> None:
        """Remove a list, everybody's membership in it, and everything that points to it."""


class Ldif(Protocol):
    """Entries of the directory as they are (``Feature.LDIF``)."""

    async def records(self, what: Export, name: str) -> list[Record]:
        """Return the entries that make up something, parents first; none when it is not there.

        ``name`` is a domain or an address. Attributes are those of users, none is left out.
        """


class ListReader(Protocol):
    """Subscribable mailing lists: what makes mail get to them, and what iRedAPD reads.

    Subscribers and settings are the list server's (``list_protocols``).
    """

    async def get(self, address: str) -> MailingList | None:
        """Return a list without claiming it. At most two round trips."""

    async def has_any(self) -> bool:
        """Tell whether there may be a list in any domain. One round trip."""

    async def other_addresses(self, address: str) -> frozenset[str]:
        """Return what leads to a list in any spelling. Slow: no index helps."""

    async def page(self, domain: str, after: str, limit: int) -> list[MailingList]:
        """Return lists. At most two round trips."""

    async def addresses(self, domain: str, after: str, limit: int) -> list[str]:
        """Return addresses."""

    async def managed_by(self, mails: Collection[str], domains: Collection[str]) -> frozenset[str]:
        """Return the lists that have one of these people, or one of these domains, for owner or
        moderator.
        """


class Lists(ListReader, Protocol):
    """Subscribable mailing lists, as ``ListReader``."""

    async def claim(self, address: str) -> MailingList | None:
        """Return a list and hold it."""

    async def add(self, item: MailingList) -> None:
        """Add a list, so that mail gets to it."""

    async def save(self, before: MailingList, after: MailingList) -> None:
        """Write the difference; ``active`` goes for all its addresses."""

    async def remove(self, address: str) -> None:
        """Remove a list and everything that points to it; one that is not there is no error."""


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
