"""The login throttle: the counters of an attempt, and the stored digest of a tried password.

An attacker who tries passwords must not lock out the owner. So an account that has logged in from a
network within 30 days has a counter of its own for that network; other networks share another one.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from iredapi.errors import TooManyAttempts
from iredapi.runtime.context import AppContext
from iredapi.state import Attempt

_IPV4_PREFIXES: Final = (32, 24)
_IPV6_PREFIXES: Final = (64,)
"""Prefix lengths of a client's networks, the narrowest first. A host chooses its IPv6 addresses
from a /64. IPv4: the address, and its /24, because dynamic addresses change within a pool. Others
in the same pool fill the counter of the /24 only."""
_PARALLEL: Final = 2
_PARALLEL_KNOWN: Final = 16
"""Maximum number of parallel logins of an account from a known network: they share commits. The
right password is one guess there, however often it is tried. Elsewhere each of several accounts
of one address would be counted as a guess."""
_TAG_BYTES: Final = 2
"""So short that a stolen digest fits one password in 65536, and proves none."""


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one attempt to log in."""

    account: str
    networks: tuple[str, ...]
    """Networks of the client, the narrowest first; empty when its address is not valid."""
    keys: tuple[str, ...]
    is_noted: bool
    """Whether all networks are known from an earlier login, and were recorded recently."""

    @property
    def width(self) -> int:
        """How many such attempts may be verified in parallel."""
        return _PARALLEL_KNOWN if len(self.keys) == 1 else _PARALLEL

    @property
    def where(self) -> str:
        """The network within which the same wrong password counts once."""
        return self.networks[-1] if self.networks else ""


async def counters(context: AppContext, account: str, client: str) -> Counters:
    """Return the counters: the account's own one of a known network, or the shared ones."""
    networks = networks_of(client)
    known = await context.state.networks.of(account, networks)
    is_noted = all(known.get(network, False) for network in networks)
    for network in networks:
        if network in known:
            return Counters(account, networks, (f"known:{network}:{account}",), is_noted)
    where = networks[0] if networks else client
    return Counters(account, networks, (f"account:{account}", f"address:{where}"), is_noted)


def counters_of_account(account: str, client: str) -> Counters:
    """Return the counters for the verification of another account's password."""
    return Counters(account, networks_of(client), (f"account:{account}",), is_noted=True)


async def begin(context: AppContext, used: Counters, password: str) -> Attempt:
    """Count an attempt before the password is verified. Raises TooManyAttempts."""
    tag = tag_of(context.guess_key, used.account, used.where, password)
    attempt = await context.state.attempts.begin(used.keys, tag)
    if attempt.wait:
        raise TooManyAttempts(retry_after=attempt.wait)
    return attempt


async def failed(context: AppContext, attempt: Attempt) -> None:
    """Make sure that a wrong password is counted.

    A parallel attempt with the same password may have counted it first, and have been withdrawn.
    """
    if len(attempt.counted) < len(attempt.keys):
        await context.state.attempts.begin(attempt.keys, attempt.guess)


def tag_of(key: bytes, account: str, where: str, password: str) -> str:
    """Return the digest of a tried password that is stored."""
    text = f"{account}\0{where}\0{password}"
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:_TAG_BYTES].hex()


async def succeeded(
    context: AppContext, used: Counters, attempt: Attempt, session: Mapping[str, Any]
) -> None:
    """Reset the account's failures, begin the session, and record the network of the login."""
    await context.state.attempts.succeeded(attempt, session)
    if not used.is_noted:
        await context.state.networks.remember(used.account, used.networks)


def networks_of(client: str) -> tuple[str, ...]:
    """Return the networks of a client address, the narrowest first."""
    try:
        address = ip_address(client)
    except ValueError:
        return ()
    prefixes = _IPV4_PREFIXES if address.version == 4 else _IPV6_PREFIXES
    return tuple(str(ip_network((address, prefix), strict=False)) for prefix in prefixes)
