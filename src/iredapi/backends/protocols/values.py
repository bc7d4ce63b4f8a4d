"""What the roles return and take besides records, and why a unit is run again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from iredapi.domain.domains import Domain

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
