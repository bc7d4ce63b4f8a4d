"""API tokens: what one may do, which is never more than its owner, and how that is compared.

A grant narrows; it never gives. Whoever calls with a token is its owner, as the owner is at that
moment, cut down to the grant (``narrowed``).
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
"""How a token begins, so that people and secret scanners know one when they see it."""
MAX_DAYS: Final = 3650
MAX_OVERLAP: Final = 7 * 24 * 3600
"""Longest time, in seconds, for which a token's old secret lives on after a rotation."""
MAX_NETWORKS: Final = 100


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is limited to."""

    read_only: bool = False
    domains: frozenset[str] | None = None
    """None: all domains of the owner; an empty set: none at all, never all."""
    networks: frozenset[str] = frozenset()
    """Where it may be used from; empty: anywhere."""
    expires: float | None = None
    """Seconds since the epoch."""

    @property
    def is_limited(self) -> bool:
        """Tell whether it is less than its owner in any way."""
        return self != FULL

    def admits(self, client: str) -> bool:
        """Tell whether a client address is in one of the networks."""
        if not self.networks:
            return True
        try:
            address = ip_address(client)
        except ValueError:
            return False
        return any(address in ip_network(network) for network in self.networks)

    def wider(self, other: Grant) -> tuple[str, ...]:
        """Name in what ``other`` goes beyond this one; nothing: it is as narrow or narrower."""
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
    """What a new token is to be; what was not asked for is as wide as the caller."""

    label: str
    read_only: bool | None = None
    domains: frozenset[str] | None = None
    networks: frozenset[str] | None = None
    days: int = 0
    """Until it expires; 0: when the caller's token does, else never."""


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False


FULL: Final = Grant()
"""As wide as the owner: what a login session has."""


def network(text: str) -> str:
    """Return an address or a network in its one spelling. Raises ValueError."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        # Client addresses of this kind are read as IPv4, too.
        if found.prefixlen < 96:
            raise ValueError("An IPv4-mapped network must lie in ::ffff:0:0/96.")
        found = ip_network((found.network_address.ipv4_mapped, found.prefixlen - 96))
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def too_limited(names: Iterable[str] = ()) -> PermissionDenied:
    """Return the refusal of what would outlive a limited token; ``names`` are parameters."""
    code = "LIMITED_TOKEN"
    return PermissionDenied(
        code, errors=[Problem(name, code, "This token may not change it.") for name in names]
    )


def narrowed(owner: Actor, token: str, grant: Grant) -> Actor:
    """Return who calls with a token of ``owner``: the only place where a token narrows anybody.

    A token for some domains makes a normal admin of those, also of a global one, who may neither
    create domains nor change what only their creator may.
    """
    found = replace(owner, token=token, read_only=grant.read_only, limited=grant.is_limited)
    if grant.domains is None:
        return found
    domains = grant.domains if owner.is_global else grant.domains & owner.domains
    settings = {key: value for key, value in owner.settings.items() if key != "create_new_domains"}
    return replace(found, is_global=False, domains=domains, settings=settings)
