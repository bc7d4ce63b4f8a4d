"""Forms and answers of what domains and users use."""

from __future__ import annotations

from pydantic import BaseModel, Field

from iredapi.schemas import fields
from iredapi.schemas.listing import Paged
from iredapi.schemas.params import param


class UsageFilter(Paged):
    """How much of a table, and which columns."""

    only_fields: fields.FieldNames = param(
        "Only these keys of each row, with commas between them.", "stored_bytes", alias="fields"
    )


class _Usage(BaseModel):
    status: str = Field(
        description="`active`, `suspended` or `disabled`, in effect: a user of a disabled domain "
        "is disabled."
    )
    quota: int = Field(description="MB, 0 is unlimited.")
    stored_bytes: int
    stored_messages: int
    last_login: str | None = Field(
        description="The latest by IMAP or POP3, UTC, `YYYY-MM-DD HH:MM:SS`; null: never."
    )


class UsageOfUser(_Usage):
    """What one user uses."""

    last_login_imap: str | None
    last_login_pop3: str | None
    last_delivery: str | None = Field(description="When mail was last delivered to the mailbox.")


class UsageOfDomain(_Usage):
    """What one domain uses. Limits: 0 unlimited, -1 none."""

    quota: int = Field(description="Limit of `allocated_quota`, MB, 0 is unlimited.")
    allocated_quota: int = Field(description="Sum of the users' quotas, MB.")
    numberOfUsers: int  # noqa: N815 (wire name)
    num_existing_users: int
    numberOfAliases: int  # noqa: N815 (wire name)
    num_existing_aliases: int
    numberOfLists: int  # noqa: N815 (wire name)
    num_existing_maillists: int


class UserUsageRow(UsageOfUser):
    """A row of the table of a domain's users."""

    mail: str
    domain: str


class DomainUsageRow(UsageOfDomain):
    """A row of the table of domains."""

    domain: str
