"""Values that the roles take and return besides records, and exceptions that repeat a unit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from iredapi.domain.domains import Domain

Profile = dict[str, Any]


class RetryUnit(Exception):
    """The unit must be run again after ``seconds``; meanwhile it holds no locks."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"retry in {seconds:.2f} s")


class ChangedMeanwhile(RetryUnit):
    """Another writer has changed what the unit had read: run it again at once.

    The number of attempts is limited.
    """

    def __init__(self) -> None:
        super().__init__(0.0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of accounts in a domain, and the sum of the users' quotas in MB."""

    users: int
    aliases: int
    lists: int
    allocated_quota: int


@dataclass(frozen=True, slots=True)
class AddressAvailability:
    """What the rules need to know about the address of a new account."""

    domain: Domain
    """Its domain, locked. Its catch-all, BCC addresses and relay may be missing."""
    in_use: bool
    """Whether an account, an alias address or an admin without a mailbox has it."""
    queued: frozenset[str]
    """Mailbox paths of earlier users with the address that are still on disk."""


class JoinedGroups(NamedTuple):
    """The groups that a new user has become a member of; those that do not exist are left out."""

    aliases: Collection[str] = ()
    maillists: Collection[str] = ()
    """Unsubscribable lists, in LDAP."""


class OwnRow(NamedTuple):
    """Some fields of a user that its own row or entry has; see ``domain.users.User``."""

    mail: str
    password: str
    name: str
    given_name: str
    surname: str
    active: bool
    quota: int
    language: str
    employee_id: str
    mailbox_format: str
    mailbox_folder: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Who removes an account, and from which day its mailbox may be deleted.

    ``delete_after`` None: never.
    """

    by: str
    delete_after: date | None
