"""HTTP requests to hosts that a client has chosen, at addresses that the operator permits only.

Names are looked up before, and the connection is made to one of the addresses that were compared:
what the DNS answers a moment later does not matter. Redirects are not followed, for they would name
another host. There are no proxies, cookies or logins, whatever the environment says.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from iredapi.domain.http_urls import HttpUrl, with_port

Network = IPv4Network | IPv6Network
MAX_ADDRESSES: Final = 4
"""Addresses of one name that are tried."""
_UNICAST: Final = IPv6Network("2000::/3")
_WITH_IPV4_INSIDE: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo: gateways send packets on to the IPv4 address inside."""

_NEAR: Final = (
    IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"),
)  # fmt: skip
"""Anycast of the nearest router (192.0.0.9, .10) and 6to4 relay; documentation (RFC 9637)."""


class NoAnswer(Exception):
    """There is no answer, or not all of it. ``reason`` is one of the codes below."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


NO_ADDRESS: Final = "NO_ADDRESS"
"""The DNS has no address of the name, or could not be asked."""
ADDRESS_NOT_ALLOWED: Final = "ADDRESS_NOT_ALLOWED"
CONNECTION_FAILED: Final = "CONNECTION_FAILED"
TLS_FAILED: Final = "TLS_FAILED"
"""Such as a certificate of another name, or of an unknown authority."""
TIMEOUT: Final = "TIMEOUT"
BROKEN_ANSWER: Final = "BROKEN_ANSWER"
"""The connection ended before the answer was complete, or it is no HTTP."""
REASONS: Final = (
    NO_ADDRESS, ADDRESS_NOT_ALLOWED, CONNECTION_FAILED, TLS_FAILED, TIMEOUT, BROKEN_ANSWER,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent."""

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has ended, or had the maximum length."""

    status: int
    body: bytes = field(repr=False)


def is_public(address: IPv4Address | IPv6Address, allowed: Sequence[Network] = ()) -> bool:
    """Tell whether a client may make this service connect to an address.

    ``allowed`` are networks that the operator permits although they are not public.
    """
    if any(address in network for network in allowed):
        return True
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address in network for network in _NEAR):
        return False
    if isinstance(address, IPv4Address):
        return True
    # Other forms, such as ::ffff:127.0.0.1 and 64:ff9b::7f00:1, stand for IPv4 addresses.
    return address in _UNICAST and not any(address in one for one in _WITH_IPV4_INSIDE)


class Site:
    """One host of a URL. Its connections are kept for further requests; close it at the end."""

    def __init__(
        self,
        url: HttpUrl,
        allowed: Sequence[Network],
        tls: ssl.SSLContext,
        *,
        connect_seconds: float,
        kept: int = 0,
    ) -> None:
        """``kept`` is the maximum number of connections that wait for another request."""
        self._url = url
        self._allowed = allowed
        self._connect_seconds = connect_seconds
        # The transport without a client: it knows no redirects, cookies, proxies or logins.
        # It finds kept connections by address, so it must have those to one name only.
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls if url.scheme == "https" else False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept),
        )

    def permitted(self, addresses: Sequence[str]) -> list[str]:
        """Return the addresses that ``send`` would connect to."""
        found = [text for text in addresses if is_public(ip_address(text), self._allowed)]
        return found[:MAX_ADDRESSES]

    async def send(self, addresses: Sequence[str], sent: Sent, *, most: int) -> Answer:
        """Send a request to the first address that can be reached; return the answer.

        ``addresses`` are those of the name, just looked up; ``most`` is the number of bytes of the
        answer's body that are read. Raises NoAnswer; there is no limit of time but for connecting.
        """
        if not addresses:
            raise NoAnswer(NO_ADDRESS)
        reason = ADDRESS_NOT_ALLOWED
        for address in self.permitted(addresses):
            try:
                return await self._send_to(address, sent, most)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                reason = TLS_FAILED if _is_of_tls(error) else CONNECTION_FAILED
            except httpx.TimeoutException:
                raise NoAnswer(TIMEOUT) from None
            except (httpx.HTTPError, httpx.InvalidURL):
                raise NoAnswer(BROKEN_ANSWER) from None
        raise NoAnswer(reason)

    async def _send_to(self, address: str, sent: Sent, most: int) -> Answer:
        url = self._url
        request = httpx.Request(
            sent.method,
            f"{url.scheme}://{with_port(address, url.port, url.scheme)}{url.path}",
            headers={"Host": url.authority, "Accept": "*/*", "User-Agent": "iredapi"}
            | dict(sent.headers),
            content=sent.content or None,
            # The name for which the certificate must be.
            extensions={
                "sni_hostname": url.host,
                "timeout": {"connect": self._connect_seconds},
            },
        )
        response = await self._transport.handle_async_request(request)
        try:
            body = b""
            async for part in response.aiter_raw():
                body += part
                if len(body) >= most:
                    break
        finally:
            await response.aclose()
        return Answer(response.status_code, body[:most])

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def _is_of_tls(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
