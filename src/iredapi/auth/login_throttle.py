"""The login throttle: which counters an attempt is counted by, and what is kept of a guess.

Somebody who guesses at an account must not lock its owner out. So an account that has logged in
well from a network within 30 days has a counter of its own there, and strangers fill another one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from iredapi.errors import TooManyAttempts
from iredapi.runtime.context import AppContext
from iredapi.state import Attempt

_IPV4_PREFIXES: Final = (32, 24)
_IPV6_PREFIXES: Final = (64,)
"""What counts as one network, the narrowest first. One host chooses its IPv6 addresses from a /64.
Of IPv4 it is the address, and then its /24: dynamic addresses change within a pool, and whoever
shares the pool fills the counter of the /24 only, not that of an address that is in use."""
_TAG_BYTES: Final = 2
"""So few that a stolen tag fits one password of 65536, and proves none."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What one attempt to log in is counted by."""

    account: str
    networks: tuple[str, ...]
    """Those of the client, the narrowest first; none when its address cannot be read."""
    keys: tuple[str, ...]
    is_noted: bool
    """Whether all networks are known, and noted lately."""

    @property
    def where(self) -> str:
        """From where the same guess is the same."""
        return self.networks[-1] if self.networks else ""


async def counters(context: AppContext, account: str, client: str) -> Counters:
    """Return by what an attempt is judged: the account's own counter here, or that of strangers."""
    networks = networks_of(client)
    known = await context.state.networks.of(account, networks)
    is_noted = all(known.get(network, False) for network in networks)
    for network in networks:
        if network in known:
            return Counters(account, networks, (f"known:{network}:{account}",), is_noted)
    where = networks[0] if networks else client
    return Counters(account, networks, (f"account:{account}", f"address:{where}"), is_noted)


def counters_of_account(account: str, client: str) -> Counters:
    """Return by what the verification of somebody else's password is judged."""
    return Counters(account, networks_of(client), (f"account:{account}",), is_noted=True)


async def begin(context: AppContext, used: Counters, password: str) -> Attempt:
    """Count an attempt before the password is looked at. Raises TooManyAttempts."""
    tag = tag_of(context.guess_key, used.account, used.where, password)
    attempt = await context.state.attempts.begin(used.keys, tag)
    if attempt.wait:
        raise TooManyAttempts(retry_after=attempt.wait)
    return attempt


def tag_of(key: bytes, account: str, where: str, password: str) -> str:
    """Return what is kept of a guess."""
    text = f"{account}\0{where}\0{password}"
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")[:_TAG_BYTES].hex()


async def succeeded(context: AppContext, used: Counters, attempt: Attempt) -> None:
    """Forget the account's failures, and remember where it logged in from."""
    await context.state.attempts.succeeded(attempt)
    if not used.is_noted:
        await context.state.networks.remember(used.account, used.networks)


def networks_of(client: str) -> tuple[str, ...]:
    """Return what a client's address belongs to, the narrowest network first."""
    try:
        address = ip_address(client)
    except ValueError:
        return ()
    prefixes = _IPV4_PREFIXES if address.version == 4 else _IPV6_PREFIXES
    return tuple(str(ip_network((address, prefix), strict=False)) for prefix in prefixes)
