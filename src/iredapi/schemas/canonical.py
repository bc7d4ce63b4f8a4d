"""Response models of ``view=canonical``: exactly these fields on every storage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from iredapi.domain.lists import FLAGS
from iredapi.schemas.profiles import ListSubscriber
from iredapi.schemas.usage import UsageOfDomain, UsageOfUser

Status = Literal["active", "disabled"]
YesNo = Literal["yes", "no"]
_NAME = "An empty one reads as the local part of the address."


class _Canonical(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    account_status: Status


class CanonicalDomain(_Canonical):
    """A mail domain, on every storage. Quotas in MB; limits: 0 unlimited, -1 none."""

    domain: str
    name: str
    suspended: YesNo = Field(description="Mail is received, but nobody logs in or sends.")
    quota: int = Field(description="Maximum sum of mailbox quotas, MB.")
    number_of_users: int
    number_of_aliases: int
    number_of_lists: int
    default_quota: int = Field(description="MB.")
    max_user_quota: int = Field(description="MB.")
    min_password_length: int
    max_password_length: int
    language: str
    transport: str
    is_backupmx: YesNo = Field(alias="is_backupmx")
    primarymx: str
    outbound_relay: str
    sender_bcc: str
    recipient_bcc: str
    catchall: list[str]
    alias_domains: list[str]
    services: list[str] = Field(description="Those that every storage knows.")
    disabled_domain_profile: list[str]
    disabled_user_profile: list[str]
    disabled_user_preference: list[str]
    admins: list[str]
    existing_users: int | None = Field(None, description="Number of mail users; not in lists.")
    existing_aliases: int | None = Field(None, description="Not in lists.")
    existing_lists: int | None = Field(None, description="Not in lists.")
    allocated_quota: int | None = Field(
        None, description="Sum of the users' quotas, MB; not in lists."
    )
    usage: UsageOfDomain | None = Field(None, description="With `with=usage`.")


class CanonicalAdmin(_Canonical):
    """A standalone admin, on every storage. Limits: 0 unlimited, -1 none."""

    mail: str
    name: str = Field(description=_NAME)
    language: str
    is_global_admin: YesNo
    max_domains: int
    max_quota: int = Field(description="In `quotaUnit`.")
    quota_unit: str
    max_users: int
    max_aliases: int
    max_lists: int
    disable_viewing_mail_log: YesNo
    disable_managing_quarantined_mails: YesNo
    managed_domains: list[str]


class CanonicalUser(_Canonical):
    """A mail user, on every storage."""

    suspended: YesNo = Field(
        description="Mail is received, but the user does not log in or send; `services` are those "
        "of the time after. Not if only its domain is suspended."
    )

    usage: UsageOfUser | None = Field(None, description="With `with=usage`.")

    mail: str
    name: str = Field(description=_NAME)
    gn: str
    sn: str = Field(description=_NAME)
    quota: int = Field(description="MB, 0 is unlimited.")
    language: str
    employeeid: str
    telephone_number: list[str]
    mobile: list[str]
    is_global_admin: YesNo
    managed_domains: list[str]
    transport: str
    forwarding: list[str]
    aliases: list[str]
    sender_bcc: str
    recipient_bcc: str
    services: list[str] = Field(description="Those that every storage knows.")
    mailbox_format: str
    mailbox_folder: str
    maildir: str = Field(description="Absolute path of the mailbox.")


class CanonicalAlias(_Canonical):
    """A mail alias account, on every storage."""

    mail: str
    name: str = Field(description=_NAME)
    members: list[str]
    moderators: list[str] = Field(
        description="Empty on LDAP, where no mail server program reads them."
    )


class CanonicalMailList(_Canonical):
    """An unsubscribable mailing list."""

    mail: str
    name: str = Field(description=_NAME)
    access_policy: str
    members: list[str]


class CanonicalStoredList(_Canonical):
    """A subscribable mailing list, as every account storage holds it."""

    mail: str
    name: str = Field(description=_NAME)
    access_policy: str
    is_newsletter: YesNo = Field(alias="is_newsletter")
    newsletter_description: str = Field(alias="newsletter_description")
    max_message_size: int = Field(description="Bytes, 0 is unlimited.", alias="max_message_size")
    owner: list[str]
    moderators: list[str]
    extra_addresses: list[str] = Field(alias="extra_addresses")


class _Obeyed(CanonicalStoredList):
    """A subscribable mailing list with what mlmmj obeys: switches are `yes` or `no`."""

    subscription_moderators: list[str] = Field(alias="subscription_moderators")
    moderate_subscription: YesNo = Field(alias="moderate_subscription")
    subject_prefix: str = Field(alias="subject_prefix")
    custom_headers: list[str] = Field(alias="custom_headers")
    remove_headers: list[str] = Field(alias="remove_headers")
    footer_text: str = Field(alias="footer_text")
    footer_html: str = Field(alias="footer_html")
    subscribers: list[ListSubscriber] | None = Field(
        None, description="With `with_subscribers=yes`."
    )


_switches: dict[str, Any] = {name: (YesNo, Field(alias=name)) for name in FLAGS}
CanonicalList: type[_Obeyed] = create_model(
    "CanonicalList", __base__=_Obeyed, __doc__=_Obeyed.__doc__, **_switches
)
