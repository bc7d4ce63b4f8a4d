"""Traces: a span of each request. Without the setting ``traces`` this middleware is not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iredapi import __version__
from iredapi.config.settings import Settings
from iredapi.observability import spans

if TYPE_CHECKING:
    from iredapi.observability.otel_tracer import OtelTracer

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


def tracer_of(settings: Settings) -> OtelTracer | None:
    """Return the tracer of this process, if the settings want one; ``spans`` uses it."""
    if not settings.traces:
        return None
    # The library is not loaded otherwise.
    from iredapi.observability.otel_tracer import OtelTracer

    tracer = OtelTracer(__version__)
    spans.use(tracer)
    return tracer


async def close(tracer: OtelTracer | None) -> None:
    """Send the spans that are left."""
    if tracer is not None:
        spans.use(None)
        await asyncio.to_thread(tracer.close)


class Tracing:
    """Makes a span of each request, which is a child of the client's span in ``traceparent``."""

    def __init__(self, app: ASGIApp, *, tracer: OtelTracer, untraced: frozenset[str]) -> None:
        self.app = app
        self._tracer = tracer
        self._untraced = untraced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in self._untraced:
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracer.request(method, spans.first_of(scope["headers"])) as span:
            try:
                await self.app(scope, receive, watched)
            finally:
                if span.is_recording():
                    name, found = _described(method, scope, status)
                    self._tracer.describe(span, name, found, failed=status >= 500 or not status)


def _described(method: str, scope: Scope, status: int) -> tuple[str, spans.Attributes]:
    """Return the name and attributes of a span: of the route, never the path with its accounts."""
    route = scope.get("iredapi.route", "").replace(":name}", "}")
    found: dict[str, str | int] = {
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": "https" if scope.get("iredapi.https") else scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "iredapi.operation": scope.get("iredapi.action", ""),
        "iredapi.code": scope.get("iredapi.code", ""),
        "iredapi.request_id": scope.get("iredapi.request_id", ""),
    }
    if status >= 500 or not status:
        found["error.type"] = str(scope.get("iredapi.code") or status)
    return f"{method} {route}" if route else method, found
