"""Networks from which an account has logged in well: there it has a login throttle of its own."""

from collections.abc import Callable, Sequence

from sqlalchemy import delete, literal, or_, select

from iredapi.state.connections import Connections
from iredapi.state.tables import as_key, known_networks, upsert

KEPT = 30 * 86400.0
"""Seconds for which a network is known after the last login from it."""

FRESH = 86400.0
"""Seconds for which a login from a known network is not written again.

What is noted so far in the future was noted by a clock that has been corrected since: nobody knows
when that was.
"""

_LENGTH = 255


class KnownNetworks:
    """The known networks of all replicas."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def of(self, account: str, networks: Sequence[str]) -> dict[str, bool]:
        """Return which of these networks are known, and whether that was written lately."""
        if not networks:
            return {}
        table, now = known_networks.c, self._clock()
        rows = await self._connections.read(
            select(table.network, table.seen).where(
                table.account == as_key(account, _LENGTH),
                table.network.in_(networks),
                table.seen > now - KEPT,
                table.seen < now + FRESH,
            )
        )
        return {row.network: now - FRESH < row.seen <= now for row in rows}

    async def remember(self, account: str, networks: Sequence[str]) -> None:
        """Note a login; old notes of everybody are removed."""
        if not networks:
            return
        table, now = known_networks.c, self._clock()
        over = or_(table.seen <= now - KEPT, table.seen >= now + FRESH)
        await self._connections.write(delete(known_networks).where(over))
        rows = [
            {"account": as_key(account, _LENGTH), "network": network, "seen": now}
            for network in sorted(networks)
        ]
        await self._connections.write(
            upsert(self._connections.dialect, known_networks, rows, [("seen", literal(now))])
        )

    async def forget(self, account: str) -> None:
        """Forget an account that is gone, or has another name."""
        await self._connections.write(
            delete(known_networks).where(known_networks.c.account == as_key(account, _LENGTH))
        )
