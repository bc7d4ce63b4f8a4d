"""One request to the receiver of a webhook: which URLs may be called, and what became of it."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import dns.exception

from iredapi import __version__
from iredapi.backends import outbound
from iredapi.backends.outbound import NoAnswer, Sent
from iredapi.config.settings import Settings
from iredapi.domain import http_urls, webhooks
from iredapi.domain.http_urls import HttpUrl
from iredapi.domain.webhooks import Webhook

IN_FLIGHT: Final = 8
"""Requests to one receiver at a time."""
URL_NOT_ALLOWED: Final = "URL_NOT_ALLOWED"
HTTP_STATUS: Final = "HTTP_STATUS"
REDIRECT: Final = "REDIRECT"
REASONS: Final = (*outbound.REASONS, URL_NOT_ALLOWED, HTTP_STATUS, REDIRECT)
"""Why an event was not taken."""
_CONNECT_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request."""

    status: int | None
    """Of the answer; None: there is none."""
    reason: str
    """Why the event was not taken; empty: it was."""
    milliseconds: int


async def tls_of(settings: Settings) -> ssl.SSLContext:
    """Return which authorities are trusted."""

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if settings.webhook_ca_file:
            context.load_verify_locations(cafile=settings.webhook_ca_file)
        return context

    return await asyncio.to_thread(load)


def why_not(settings: Settings, url: HttpUrl) -> str:
    """Say why the operator does not permit a URL; empty: it is permitted.

    Addresses of names are compared when they are connected to.
    """
    if url.scheme == "http" and not settings.webhook_http:
        return "https:// is needed here (IREDAPI_WEBHOOK_HTTP)."
    if str(url.port) not in settings.webhook_ports:
        return f"Port {url.port} is not among IREDAPI_WEBHOOK_PORTS."
    if url.address is not None and not outbound.is_public(url.address, settings.receiver_networks):
        return "The address is not public, and not in IREDAPI_WEBHOOK_NETWORKS."
    return ""


class Receiver:
    """Sends the events of one webhook; keeps connections until it is closed."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext, webhook: Webhook) -> None:
        from iredapi.backends.http_site import Site

        self._settings = settings
        self._webhook = webhook
        self._url = http_urls.parse(webhook.url)
        connect = min(_CONNECT_SECONDS, settings.webhook_timeout)
        networks = settings.receiver_networks
        self._site = Site(self._url, networks, tls, connect_seconds=connect, kept=IN_FLIGHT)

    async def send(self, event_id: str, kind: str, body: bytes, now: float) -> Outcome:
        """Send an event. Never raises; ``now`` is in seconds since the epoch."""
        begun = time.monotonic()
        status, reason = None, ""
        try:
            if why_not(self._settings, self._url):
                raise NoAnswer(URL_NOT_ALLOWED)
            async with asyncio.timeout(self._settings.webhook_timeout):
                status = await self._status(event_id, kind, body, now)
        except TimeoutError:
            reason = outbound.TIMEOUT
        except NoAnswer as error:
            reason = error.reason
        if status is not None and not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            moved = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
            reason = REDIRECT if moved else HTTP_STATUS
        return Outcome(status, reason, round((time.monotonic() - begun) * 1000))

    async def _status(self, event_id: str, kind: str, body: bytes, now: float) -> int:
        headers = webhooks.headers(self._webhook, event_id, kind, now, body)
        headers["User-Agent"] = f"iredapi/{__version__}"
        sent = Sent("POST", headers, body)
        answer = await self._site.send(await self._addresses(), sent, most=_MAX_ANSWER)
        return answer.status

    async def _addresses(self) -> list[str]:
        if self._url.address is not None:
            return [self._url.host]
        from iredapi.backends.domain_dns import Survey

        survey = Survey(self._settings.resolver, self._settings.dns_timeout)
        try:
            return await survey.addresses(self._url.host)
        except (TimeoutError, OSError, dns.exception.DNSException):
            raise NoAnswer(outbound.NO_ADDRESS) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._site.close()
