"""Settings about clients, logins, sessions and tokens."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from iredapi.config.parsing import CommaList
from iredapi.domain.origins import normalised as normalised_origin

Network = IPv4Network | IPv6Network


class AccessSettings(BaseModel):
    """Who may use the API, and for how long after a login."""

    TITLE: ClassVar[str] = "Clients, logins, sessions and tokens"

    allowed_networks: CommaList = Field(
        [],
        description="Client addresses and networks that may use the API, separated by commas; "
        "empty: all clients. `restful_api_clients` of iRedAdmin's settings must admit the client "
        "too.",
    )
    trusted_proxies: CommaList = Field(
        [],
        description="Addresses and networks of web servers in front, separated by commas, whose "
        "X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host are trusted. Without it all "
        "clients behind one have its address.",
    )
    allowed_origins: CommaList = Field(
        [],
        description="Web sites, such as `https://panel.example.com`, whose pages may log in and "
        "make changes with a session, besides pages of the API's own host.",
    )
    session_idle: int = Field(
        1800, ge=60, description="Seconds without a request after which a session ends."
    )
    session_absolute: int = Field(
        43200, ge=60, description="Maximum lifetime of a session, seconds."
    )
    session_cookie: str = Field(
        "iredapi_session", pattern=r"^[A-Za-z0-9_-]+$", description="Name of the session cookie."
    )
    tokens_outlive_password: bool = Field(
        False,
        description="API tokens stay valid when their owner's password is changed. By default they "
        "are revoked: somebody who knew the old password may have created them.",
    )
    login_failures: int = Field(
        10,
        ge=1,
        description="Different wrong passwords per account and per address before 429; an account "
        "that logged in from a network within 30 days has a counter of its own there.",
    )
    login_window: int = Field(900, ge=1, description="Seconds over which failures are counted.")
    idempotency_seconds: int = Field(
        86400,
        ge=60,
        description="Seconds for which the answer to a request with an `Idempotency-Key` is kept.",
    )
    strict: bool = Field(
        False,
        description="Parameters that an operation ignores, and values that it would adjust, are "
        "errors; the parameter `strict=no` of a request overrides this.",
    )
    query_login: bool = Field(
        True,
        description="Also accept login credentials in the query string (they are never logged).",
    )

    @field_validator("allowed_networks", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        return [normalised_origin(item) for item in value]

    def networks(self, name: str) -> tuple[Network, ...]:
        """Return the setting ``allowed_networks`` or ``trusted_proxies`` as networks."""
        return tuple(ip_network(item) for item in getattr(self, name))
