"""What answers hold: the documented part of each profile.

Profiles show every column of the account's row, under the column's name, and what is listed here.
Servers of different ages have different columns, so more keys may be there.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from iredapi.schemas.usage import UsageOfDomain, UsageOfUser


class _Profile(BaseModel):
    model_config = ConfigDict(extra="allow")

    created: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    modified: str
    active: int = Field(description="1 or 0.")
    accountStatus: str = Field(description="`active` or `disabled`.")  # noqa: N815 (wire name)


class DirectoryProfile(BaseModel):
    """An account in LDAP: its attributes under LDAP's names, each a sorted list of texts.

    Beside them stand what other entries and iRedAdmin's database say of it, such as `catchall` and
    the counters of a domain, or `managed_domains`, `mailing_lists`, `stored_bytes` and `last_login`
    of a user. `?view=canonical` is the same on every storage.
    """

    model_config = ConfigDict(extra="allow")

    objectClass: list[str]  # noqa: N815 (wire name)
    accountStatus: list[str] | None = None  # noqa: N815 (wire name)
    accountSetting: dict[str, Any] = Field(  # noqa: N815 (wire name)
        description="By key: numbers, lists and texts."
    )


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
    usage: UsageOfDomain | None = Field(None, description="With `with=usage`.")


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
    usage: UsageOfUser | None = Field(None, description="With `with=usage`.")
    managed_domains: list[str] | None = None
    mailing_lists: list[str] | None = Field(
        None, description="Subscriptions, where a list server is configured. Not in lists."
    )


class DecidedLimit(BaseModel):
    """What limits an account, and by whose setting."""

    value: int = Field(description="0 is unlimited; -1: nobody limits.")
    period: int | None = Field(description="Seconds.")
    account: str | None = Field(description="`@.` for everybody, `@domain`, or an address.")


class ThrottleProfile(BaseModel):
    """Limits of one account in one direction; empty when it has none of its own."""

    account: str | None = Field(None, description="`@.` for everybody, `@domain`, or an address.")
    kind: str | None = Field(None, description="`inbound`, `outbound` or `external`.")
    period: int | None = Field(None, description="Seconds.")
    msg_size: int | None = Field(None, description="Bytes; 0 is unlimited, -1 inherited.")
    max_msgs: int | None = None
    max_quota: int | None = Field(None, description="Bytes.")
    max_rcpts: int | None = None
    priority: int | None = None
    effective: dict[str, DecidedLimit] | None = Field(
        None, description="With `effective=yes`, instead of the limits: by the limits' names."
    )


class GreylistingException(BaseModel):
    """A setting for mail from some senders."""

    account: str
    sender: str
    status: str


class GreylistingRow(GreylistingException):
    """One greylisting setting, as it is stored."""

    priority: int
    sender_priority: int
    comment: str


class GreylistingProfile(BaseModel):
    """Greylisting of one account."""

    account: str = Field(description="`@.` for everybody, `@domain`, or an address.")
    status: str = Field(
        description="`enable`, `disable`, or `inherit` when the account has no setting of its own."
    )
    decided_by: str | None = Field(
        None, description="With `effective=yes`: whose setting it is; null: nobody has one."
    )
    exceptions: list[GreylistingException] | None = Field(
        None, description="With `effective=yes`: settings for some senders that win over it."
    )


class AliasProfile(_Profile):
    """A mail alias account."""

    address: str
    name: str
    domain: str
    accesspolicy: str
    members: list[str]
    moderators: list[str] | None = Field(None, description="Not in lists.")


class MailListProfile(BaseModel):
    """An unsubscribable mailing list: the attributes of its entry, and its members."""

    model_config = ConfigDict(extra="allow")

    mail: list[str]
    accountStatus: list[str]  # noqa: N815 (wire name)
    members: list[str]


class StoredListProfile(BaseModel):
    """A mailing list, as the account storage holds it. The same on every storage."""

    mail: str
    domain: str
    name: str
    accountStatus: str = Field(description="`active` or `disabled`.")  # noqa: N815 (wire name)
    accessPolicy: str = Field(description="Who may send to the list.")  # noqa: N815 (wire name)
    is_newsletter: str = Field(description="`yes` or `no`.")
    newsletter_description: str
    mlid: str = Field(description="The list's identity on the newsletter page.")
    transport: str
    created: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    modified: str
    max_message_size: int = Field(description="Bytes, 0 is unlimited.")
    owner: list[str]
    moderators: list[str]
    extra_addresses: list[str]


class ListSubscriber(BaseModel):
    """Somebody who gets a list's posts."""

    mail: str
    subscription: str = Field(description="`normal`, `digest` or `nomail`.")


class ListProfile(StoredListProfile):
    """A mailing list with what mlmmj obeys; switches are `yes` or `no`, as they are sent."""

    model_config = ConfigDict(extra="allow")

    subscription_moderators: list[str]
    moderate_subscription: str
    subject_prefix: str
    custom_headers: list[str]
    remove_headers: list[str]
    footer_text: str
    footer_html: str
    only_moderator_can_post: str
    only_subscriber_can_post: str
    moderated: str
    subscribers: list[ListSubscriber] | None = Field(
        None, description="With `with_subscribers=yes`."
    )
