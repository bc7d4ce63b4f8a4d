"""Form and answer of the panel's log."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from iredapi.schemas import fields
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import param


class LogFilter(Paged):
    """Which entries of the log. Without a parameter: all of them."""

    only_fields: fields.FieldNames = param(
        "Only these keys of each entry, with commas between them.", "timestamp,message",
        alias="fields",
    )  # fmt: skip
    admin: fields.AdminName = param("Only entries of this admin.", "postmaster@example.com")
    domain: fields.ExistingDomain = param(
        "Only entries about this domain and its accounts, also after it was deleted.",
        "example.com",
    )
    account: fields.MailboxOwner = param(
        "Only entries about the account with this address.", "alice@example.com"
    )
    event: fields.LogEvents = param(
        "Only these events, with commas between them: `login`, `create`, `update`, `delete`, "
        "`active`, `disable`, `grant`, `revoke`, `iredapd`, `update_wblist`, and those of the "
        "panel alone: `user_login`, `backup`, `delete_mailboxes`, `unban`.",
        "create,delete",
    )
    since: fields.Moment = param("Only entries of this time (UTC) or later.", "2026-01-31")
    until: fields.Moment = param("Only entries before this time (UTC).", "2026-02-28 12:00:00")
    ip: fields.ClientAddress = param("Only entries of requests from this IP address.", "192.0.2.1")
    search: fields.SearchText = param(
        "Only entries whose message contains this text, in any case. At least 2 characters; all "
        "of them stand for themselves.",
        "quota",
    )


class ChangedParameter(BaseModel):
    """A parameter that a change has changed. A value that is not known is missing."""

    param: str
    old: Any = Field(None, description="As in `view=canonical`; `***` stands for a secret.")
    new: Any = None
    partial: bool = Field(
        False,
        description="Only with `true`: of long lists `old` has what was removed and `new` what was "
        "added, and long texts are cut.",
    )


class LogRow(BaseModel):
    """An entry of the log. The same on every storage."""

    id: int
    timestamp: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    admin: str = Field(
        description="Empty for normal admins if it is nobody of their domains, and not themselves."
    )
    ip: str = Field(description="The address of the client; empty as `admin`.")
    domain: str
    account: str = Field(description="The address that the entry is about; may be empty.")
    event: str
    level: str
    message: str = Field(description="It begins with `[API] ` if the entry is of this API.")
    request_id: str | None = Field(
        description="The `X-Request-Id` of the request; null: it is not known."
    )
    changes: list[ChangedParameter] = Field(
        description="What an update has changed, as far as it is known."
    )
