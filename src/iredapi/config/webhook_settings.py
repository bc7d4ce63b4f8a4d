"""Settings of webhooks."""

from __future__ import annotations

import ssl
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from iredapi.config.access_settings import Network
from iredapi.config.parsing import CommaList


class WebhookSettings(BaseModel):
    """Where events are sent ([webhooks.md](webhooks.md))."""

    TITLE: ClassVar[str] = "Webhooks"

    webhooks: bool = Field(
        True,
        description="Admins may have events sent to URLs that they choose, if there are events "
        "(`IREDAPI_EVENTS`).",
    )
    webhook_http: bool = Field(
        False,
        description="Webhooks may have `http://` URLs: whoever is between reads the events, and "
        "may drop them.",
    )
    webhook_ports: CommaList = Field(["443", "80"], description="Ports that webhooks may have.")
    webhook_networks: CommaList = Field(
        [],
        description="Networks in which receivers may be although they are not public, such as "
        "`192.168.7.0/24`. **Every admin can make this service send requests to hosts there.**",
    )
    webhook_ca_file: str = Field(
        "",
        description="File of certificates (PEM) of authorities that are trusted besides those of "
        "the system.",
    )
    webhook_timeout: float = Field(
        15, ge=0.1, le=60, description="Seconds for one delivery, from the DNS to its answer."
    )
    webhook_retry_seconds: int = Field(
        86400,
        ge=1,
        le=604800,
        description="Seconds for which an event is sent again when it is not taken; then the "
        "webhook is disabled.",
    )

    @field_validator("webhook_ports")
    @classmethod
    def _webhook_ports(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("at least one port is expected")
        for item in value:
            if not (item.isascii() and item.isdigit() and 0 < int(item) < 2**16):
                raise ValueError(f"{item!r} is no port")
        return [str(int(item)) for item in value]

    @field_validator("webhook_networks")
    @classmethod
    def _webhook_networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value

    @field_validator("webhook_ca_file")
    @classmethod
    def _webhook_ca_file(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError("no such file")
        if value:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
            except ssl.SSLError:
                raise ValueError("no certificates in PEM") from None
            except OSError as error:
                raise ValueError(str(error.strerror)) from None
        return value

    @property
    def receiver_networks(self) -> tuple[Network, ...]:
        """The setting ``webhook_networks`` as networks."""
        return tuple(ip_network(item) for item in self.webhook_networks)
