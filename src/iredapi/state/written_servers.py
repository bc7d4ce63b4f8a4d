"""Which server of each database each process writes to, so that two of them are noticed.

After a failover all processes use the new server from some moment on. What is wrong is that two
servers are written to in the same period; only nodes of Galera may be.
"""

import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from sqlalchemy import delete, select

from iredapi.database.topology import Topology
from iredapi.state.connections import Connections
from iredapi.state.tables import upsert_values, written_servers

SECONDS: Final = 60.0
"""Seconds between two times at which a process looks."""
RECENT: Final = 3 * SECONDS
"""Seconds for which what a process has found counts."""
_KEPT: Final = 86400.0
"""Seconds after which it is removed."""
_LENGTH: Final = 255


@dataclass(frozen=True, slots=True)
class Written:
    """A process and the server of one database to which it writes."""

    name: str
    """Of the database."""
    server: str
    """What tells it from all others (``Topology.writer``)."""
    shown: str
    host: str
    """Where the process runs."""
    since: float
    seen: float
    """The period, in seconds since the epoch."""

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.host}: {self.shown}"


class WrittenServers:
    """The servers of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self._process = secrets.token_hex(16)
        self._host = socket.gethostname()[:_LENGTH]
        self._known: dict[str, tuple[str, float]] = {}
        """By database: the server, and since when."""

    async def record(self, found: Mapping[str, Topology]) -> None:
        """Remember the servers that take the writes of this process, by database."""
        now, rows = self._clock(), []
        for name, told in found.items():
            server = told.writer[:_LENGTH]
            if not server:
                continue
            known = self._known.get(name)
            if known is None or known[0] != server:
                known = self._known[name] = (server, now)
            rows.append(
                {
                    "process": self._process, "name": name, "server": server,
                    "shown": str(told)[:_LENGTH], "host": self._host, "since": known[1],
                    "seen": now,
                }
            )  # fmt: skip
        if not rows:
            return
        columns = ["server", "shown", "host", "since", "seen"]
        dialect = self._connections.dialect
        await self._connections.write_if_possible(
            upsert_values(dialect, written_servers, rows, columns)
        )
        await self._connections.write_if_possible(
            delete(written_servers).where(written_servers.c.seen < now - _KEPT)
        )

    async def recent(self) -> list[Written]:
        """Return what processes have found in the last minutes."""
        table = written_servers.c
        rows = await self._connections.read(
            select(table.name, table.server, table.shown, table.host, table.since, table.seen)
            .where(table.seen > self._clock() - RECENT)
            .order_by(table.name, table.since, table.process)
        )
        return [
            Written(row.name, row.server, row.shown, row.host, float(row.since), float(row.seen))
            for row in rows
        ]


def at_once(written: Sequence[Written]) -> Iterator[tuple[Written, Written]]:
    """Yield, for each database with several servers that are written to at once, two of them."""
    names = set()
    for one, other in combinations(written, 2):
        if (
            one.name == other.name
            and one.name not in names
            and one.server != other.server
            and max(one.since, other.since) < min(one.seen, other.seen)
        ):
            names.add(one.name)
            yield one, other
