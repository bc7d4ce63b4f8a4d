"""Forms and answers of API tokens, sessions and ``whoami``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from iredapi.domain.tokens import TokenRequest
from iredapi.schemas import fields
from iredapi.schemas.params import Params, param


class NewToken(Params):
    """A new API token. Without limits it has all rights of its owner."""

    label: fields.Label = param("Purpose of the token.", "Billing system", required=True)
    days: fields.TokenDays = param(
        "Days until it expires; without it, it does not.",
        "90",
    )
    read_only: fields.YesNo = param("The token may only read.", "yes", alias="readOnly")
    domains: fields.ExistingDomains = param(
        "Domains that it is for. It then has the rights of a normal admin of these.", "example.com"
    )
    networks: fields.Networks = param(
        "Addresses and networks that it works from.", "192.0.2.0/24,2001:db8::1"
    )

    def wish(self) -> TokenRequest:
        """Return the parsed request."""
        sent = self.changes()
        return TokenRequest(
            label=self.label,
            read_only=sent.get("read_only"),
            domains=frozenset(sent["domains"]) if "domains" in sent else None,
            networks=frozenset(sent["networks"]) if "networks" in sent else None,
            days=sent.get("days", 0),
        )


class Rotation(Params):
    """A new secret for a token."""

    overlap: fields.Overlap = param(
        "Seconds for which the old secret stays valid; 0, the default: it ends at once.", "3600"
    )


class TokenProfile(BaseModel):
    """An API token, without its secret."""

    id: str
    label: str
    hint: str = Field(description="The first characters of the secret.")
    status: str = Field(
        description="`active`, `expired`, or `disabled`: its domains have been removed."
    )
    read_only: int = Field(description="1 or 0.")
    domains: list[str] | None = Field(description="null: all that the owner manages.")
    networks: list[str] = Field(description="Client networks that may use it; empty: all.")
    created: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    expires: str | None
    last_used: str | None = Field(description="Up to a minute old.")


class NewTokenProfile(TokenProfile):
    """An API token with its secret, which cannot be read again."""

    token: str = Field(description="Send it as `Authorization: Bearer …`.")
    old_secret_until: str | None = Field(description="Until when the old secret stays valid.")


class SessionProfile(BaseModel):
    """A login session."""

    id: str = Field(description="Public id of the session, not the value of the cookie.")
    client: str = Field(description="Client address of the login.")
    created: str = Field(description="UTC, `YYYY-MM-DD HH:MM:SS`.")
    last_seen: str = Field(description="Up to a minute old.")
    expires: str
    current: int = Field(description="1 for the session of this request.")


class WhoAmI(BaseModel):
    """The caller: admin, rights, client address and token."""

    username: str
    isglobaladmin: int = Field(description="1 or 0; 0 for a token that is for some domains.")
    managed_domains: list[str] = Field(description="Empty for a global admin, who manages all.")
    may_create_domains: int
    read_only: int
    settings: dict[str, Any] = Field(description="Limits of a normal admin.")
    client: str = Field(description="The caller's address, as the allow lists see it.")
    token: TokenProfile | None = Field(description="The API token of this request, if any.")
