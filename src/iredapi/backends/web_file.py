"""Reads a small file from the web server of a name that a client has chosen.

The name's addresses are looked up here, and the connection is made to one of them, so what the
DNS answers a moment later does not matter. Only public addresses are connected to. Redirects are
not followed: they would name another host.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network
_MAX_BYTES: Final = 16 * 1024
_MAX_ADDRESSES: Final = 4
_UNICAST: Final = IPv6Network("2000::/3")
_WITH_IPV4_INSIDE: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo: gateways send packets on to the IPv4 address inside."""


def is_public(address: IPv4Address | IPv6Address, allowed: Sequence[Network] = ()) -> bool:
    """Tell whether a client may make this service connect to an address.

    ``allowed`` are networks that the operator permits although they are not public.
    """
    if any(address in network for network in allowed):
        return True
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return True
    # Other forms, such as ::ffff:127.0.0.1 and 64:ff9b::7f00:1, stand for IPv4 addresses.
    return address in _UNICAST and not any(address in one for one in _WITH_IPV4_INSIDE)


async def read(
    name: str, path: str, addresses: Sequence[str], allowed: Sequence[Network], seconds: float
) -> str:
    """Return the text of ``https://name/path`` or else ``http://name/path``; empty: there is none.

    ``seconds`` is the limit for everything.
    """
    public = [text for text in addresses if is_public(ip_address(text), allowed)]
    try:
        async with asyncio.timeout(seconds):
            for tls in (await asyncio.to_thread(ssl.create_default_context), None):
                for address in public[:_MAX_ADDRESSES]:
                    if text := await _read_from(address, tls, name, path):
                        return text
    except TimeoutError:
        pass
    return ""


async def _read_from(address: str, tls: ssl.SSLContext | None, name: str, path: str) -> str:
    port = 443 if tls else 80
    try:
        reader, writer = await asyncio.open_connection(
            address, port, ssl=tls, server_hostname=name if tls else None, limit=_MAX_BYTES
        )
    except (OSError, ValueError):
        return ""
    try:
        # HTTP/1.0: the body ends with the connection, and is not sent in chunks.
        lines = (f"GET /{path} HTTP/1.0", f"Host: {name}", "User-Agent: iredapi", "Accept: */*")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        await writer.drain()
        content = b""
        while len(content) < _MAX_BYTES and (some := await reader.read(_MAX_BYTES)):
            content += some
    except (OSError, ValueError):
        return ""
    finally:
        writer.transport.abort()
    head, _, body = content.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"200":
        return ""
    return body[:_MAX_BYTES].decode("utf-8", "replace").strip()
