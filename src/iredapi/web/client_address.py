"""The client's IP address, for the allow list, the login throttle and the logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import structlog

from iredapi.config.access_settings import Network
from iredapi.web import request_headers

_log = structlog.get_logger(__name__)
Address = IPv4Address | IPv6Address


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """Parse an address. IPv4-mapped IPv6 is IPv4; port, brackets and zone are dropped."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def header_values(scope: Any, name: bytes) -> list[str]:
    """Return the values of all headers with a name (lower case)."""
    return [value.decode("latin-1") for value in request_headers.values(scope, name)]


def _trusted(address: Address | None, proxies: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in proxies)


@lru_cache(maxsize=1024)
def _peer(text: str, proxies: tuple[Network, ...]) -> tuple[str, bool]:
    """Return the socket's address, and whether it is a trusted proxy."""
    address = parse(text)
    return str(address or ""), _trusted(address, proxies)


_logged: set[str] = set()
_MAX_LOGGED: Final = 20
"""Maximum log lines per process: a client with many addresses must not fill the log."""


def _log_untrusted(peer: str) -> None:
    """Log once per peer that its X-Forwarded-For is ignored."""
    if len(_logged) < _MAX_LOGGED:
        _logged.add(peer)
        _log.warning(
            "proxy_not_trusted",
            peer=peer,
            setting="IREDAPI_TRUSTED_PROXIES",
            hint="X-Forwarded-For of this address is ignored, so all clients behind it count as "
            "one in allow lists and login throttles; if it is your web server, add it",
        )


def resolve(scope: Any, proxies: tuple[Network, ...]) -> tuple[str, bool]:
    """Return the client's address as text, and whether it uses TLS to us or to a trusted proxy.

    The address is the socket's. Only if that is a trusted proxy, X-Forwarded-For is read from the
    right, up to the first hop that is no trusted proxy. A hop that is not an address ends the
    search, and the result is an empty text, which no allow list contains.
    """
    text, trusted = _peer((scope.get("client") or ("", 0))[0], proxies)
    https = scope.get("scheme") == "https"
    if not trusted:
        if b"x-forwarded-for" in request_headers.names(scope) and text not in _logged:
            _log_untrusted(text)
        return text, https
    schemes = header_values(scope, b"x-forwarded-proto")
    if schemes and not https:
        https = schemes[-1].split(",")[-1].strip().lower() == "https"
    hops = ",".join(header_values(scope, b"x-forwarded-for")).split(",")
    for hop in reversed([hop for hop in hops if hop.strip()]):
        address = parse(hop)
        text = str(address or "")
        if not _trusted(address, proxies):
            break
    return text, https


def requested_hosts(scope: Any, proxies: tuple[Network, ...]) -> list[str]:
    """Return ``Host``, and X-Forwarded-Host if the peer is a trusted proxy.

    Each is ``host`` or ``host:port``.
    """
    hosts = header_values(scope, b"host")
    _, trusted = _peer((scope.get("client") or ("", 0))[0], proxies)
    if trusted:
        hosts += ",".join(header_values(scope, b"x-forwarded-host")).split(",")
    return [host for host in hosts if host.strip()]


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks; IPv4-mapped IPv6 networks become IPv4."""
    found: list[Network] = []
    for text in texts:
        network = ip_network(text)
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
            mapped = network.network_address.ipv4_mapped
            network = ip_network(f"{mapped}/{max(network.prefixlen - 96, 0)}")
        found.append(network)
    return tuple(found)
