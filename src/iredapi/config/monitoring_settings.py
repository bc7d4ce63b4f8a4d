"""Settings of metrics."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr, field_validator

from iredapi.config.access_settings import Network
from iredapi.config.parsing import CommaList

_SHORTEST = 16


class MonitoringSettings(BaseModel):
    """Who may read `/metrics`."""

    TITLE: ClassVar[str] = "Metrics"

    metrics_networks: CommaList = Field(
        [],
        description="Client addresses and networks that may read `/metrics` (Prometheus), "
        "separated by commas, such as `127.0.0.1,::1`. Empty, and no `IREDAPI_METRICS_TOKEN`: "
        "there are no metrics, and they cost nothing.",
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="A secret of at least 16 characters with which other clients may read "
        "`/metrics` (`Authorization: Bearer`).",
    )

    @field_validator("metrics_networks")
    @classmethod
    def _metrics_networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value

    @field_validator("metrics_token")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < _SHORTEST:
            raise ValueError(f"at least {_SHORTEST} characters")
        return value

    @property
    def readers_of_metrics(self) -> tuple[Network, ...]:
        """The setting ``metrics_networks`` as networks."""
        return tuple(ip_network(item) for item in self.metrics_networks)

    @property
    def has_metrics(self) -> bool:
        """Whether there are metrics."""
        return bool(self.metrics_networks or self.metrics_token.get_secret_value())
