"""Forms and answers of mailboxes that wait to be removed."""

from __future__ import annotations

from pydantic import BaseModel, Field

from iredapi.schemas import fields
from iredapi.schemas.domains import Keep
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import param


class DeletedMailboxFilter(Paged):
    """Which deleted mailboxes to list. Without a parameter: all of them."""

    only_fields: fields.FieldNames = param(
        "Only these keys of each item, with commas between them.", "id,mail", alias="fields"
    )
    mail: fields.MailboxOwner = param(
        "Only mailboxes of earlier users with this address.", "alice@example.com"
    )
    due_before: fields.Day = param(
        "Only mailboxes that may be removed from disk before this day.", "2026-12-31",
        alias="due_before",
    )  # fmt: skip
    deleted_by: fields.LoginName = param(
        "Only mailboxes of users whom this admin has deleted.", "postmaster@example.com",
        alias="deleted_by",
    )  # fmt: skip
    keep_forever: fields.YesNo = param(
        "`yes`: only mailboxes without a date; `no`: only those with one.", "no",
        alias="keep_forever",
    )  # fmt: skip


class DeletedMailboxEdit(Keep):
    """How long a deleted mailbox stays on disk. Without a parameter nothing changes."""

    conflicts = (("keep_mailbox_days", "keep_forever"),)

    keep_mailbox_days: fields.Days = param(
        "Days, counted from today, after which it may be removed from disk; 0: never.",
        "30",
        alias="keep_mailbox_days",
    )
    keep_forever: fields.Yes = param(
        "It is never removed. Its only value is `yes`; `keep_mailbox_days` sets a date again.",
        "yes",
        alias="keep_forever",
    )


class DeletedMailboxProfile(BaseModel):
    """A mailbox of an earlier user. The same on every storage."""

    id: int
    mail: str
    domain: str
    maildir: str = Field(description="Its directory, an absolute path.")
    stored_bytes: int
    stored_messages: int
    deleted_by: str = Field(
        description="Empty for normal admins if it is nobody of their domains, and not themselves."
    )
    deleted_at: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    delete_date: str | None = Field(
        description="The day from which it may be removed, `YYYY-MM-DD`; null: it is kept for ever."
    )
    keep_forever: str = Field(description="`yes` or `no`.")
