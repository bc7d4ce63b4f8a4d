"""What answers hold: the documented part of each profile.

Profiles show every column of the account's row, under the column's name, and what is listed here.
Servers of different ages have different columns, so more keys may be there.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Profile(BaseModel):
    model_config = ConfigDict(extra="allow")

    created: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    modified: str
    active: int = Field(description="1 or 0.")
    accountStatus: str = Field(description="`active` or `disabled`.")  # noqa: N815 (wire name)


class DomainProfile(_Profile):
    """A mail domain. Quotas in MB; limits: 0 unlimited, -1 none."""

    domain: str
    description: str
    transport: str
    backupmx: int
    maxquota: int = Field(description="MB.")
    mailboxes: int
    aliases: int
    maillists: int
    settings: dict[str, Any]
    catchall: list[str]
    alias_domains: list[str]
    sender_bcc: str
    recipient_bcc: str
    outbound_relay: str
    primarymx: str
    admins: list[str]
    num_existing_users: int | None = Field(None, description="Not in lists.")
    num_existing_aliases: int | None = None
    num_existing_maillists: int | None = None
    allocated_quota: int | None = Field(None, description="Sum of the users' quotas, MB.")
    used_quota: dict[str, int] | None = Field(None, description="Bytes and messages.")


class AdminProfile(_Profile):
    """A standalone admin."""

    username: str
    name: str
    language: str
    settings: dict[str, Any]
    isglobaladmin: int
    managed_domains: list[str]


class UserProfile(_Profile):
    """A mail user. Quota in MB."""

    username: str
    name: str
    domain: str
    language: str
    quota: int = Field(description="MB, 0 is unlimited.")
    transport: str
    employeeid: str
    maildir: str
    settings: dict[str, Any]
    enabled_services: list[str]
    forwardings: list[str] | None = Field(None, description="Not in lists.")
    aliases: list[str] | None = None
    sender_bcc: str | None = None
    recipient_bcc: str | None = None
    outbound_relay: str | None = None
    stored_bytes: int | None = None
    stored_messages: int | None = None
    last_login: str | None = Field(None, description="The later of IMAP and POP3, UTC.")
    last_login_by_service: dict[str, str | None] | None = None
    managed_domains: list[str] | None = None


class AliasProfile(_Profile):
    """A mail alias account."""

    address: str
    name: str
    domain: str
    accesspolicy: str
    members: list[str]
    moderators: list[str] | None = Field(None, description="Not in lists.")
