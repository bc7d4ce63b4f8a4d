"""API tokens: their grants, and how grants are compared.

A grant limits rights and never adds any. A request with a token has the rights that the owner has
at that time, limited to the grant (``narrowed``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from iredapi.domain.actors import Actor
from iredapi.errors import PermissionDenied, Problem

Network = IPv4Network | IPv6Network

PREFIX: Final = "iredapi_"
"""First characters of every token, so that secret scanners find tokens."""
MAX_DAYS: Final = 3650
MAX_OVERLAP: Final = 7 * 24 * 3600
"""Maximum time in seconds that a token's old secret is valid after a rotation."""
MAX_NETWORKS: Final = 100


@dataclass(frozen=True, slots=True)
class Grant:
    """The limits of a token."""

    read_only: bool = False
    domains: frozenset[str] | None = None
    """None: all domains of the owner; an empty set: no domain."""
    networks: frozenset[str] = frozenset()
    """Client networks that may use the token; empty: any."""
    expires: float | None = None
    """Seconds since the epoch."""

    @property
    def is_limited(self) -> bool:
        """Whether the token has fewer rights than its owner."""
        return self != FULL

    def admits(self, client: str) -> bool:
        """Tell whether a client address may use the token."""
        if not self.networks:
            return True
        try:
            address = ip_address(client)
        except ValueError:
            return False
        return any(address in ip_network(network) for network in self.networks)

    def exceeded_by(self, other: Grant) -> tuple[str, ...]:
        """Return the limits in which ``other`` allows more than this grant; empty: none."""
        found = []
        if self.read_only and not other.read_only:
            found.append("read_only")
        if self.domains is not None and (other.domains is None or other.domains - self.domains):
            found.append("domains")
        if self.networks and not (other.networks and self._contains(other.networks)):
            found.append("networks")
        if self.expires is not None and (other.expires is None or other.expires > self.expires):
            found.append("expires")
        return tuple(found)

    def _contains(self, others: frozenset[str]) -> bool:
        own = [ip_network(network) for network in self.networks]
        return all(any(_inside(ip_network(other), network) for network in own) for other in others)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The limits requested for a new token; None: as the caller's."""

    label: str
    read_only: bool | None = None
    domains: frozenset[str] | None = None
    networks: frozenset[str] | None = None
    days: int = 0
    """Days until the token expires; 0: when the caller's token expires, otherwise never."""


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False


FULL: Final = Grant()
"""All rights of the owner: the grant of a login session."""


def network(text: str) -> str:
    """Parse an address or network into its normal form. Raises ValueError."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        # IPv4-mapped client addresses are read as IPv4, too.
        if found.prefixlen < 96:
            raise ValueError("An IPv4-mapped network must lie in ::ffff:0:0/96.")
        found = ip_network((found.network_address.ipv4_mapped, found.prefixlen - 96))
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def too_limited(names: Iterable[str] = ()) -> PermissionDenied:
    """Return the error that refuses parameters whose effect would outlive a limited token."""
    code = "LIMITED_TOKEN"
    return PermissionDenied(
        code, errors=[Problem(name, code, "This token must not change it.") for name in names]
    )


def narrowed(owner: Actor, token: str, grant: Grant) -> Actor:
    """Return the actor of a request with a token; only here a grant limits an actor.

    With a token for some domains the actor is a normal admin of these domains, even when the owner
    is a global admin, and may not create domains.
    """
    found = replace(owner, token=token, read_only=grant.read_only, limited=grant.is_limited)
    if grant.domains is None:
        return found
    domains = grant.domains if owner.is_global else grant.domains & owner.domains
    settings = {key: value for key, value in owner.settings.items() if key != "create_new_domains"}
    return replace(found, is_global=False, domains=domains, settings=settings)
