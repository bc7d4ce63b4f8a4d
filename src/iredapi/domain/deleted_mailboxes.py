"""Mailboxes of removed users: they stay on disk until a job of the mail server removes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from iredapi.domain.actors import Actor


@dataclass(frozen=True, slots=True)
class DeletedMailbox:
    """A row of ``deleted_mailboxes``; ``delete_date`` None: the mailbox is kept for ever."""

    id: int
    mail: str
    domain: str
    path: str
    stored_bytes: int
    stored_messages: int
    deleted_by: str
    deleted_at: datetime | None
    delete_date: date | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deleted mailboxes to read; empty fields choose all."""

    domains: Collection[str] | None = None
    """None: of every domain."""
    of_present_owner: bool = False
    """Only those that were deleted since their domain was created: somebody else may have had an
    earlier domain of that name."""
    mail: str = ""
    deleted_by: str = ""
    due_before: date | None = None
    """Only those that may be removed from disk before this day."""
    kept: bool | None = None
    """Whether they are kept for ever."""


def visible_to(actor: Actor, domain: str = "") -> Wanted:
    """Return which deleted mailboxes an admin may see, of all domains or of one."""
    if actor.is_global:
        return Wanted((domain,) if domain else None)
    return Wanted((domain,) if domain else actor.domains, of_present_owner=True)


def to_response(box: DeletedMailbox, actor: Actor) -> dict[str, Any]:
    """Return the item of an answer."""
    return {
        "id": box.id,
        "mail": box.mail,
        "domain": box.domain,
        "maildir": box.path,
        "stored_bytes": box.stored_bytes,
        "stored_messages": box.stored_messages,
        "deleted_by": box.deleted_by if actor.may_see_admin(box.deleted_by) else "",
        "deleted_at": "" if box.deleted_at is None else box.deleted_at.isoformat(" ", "seconds"),
        "delete_date": None if box.delete_date is None else box.delete_date.isoformat(),
        "keep_forever": "yes" if box.delete_date is None else "no",
    }
