"""The role of mailboxes that wait to be removed; see ``accounts`` for what all roles promise."""

from __future__ import annotations

from datetime import date
from typing import Protocol

from iredapi.domain.deleted_mailboxes import DeletedMailbox, Wanted


class DeletedMailboxReader(Protocol):
    """Mailboxes of removed users, to read."""

    async def page(self, wanted: Wanted, after: int, limit: int) -> list[DeletedMailbox]:
        """Return mailboxes with ids above ``after``, by id. One round trip on SQL, two on LDAP."""

    async def count(self, wanted: Wanted) -> int:
        """Return how many there are. As many round trips as ``page``."""

    async def is_guarded(self, path: str) -> bool:
        """Return whether a directory was that of a global admin, see ``guard``."""


class DeletedMailboxes(DeletedMailboxReader, Protocol):
    """Mailboxes of removed users."""

    async def claim(self, wanted: Wanted, number: int) -> DeletedMailbox | None:
        """Return the mailbox with an id, and lock its row."""

    async def set_date(self, box: DeletedMailbox, day: date | None) -> None:
        """Set the day from which a mailbox may be removed, in all rows of its directory."""

    async def guard(self, path: str) -> None:
        """Remember that a directory was that of a global admin; before the user is removed."""
