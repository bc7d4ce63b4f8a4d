"""Forms and answers of the lists of admins and of alias domains."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from iredapi.schemas import fields
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import param


class _Found(Paged):
    search: fields.SearchText = param(
        "Only items that contain this text, in any case. At least 2 characters; all of them stand "
        "for themselves.",
        "example",
    )
    status: fields.Status = param("Only active, or only disabled ones.", "active")


class AdminFilter(_Found):
    """Which admins, and how much of the list."""

    sort: fields.AdminSort = param("Order of the list; `-` in front: descending.", "name")


class AliasDomainFilter(_Found):
    """Which alias domains, and how much of the list."""

    sort: fields.AliasDomainSort = param(
        "Order of the list; `-` in front: descending. `target`: by the domain.", "target"
    )


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class AnyAdminProfile(_Item):
    """An admin of either kind. Quotas in MB; limits: 0 unlimited, -1 none."""

    mail: str
    kind: Literal["admin", "user"] = Field(
        description="`admin`: a standalone admin; `user`: a mail user with rights."
    )
    name: str
    account_status: Literal["active", "disabled"]
    language: str
    is_global_admin: Literal["yes", "no"]
    may_create_domains: Literal["yes", "no"]
    max_domains: int
    max_quota: int = Field(description="In `quotaUnit`.")
    quota_unit: Literal["MB", "GB", "TB"]
    max_users: int
    max_aliases: int
    max_lists: int
    disable_viewing_mail_log: Literal["yes", "no"]
    disable_managing_quarantined_mails: Literal["yes", "no"]
    managed_domains: list[str] = Field(description="Empty for global admins, who manage all.")
    used_domains: int = Field(description="The number of managed domains that exist.")
    used_quota: int = Field(description="The sum of these domains' quotas, in MB.")
    used_users: int = Field(description="The sum of these domains' limits of users.")
    used_aliases: int
    used_lists: int


class AliasDomainProfile(_Item):
    """Another name of a domain."""

    alias_domain: str
    domain: str
    account_status: Literal["active", "disabled"] = Field(
        description="Disabled: mail to it is refused, as its ownership is not verified."
    )
