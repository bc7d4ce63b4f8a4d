"""Login sessions with opaque ids, of which only the hash is stored.

Nothing is cached, so that a session ends on every replica at once.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import delete, func, insert, or_, select, update

from iredapi.state.connections import Connections
from iredapi.state.purging import Purging
from iredapi.state.tables import CLIENT_LENGTH, sessions

Role = Literal["global", "normal"]

SEEN_WRITE_INTERVAL = 60.0
"""Seconds between two writes of ``seen`` of one session."""

NAME_LENGTH = 16
"""Characters of a session's public name."""

_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Session:
    """An active session. Times are seconds since the epoch."""

    username: str
    role: Role
    credential: str
    """A fingerprint of the password hash at login (64 characters)."""
    client: str
    """The client address of the login; later requests are not compared with it."""
    created: float
    seen: float
    """The last use, up to ``SEEN_WRITE_INTERVAL`` seconds old."""
    expires: float
    """The absolute end of the session, also when it is in use."""
    id_hash: str

    @property
    def name(self) -> str:
        """The public name of the session, from which its id cannot be derived."""
        return self.id_hash[:NAME_LENGTH]


def hash_id(session_id: str) -> str | None:
    """Return the stored form of an id; None: the id is malformed."""
    if not _ID.fullmatch(session_id):
        return None
    return hashlib.sha256(session_id.encode("ascii")).hexdigest()


class Sessions:
    """The sessions of all replicas. ``idle`` and ``absolute`` are seconds."""

    def __init__(
        self,
        connections: Connections,
        *,
        idle: float,
        absolute: float,
        clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._idle = idle
        self._absolute = absolute
        self._clock = clock
        self._seen_write_interval = min(SEEN_WRITE_INTERVAL, idle / 2)
        self._purging = Purging("Expired sessions", self.purge, clock())

    async def count(self) -> int:
        """Return how many sessions are alive, of all replicas."""
        now, table = self._clock(), sessions.c
        alive = (table.expires > now, table.seen > now - self._idle)
        rows = await self._connections.read(select(func.count()).where(*alive))
        return int(rows[0][0])

    async def create(self, username: str, role: Role, credential: str, client: str) -> str:
        """Begin a session and return its id, which is not stored."""
        session_id, row = await self.new(username, role, credential, client)
        await self._connections.write(insert(sessions).values(row))
        return session_id

    async def new(
        self, username: str, role: Role, credential: str, client: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Return the id of a new session, and the row with which it begins."""
        await self._purging.sometimes(self._clock())
        session_id = secrets.token_urlsafe(32)
        now = self._clock()
        return session_id, {
            "id_hash": hash_id(session_id),
            "username": username,
            "role": role,
            "credential": credential,
            "client": client[:CLIENT_LENGTH],
            "created": now,
            "seen": now,
            "expires": now + self._absolute,
        }

    async def load(self, session_id: str) -> Session | None:
        """Return a session; None when it is unknown, ended, idle for too long or too old.

        One indexed SELECT; every ``SEEN_WRITE_INTERVAL`` seconds an UPDATE of ``seen`` as well.
        """
        id_hash = hash_id(session_id)
        if id_hash is None:
            return None
        session = await self._select(id_hash)
        now = self._clock()
        if session is None or now - session.seen < self._seen_write_interval:
            return session
        updated = await self._connections.write_if_possible(
            update(sessions)
            .where(
                sessions.c.id_hash == id_hash, sessions.c.seen <= now - self._seen_write_interval
            )
            .values(seen=now)
        )
        if updated is None:
            return session
        if updated:
            return replace(session, seen=now)
        # Another request has updated or ended it meanwhile.
        return await self._select(id_hash)

    async def _select(self, id_hash: str) -> Session | None:
        table = sessions.c
        rows = await self._connections.read(
            select(
                table.username,
                table.role,
                table.credential,
                table.client,
                table.created,
                table.seen,
                table.expires,
                table.id_hash,
            ).where(table.id_hash == id_hash)
        )
        if not rows:
            return None
        session = Session(**rows[0]._mapping)
        now = self._clock()
        alive = now < session.expires and now - session.seen < self._idle
        return session if alive else None

    async def end(self, session_id: str) -> bool:
        """End one session; return whether it existed."""
        id_hash = hash_id(session_id)
        if id_hash is None:
            return False
        return (
            await self._connections.write(delete(sessions).where(sessions.c.id_hash == id_hash)) > 0
        )

    async def list(self, username: str) -> list[Session]:
        """Return the active sessions of an admin, the oldest first."""
        table, now = sessions.c, self._clock()
        rows = await self._connections.read(
            select(
                table.username,
                table.role,
                table.credential,
                table.client,
                table.created,
                table.seen,
                table.expires,
                table.id_hash,
            )
            .where(table.username == username, table.expires > now, table.seen > now - self._idle)
            .order_by(table.created, table.id_hash)
        )
        return [Session(**row._mapping) for row in rows]

    async def end_named(self, username: str, name: str, *, but: str = "") -> int:
        """End the session of an admin with this public name; an empty name: all of them.

        The session with the id ``but`` stays. Returns how many ended.
        """
        kept = hash_id(but) if but else None
        table = sessions.c
        ended = delete(sessions).where(table.username == username)
        if name:
            ended = ended.where(table.id_hash.like(f"{name}%"))
        if kept is not None:
            ended = ended.where(table.id_hash != kept)
        return await self._connections.write(ended)

    async def end_domain(self, domain: str, *, but: Collection[str] = ()) -> int:
        """End the sessions of all accounts of a domain, except ``but``; return their number."""
        escaped = domain.replace("|", "||").replace("%", "|%").replace("_", "|_")
        return await self._connections.write(
            delete(sessions).where(
                sessions.c.username.like(f"%@{escaped}", escape="|"),
                sessions.c.username.not_in(sorted(but)),
            )
        )

    async def rebind_credential(self, username: str, old: str, new: str) -> int:
        """Keep sessions valid after a rehash of the password; return their number."""
        table = sessions.c
        return await self._connections.write(
            update(sessions)
            .where(table.username == username, table.credential == old)
            .values(credential=new)
        )

    async def end_all(self, username: str) -> int:
        """End every session of ``username``; return their number."""
        return await self._connections.write(
            delete(sessions).where(sessions.c.username == username)
        )

    async def purge(self) -> int:
        """Remove the rows of expired sessions; return their number."""
        now = self._clock()
        return await self._connections.write(
            delete(sessions).where(
                or_(sessions.c.expires <= now, sessions.c.seen <= now - self._idle)
            )
        )
