"""Forms and answers of webhooks."""

from __future__ import annotations

from pydantic import BaseModel, Field

from iredapi.schemas import fields
from iredapi.schemas.params import Params, param
from iredapi.schemas.tokens import Rotation

_URL = (
    "Where events are sent: `https://`, a name or a public IP address, and a port that the "
    "operator allows. Without user and password: requests are signed."
)
_KINDS = "Only these kinds of events, such as `user.created`, with commas between them."
_DOMAINS = "Only events of these domains, with commas between them."
_KIND_NAMES = "user.created,user.updated,user.deleted"


class NewWebhook(Params):
    """A new webhook. Without limits it gets all events that its owner may see."""

    url: fields.WebhookUrl = param(_URL, "https://billing.example.com/mail", required=True)
    label: fields.Label = param("Purpose of the webhook.", "Billing system", required=True)
    kinds: fields.EventKinds = param(f"{_KINDS} Empty: all.", _KIND_NAMES)
    domains: fields.ExistingDomains = param(
        f"{_DOMAINS} Empty: all that the owner manages.", "example.com"
    )


class WebhookEdit(Params):
    """Changes of a webhook."""

    url: fields.WebhookUrl = param(_URL, "https://billing.example.com/mail")
    label: fields.Label = param("Purpose of the webhook.", "Billing system")
    kinds: fields.EventKinds = param(f"{_KINDS} Empty: all.", _KIND_NAMES)
    domains: fields.ExistingDomains = param(
        f"{_DOMAINS} Empty: all that the owner manages.", "example.com"
    )


class SecretRotation(Rotation):
    """A new secret for a webhook."""

    overlap: fields.Overlap = param(
        "Seconds for which requests are signed with the old secret, too; 0, the default: with the "
        "new one only.",
        "3600",
    )


class DeliveryFilter(Params):
    """How many deliveries."""

    limit: fields.PageSize = param("At most so many; 100 by default.", "20")


class WebhookProfile(BaseModel):
    """A webhook, without its secret. Times are UTC, `YYYY-MM-DDTHH:MM:SS.mmmZ`."""

    id: str
    owner: str = Field(description="Whose rights decide which events are sent.")
    label: str
    url: str
    kinds: list[str] = Field(description="Empty: all.")
    domains: list[str] | None = Field(description="null: all that the owner manages.")
    status: str = Field(
        description="`active`, `failing`: the last delivery was not taken, or `disabled`."
    )
    reason: str | None = Field(
        description="Why it is disabled: `GAVE_UP`, `GONE` (the receiver answered 410), "
        "`OWNER_GONE`, `OWNER_DEMOTED`, `DOMAINS_LOST`."
    )
    waiting: int = Field(description="Events that were not looked at yet, of any kind and domain.")
    attempts: int = Field(description="Requests that were sent, or could not be.")
    created: str
    changed: str = Field(description="When it was enabled or disabled.")
    delivered: str | None = Field(description="The last delivery that was taken.")
    failing_since: str | None


class NewWebhookProfile(WebhookProfile):
    """A webhook with its secret, which cannot be read again."""

    secret: str = Field(description="The key of the signatures.")
    old_secret_until: str | None = Field(
        description="Until when requests are signed with the old secret, too."
    )


class EnabledWebhookProfile(WebhookProfile):
    """A webhook that was enabled."""

    missed: int = Field(
        description="Events of any kind and domain that are not kept any more and were not sent."
    )


class DeliveryRow(BaseModel):
    """One attempt to deliver an event."""

    event: str = Field(description="The event's id.")
    kind: str
    time: str
    attempt: int = Field(description="1 for the first one.")
    status: int | None = Field(description="Of the answer; null: there is none.")
    reason: str | None = Field(description="Why it was not taken; null: it was.")
    ms: int = Field(description="Milliseconds until the answer.")


class PingResult(BaseModel):
    """What became of a test."""

    event: str = Field(description="The id that was sent.")
    status: int | None = Field(description="Of the answer; null: there is none.")
    reason: str | None = Field(description="Why it was not taken; null: it was.")
    ms: int = Field(description="Milliseconds until the answer.")
