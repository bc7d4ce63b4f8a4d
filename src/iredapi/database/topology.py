"""Which server of a cluster answers, and what it is there. Needs no right beyond the login.

PostgreSQL shows a login without ``pg_monitor`` how many standbys a primary has, but not their lag.
MariaDB and MySQL tell of Galera, but not of asynchronous replicas (``REPLICATION CLIENT``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.column_types import MYSQL
from iredapi.database.server import Server

_POSTGRESQL: Final = text(
    "SELECT host(inet_server_addr()) AS address, inet_server_port() AS port,"
    " pg_is_in_recovery() AS standby, current_setting('transaction_read_only') AS reads_only,"
    " extract(epoch FROM pg_postmaster_start_time())::text AS started,"
    " (SELECT count(*) FROM pg_stat_replication WHERE application_name <> 'pg_basebackup')"
    " AS standbys,"
    " CASE WHEN pg_is_in_recovery() THEN"
    " extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS lag"
)
_VARIABLES: Final = text(
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('hostname', 'port', 'read_only',"
    " 'innodb_read_only', 'super_read_only', 'wsrep_on', 'wsrep_node_name', 'server_id',"
    " 'server_uuid', 'server_uid')"
)
_STATUS: Final = text(
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_cluster_status',"
    " 'wsrep_local_state_comment', 'wsrep_local_index', 'wsrep_cluster_state_uuid')"
)
_ON: Final = {"ON", "1", "YES"}


@dataclass(frozen=True, slots=True)
class Topology:
    """What one server says of itself. None: not known, or there is no such thing."""

    engine: str
    version: str
    node: str
    """Host and port as the server itself knows them; on Galera its name in the cluster as well."""
    role: str
    """``primary``, ``standby``, ``server``, ``read-only server``, ``galera member 2 of 3``."""
    cluster_size: int | None = None
    """The server with its standbys, or the nodes of a Galera cluster that are in touch."""
    state: str | None = None
    """Of a node of Galera: its state, and that of the cluster."""
    lag_seconds: float | None = None
    """Of a standby: since the last transaction that it has; it grows while nobody writes."""
    writer: str = ""
    """What it has in common with no other server that takes writes, except with nodes of the same
    Galera cluster; empty: it takes none. It does not depend on the address that it is reached by.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, for people."""
        found = asdict(self)
        del found["writer"]
        return {name: value for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        """Return a line for people."""
        size = ""
        if self.cluster_size is not None and not self.role.startswith("galera"):
            size = f" ({self.cluster_size} servers)"
        words = [f"{self.engine} {self.version}", self.node, self.role + size]
        if self.state is not None:
            words.append(self.state)
        if self.lag_seconds is not None:
            words.append(f"{self.lag_seconds:.1f} s behind")
        return ", ".join(words)


async def ask(connection: AsyncConnection) -> Topology | None:
    """Return what a server says of itself; None: SQLite. Raises the driver's errors."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return None
    server = await Server.ask(connection)
    engine, _, version = str(server).rpartition(" ")
    if dialect == "postgresql":
        return await _of_postgresql(connection, engine, version)
    assert dialect in MYSQL  # noqa: S101
    variables = await _pairs(connection, _VARIABLES)
    node = f"{variables.get('hostname', '')}:{variables.get('port', '')}"
    if variables.get("wsrep_on") not in _ON:
        if any(variables.get(f"{name}read_only") in _ON for name in ("", "super_", "innodb_")):
            return Topology(engine, version, node, "read-only server")
        ids = [variables.get(name, "") for name in ("server_id", "server_uuid", "server_uid")]
        return Topology(engine, version, node, "server", writer=" ".join([node, *ids]).strip())
    status = await _pairs(connection, _STATUS)
    size = int(status.get("wsrep_cluster_size") or 0)
    number = int(status.get("wsrep_local_index") or 0) + 1
    cluster = f"galera {status.get('wsrep_cluster_state_uuid')}"
    return Topology(
        engine,
        version,
        f"{variables.get('wsrep_node_name', '')} ({node})",
        # Without quorum a node has no number.
        f"galera member {number} of {size}" if number <= size else "galera node",
        size,
        f"{status.get('wsrep_local_state_comment')}, {status.get('wsrep_cluster_status')}",
        writer=cluster if status.get("wsrep_cluster_status") == "Primary" else "",
    )


async def _of_postgresql(connection: AsyncConnection, engine: str, version: str) -> Topology:
    row = (await connection.execute(_POSTGRESQL)).one()
    node = f"{row.address}:{row.port}" if row.address else "socket"
    if row.standby:
        return Topology(engine, version, node, "standby", lag_seconds=row.lag)
    size = 1 + row.standbys if row.standbys else None
    if row.reads_only != "off":
        return Topology(engine, version, node, "read-only server", size)
    role = "primary" if size else "server"
    # Of its start: an address may be another one for each client, and a clone has the same id.
    return Topology(engine, version, node, role, size, writer=f"postgresql {row.started}")


async def _pairs(connection: AsyncConnection, question: Any) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in await connection.execute(question)}
