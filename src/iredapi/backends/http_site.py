"""HTTP requests to hosts that a client has chosen, at addresses that the operator permits only.

Names are looked up before, and the connection is made to one of the addresses that were compared:
what the DNS answers a moment later does not matter. Redirects are not followed, for they would name
another host. There are no proxies, cookies or logins, whatever the environment says.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import httpcore

from iredapi.backends.outbound import (
    ADDRESS_NOT_ALLOWED,
    BROKEN_ANSWER,
    CONNECTION_FAILED,
    NO_ADDRESS,
    TIMEOUT,
    TLS_FAILED,
    Network,
    NoAnswer,
    Sent,
    is_public,
)
from iredapi.domain.http_urls import HttpUrl

_MAX_READ: Final = 32 * 1024
"""Bytes of an answer that are read, as they arrive: heads without end would keep us busy."""
_KEPT_SECONDS: Final = 5.0
_CHUNK: Final = 4096
"""Bytes that are parsed before other requests have their turn."""
MAX_ADDRESSES: Final = 4
"""Addresses of one name that are tried."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has ended, or had the maximum length."""

    status: int
    body: bytes = field(repr=False)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that reads at most ``_MAX_READ`` bytes after each write."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MAX_READ

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return the next bytes; none: the other side has ended."""
        if self._left <= 0:
            raise httpcore.ReadError("The answer is too long.")
        found = await self._stream.read(min(max_bytes, self._left, _CHUNK), timeout)
        self._left -= len(found)
        return found

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send bytes."""
        self._left = _MAX_READ
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Return the connection with TLS."""
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection."""
        return self._stream.get_extra_info(info)


class _Network(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(
            await super().connect_tcp(host, port, timeout, local_address, socket_options)
        )


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
        # The connections of httpx without its client: they know no redirects, cookies, proxies or
        # logins. They are found again by address, so they must be those to one name only.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=kept,
            keepalive_expiry=_KEPT_SECONDS,
            network_backend=_Network(),
        )

    def permitted(self, addresses: Sequence[str]) -> list[str]:
        """Return the addresses that ``send`` would connect to."""
        found = [text for text in addresses if is_public(ip_address(text), self._allowed)]
        return found[:MAX_ADDRESSES]

    async def send(self, addresses: Sequence[str], sent: Sent, *, most: int) -> Answer:
        """Send a request to the first address that can be reached; return the answer.

        ``addresses`` are those of the name, just looked up; ``most`` is the number of bytes of the
        answer's body that are wanted, at most 16 KiB. Raises NoAnswer; only connecting has a limit
        of time.
        """
        if not addresses:
            raise NoAnswer(NO_ADDRESS)
        reason = ADDRESS_NOT_ALLOWED
        for address in self.permitted(addresses):
            try:
                return await self._send_to(address, sent, most)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                reason = TLS_FAILED if _is_of_tls(error) else CONNECTION_FAILED
            except httpcore.TimeoutException:
                raise NoAnswer(TIMEOUT) from None
            except (httpcore.NetworkError, httpcore.ProtocolError):
                raise NoAnswer(BROKEN_ANSWER) from None
        raise NoAnswer(reason)

    async def _send_to(self, address: str, sent: Sent, most: int) -> Answer:
        url = self._url
        target = httpcore.URL(
            scheme=url.scheme, host=address, port=url.port, target=url.path.encode()
        )
        headers = {"Host": url.authority, "Accept": "*/*", "User-Agent": "iredapi"}
        headers |= sent.headers
        async with self._pool.stream(
            sent.method,
            target,
            headers=list(headers.items()),
            content=sent.content or None,
            # The name for which the certificate must be.
            extensions={
                "sni_hostname": url.host,
                "timeout": {"connect": self._connect_seconds},
            },
        ) as response:
            body = b""
            async for part in response.aiter_stream():
                body += part
                if len(body) >= most:
                    break
        return Answer(response.status, body[:most])

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _is_of_tls(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
