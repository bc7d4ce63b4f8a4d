"""Settings of metrics and traces."""

from __future__ import annotations

import os
from importlib.util import find_spec
from ipaddress import ip_network
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr, field_validator

from iredapi.config.access_settings import Network
from iredapi.config.parsing import CommaList

_SHORTEST = 16
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")


class MonitoringSettings(BaseModel):
    """Who may read `/metrics`, and whether there are traces."""

    TITLE: ClassVar[str] = "Metrics and traces"

    metrics_networks: CommaList = Field(
        [],
        description="Client addresses and networks that may read `/metrics` (Prometheus), "
        "separated by commas, such as `127.0.0.1,::1`. Empty, and no `IREDAPI_METRICS_TOKEN`: "
        "there are no metrics, and they cost nothing.",
    )
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="A secret of at least 16 characters (ASCII, no blanks) with which other "
        "clients may read `/metrics` (`Authorization: Bearer`).",
    )

    traces: bool = Field(
        False,
        description="Send traces by OpenTelemetry (OTLP over HTTP), with `iredapi[otel]`. Where "
        "to, how many and under which name: the standard variables such as "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER` and `OTEL_SERVICE_NAME`; see "
        "`docs/traces.md`.",
    )

    @field_validator("traces")
    @classmethod
    def _can_trace(cls, value: bool) -> bool:
        if not value:
            return value
        try:
            found = find_spec("opentelemetry.exporter.otlp.proto.http") and find_spec(
                "opentelemetry.sdk"
            )
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ValueError("install iredapi[otel]: OpenTelemetry is missing")
        for name in _PROTOCOLS:
            if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
                raise ValueError(f"{name}: only {_PROTOCOL} is supported")
        return value

    @field_validator("metrics_networks")
    @classmethod
    def _metrics_networks(cls, value: list[str]) -> list[str]:
        for item in value:
            ip_network(item)
        return value

    @field_validator("metrics_token")
    @classmethod
    def _metrics_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if token and len(token) < _SHORTEST:
            raise ValueError(f"at least {_SHORTEST} characters")
        # systemd keeps a comment behind a value, and no client would send it.
        if not all("!" <= character <= "~" for character in token):
            raise ValueError("visible ASCII characters only: no blanks, no comment behind it")
        return value

    @property
    def readers_of_metrics(self) -> tuple[Network, ...]:
        """The setting ``metrics_networks`` as networks."""
        return tuple(ip_network(item) for item in self.metrics_networks)

    @property
    def has_metrics(self) -> bool:
        """Whether there are metrics."""
        return bool(self.metrics_networks or self.metrics_token.get_secret_value())
