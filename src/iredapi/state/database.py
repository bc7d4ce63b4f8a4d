"""The state database: data of iredapi itself that all replicas share."""

import time
from collections.abc import Callable
from typing import Self

from sqlalchemy import delete, false
from sqlalchemy.exc import DBAPIError

from iredapi.database import topology
from iredapi.database.topology import Topology
from iredapi.observability.health_checks import NotUsable
from iredapi.state.connections import CALL_TIMEOUT, MAX_AGE, Connections, StateUnavailable
from iredapi.state.events import Events
from iredapi.state.guarded_mailboxes import GuardedMailboxes
from iredapi.state.idempotency_keys import IdempotencyKeys
from iredapi.state.locks import Locks
from iredapi.state.login_attempts import LoginAttempts
from iredapi.state.login_networks import KnownNetworks
from iredapi.state.migrate import migrate
from iredapi.state.pending_renames import Renames
from iredapi.state.sessions import Sessions
from iredapi.state.signing_keys import SigningKeys
from iredapi.state.tables import sessions as sessions_table
from iredapi.state.tokens import Tokens
from iredapi.state.webhooks import Webhooks
from iredapi.state.write_journal import Journal
from iredapi.state.written_servers import WrittenServers


class State:
    """The connections to the state database and its repositories. Use ``State.open``.

    Every method of a repository raises ``StateUnavailable`` when the database cannot be reached.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        sessions: Sessions,
        attempts: LoginAttempts,
        locks: Locks,
        journal: Journal,
        renames: Renames,
        tokens: Tokens,
        networks: KnownNetworks,
    ) -> None:
        self.connections = connections
        self.sessions = sessions
        self.attempts = attempts
        self.locks = locks
        self.journal = journal
        self.renames = renames
        self.tokens = tokens
        self.networks = networks
        self.signing_keys = SigningKeys(connections)
        self.guarded_mailboxes = GuardedMailboxes(connections, clock=locks.clock)
        self.idempotency_keys = IdempotencyKeys(connections, clock=locks.clock)
        self.events = Events(connections, clock=locks.clock)
        self.webhooks = Webhooks(connections, clock=locks.clock)
        self.written = WrittenServers(connections, clock=locks.clock)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        session_idle: float = 1800,
        session_absolute: float = 43200,
        throttle_limit: int = 10,
        throttle_window: float = 900,
        call_timeout: float = CALL_TIMEOUT,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Connect to ``url`` and bring its tables up to date.

        ``session_idle``, ``session_absolute`` and ``throttle_window`` are seconds,
        ``throttle_limit`` is attempts per window, ``call_timeout`` is seconds for one call,
        ``max_age`` for a connection; ``clock`` gives seconds since the epoch. Raises
        ``WrongDatabase`` when the database belongs to another program.
        """
        if min(session_idle, session_absolute, throttle_limit, throttle_window) <= 0:
            raise ValueError("Time-outs and limits of the state database must be positive.")
        connections = await Connections.open(url, call_timeout=call_timeout, max_age=max_age)
        try:
            await migrate(connections)
        except BaseException:
            await connections.close()
            raise
        return cls(
            connections,
            sessions=Sessions(
                connections, idle=session_idle, absolute=session_absolute, clock=clock
            ),
            attempts=LoginAttempts(
                connections, limit=throttle_limit, window=throttle_window, clock=clock
            ),
            locks=Locks(connections, clock=clock),
            journal=Journal(connections, clock=clock),
            renames=Renames(connections, clock=clock),
            tokens=Tokens(connections, clock=clock),
            networks=KnownNetworks(connections, clock=clock),
        )

    async def ping(self) -> None:
        """Check that writes work, with a DELETE that matches nothing.

        Raises ``StateUnavailable`` without an answer, and ``NotUsable`` when the database is full
        or read-only: then reads work, but nobody can log in.
        """
        if time.monotonic() < self.connections.full_until:
            raise NotUsable("full")
        try:
            await self.connections.write(delete(sessions_table).where(false()))
        except StateUnavailable as error:
            if error.read_only:
                raise NotUsable("read-only") from error
            raise
        except DBAPIError as error:
            raise NotUsable("read-only") from error

    async def topology(self) -> Topology | None:
        """Return which server answers; None: SQLite."""
        if self.connections.dialect == "sqlite":
            return None
        return await self.connections.use(topology.ask)

    async def close(self) -> None:
        """Wait for background tasks and close all connections."""
        await self.locks.close()
        await self.attempts.close()
        await self.networks.close()
        await self.connections.close()
