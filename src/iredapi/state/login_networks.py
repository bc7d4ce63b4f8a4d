"""Networks from which an account has logged in: they have login throttles of their own."""

from collections.abc import Callable, Sequence

from sqlalchemy import delete, literal, or_, select

from iredapi.state.batches import Batches
from iredapi.state.connections import Connections
from iredapi.state.tables import as_key, known_networks, upsert

RETENTION = 30 * 86400.0
"""Seconds for which a network is known after the last login from it."""

REWRITE_INTERVAL = 86400.0
"""Seconds for which another login from a known network is not written.

Rows with a time that lies further in the future are ignored: they were written by a clock that has
been corrected since.
"""

_LENGTH = 255


class KnownNetworks:
    """The known networks of all replicas."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self._reads: Batches[tuple[str, Sequence[str]], dict[str, bool]] = Batches(self._read)

    async def of(self, account: str, networks: Sequence[str]) -> dict[str, bool]:
        """Return the known ones among these networks, and whether they were written recently."""
        if not networks:
            return {}
        return await self._reads.submit((as_key(account, _LENGTH), tuple(networks)))

    async def _read(self, items: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, bool]]:
        table, now = known_networks.c, self._clock()
        rows = await self._connections.read(
            select(table.account, table.network, table.seen).where(
                table.account.in_(sorted({account for account, _ in items})),
                table.network.in_(sorted({name for _, networks in items for name in networks})),
                table.seen > now - RETENTION,
                table.seen < now + REWRITE_INTERVAL,
            )
        )
        seen = {(row.account, row.network): row.seen for row in rows}
        return [
            {
                network: now - REWRITE_INTERVAL < seen[account, network] <= now
                for network in networks
                if (account, network) in seen
            }
            for account, networks in items
        ]

    async def close(self) -> None:
        """Wait for batches that are running."""
        await self._reads.close()

    async def remember(self, account: str, networks: Sequence[str]) -> None:
        """Store a login from networks, and remove expired rows of all accounts."""
        if not networks:
            return
        table, now = known_networks.c, self._clock()
        over = or_(table.seen <= now - RETENTION, table.seen >= now + REWRITE_INTERVAL)
        await self._connections.write(delete(known_networks).where(over))
        rows = [
            {"account": as_key(account, _LENGTH), "network": network, "seen": now}
            for network in sorted(networks)
        ]
        await self._connections.write(
            upsert(self._connections.dialect, known_networks, rows, [("seen", literal(now))])
        )

    async def forget(self, account: str) -> None:
        """Remove the networks of an account that was removed or renamed."""
        await self._connections.write(
            delete(known_networks).where(known_networks.c.account == as_key(account, _LENGTH))
        )
