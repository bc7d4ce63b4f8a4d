"""``/metrics``, for Prometheus: OpenMetrics text.

It is no part of the API. The setting ``metrics_networks`` or ``metrics_token`` decides who may read
it; without both there is no such path, and nothing is counted.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from iredapi import __version__
from iredapi.config.access_settings import Network
from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings
from iredapi.domain.actors import SYSTEM
from iredapi.errors import ApiError, problem
from iredapi.observability import signals
from iredapi.observability.health_checks import AWAY, Condition, Probes
from iredapi.operations import usage
from iredapi.runtime.context import AppContext
from iredapi.state.connections import StateUnavailable
from iredapi.web import client_address, responses
from iredapi.web.authentication import bearer_of

if TYPE_CHECKING:
    from iredapi.observability.metrics import Metrics

_TOPOLOGY_SECONDS: Final = 15.0
"""Asking the servers costs more than everything else, and they change their roles rarely."""
PATHS: Final = frozenset({"/metrics"})


def metrics_of(settings: Settings) -> Metrics | None:
    """Return the metrics of this process, if the settings want any; they listen to ``signals``."""
    if not settings.has_metrics:
        return None
    # The library is not loaded otherwise.
    from iredapi.observability.metrics import Metrics

    metrics = Metrics()
    signals.listen(metrics)
    return metrics


def mount(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add the route."""
    from iredapi.observability.metrics import (
        CONTENT_TYPE,
        domain_samples,
        event_samples,
        login_samples,
        server_samples,
        service_samples,
        webhook_samples,
    )

    topologies = _Topologies()
    proxies = tuple(client_address.networks(settings.trusted_proxies))

    @app.api_route("/metrics", methods=["GET", "HEAD"], include_in_schema=False)
    async def _metrics(request: Request) -> Response:
        if not _may_read(request, settings, proxies):
            return responses.failure(
                ApiError("NOT_AUTHORIZED"), request.scope["iredapi.request_id"]
            )
        wanted = request.query_params.get("domains", "no")
        if wanted not in {"yes", "no"}:
            error = problem("domains", "INVALID_VALUE", "yes or no")
            return responses.failure(error, request.scope["iredapi.request_id"])
        context: AppContext = request.app.state.context
        conditions = await context.probes.ask()
        samples = server_samples(conditions, await topologies.of(context.probes, conditions))
        samples += service_samples(__version__, _storage(settings))
        with suppress(StateUnavailable):  # ``server_up`` says so
            numbers = (await context.state.sessions.count(), await context.state.tokens.count())
            samples += login_samples(*numbers)
            if context.outbox.wanted:
                samples += event_samples(*await context.state.events.pending())
            if settings.events and settings.webhooks:
                counts = await context.state.webhooks.counts(await context.state.events.end())
                samples += webhook_samples(counts)
        if wanted == "yes":
            every = await context.read(SYSTEM, usage.totals)
            samples += domain_samples(
                (name, sums.users, sums.stored_bytes, sums.allocated_quota)
                for name, sums in every.items()
            )
        return Response(metrics.rendered(samples), media_type=CONTENT_TYPE)


class _Topologies:
    """What the servers say of themselves, asked at most every ``_TOPOLOGY_SECONDS``."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, Any]] = {}
        self._until = 0.0

    async def of(
        self, probes: Probes, conditions: Mapping[str, Condition]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return it for the servers that can be reached."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + _TOPOLOGY_SECONDS
            self._found = await probes.describe(conditions)
        return {name: said for name, said in self._found.items() if conditions[name].status != AWAY}


def _storage(settings: Settings) -> str:
    if settings.backend is Backend.LDAP:
        return "ldap"
    return settings.urls()["vmail"].partition(":")[0].partition("+")[0]


def _may_read(request: Request, settings: Settings, proxies: tuple[Network, ...]) -> bool:
    client, _ = client_address.resolve(request.scope, proxies)
    address = client_address.parse(client)
    if address is not None and any(address in net for net in settings.readers_of_metrics):
        return True
    token, sent = settings.metrics_token.get_secret_value(), bearer_of(request.scope)
    return bool(token and sent) and hmac.compare_digest(token.encode(), str(sent).encode())
