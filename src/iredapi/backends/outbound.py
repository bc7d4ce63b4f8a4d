"""To which addresses this service connects when a client names a host, and what it sends there.

``http_site`` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Network = IPv4Network | IPv6Network
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
