"""Login sessions: opaque ids, of which only the hash is stored.

Nothing is cached, so that an ended session is over on every replica at once.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import delete, insert, or_, select, update

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import CLIENT_LENGTH, sessions

Role = Literal["global", "normal"]

SLIDE = 60.0
"""Seconds between two writes of ``seen`` of one session."""

PURGE = 600.0
"""Seconds between two removals of expired sessions by one process."""

NAME_LENGTH = 16
"""Characters of a session's public name."""

_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # secrets.token_urlsafe(32)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A living session. Times are seconds since the epoch."""

    username: str
    role: Role
    credential: str
    """The caller's fingerprint of what was proved at login (64 characters)."""
    client: str
    """The address the login came from; it is not checked."""
    created: float
    seen: float
    """The last use, up to ``SLIDE`` seconds old."""
    expires: float
    """The absolute end, however busy the session is."""
    id_hash: str

    @property
    def name(self) -> str:
        """What the session is called in public: too little to find its id."""
        return self.id_hash[:NAME_LENGTH]


def hash_id(session_id: str) -> str | None:
    """The stored form of an id; None when we cannot have issued it."""
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
        self._slide = min(SLIDE, idle / 2)
        self._purge_at = clock()

    async def create(self, username: str, role: Role, credential: str, client: str) -> str:
        """Begin a session; the id, which cannot be had a second time."""
        await self._purge_sometimes()
        session_id = secrets.token_urlsafe(32)
        now = self._clock()
        await self._connections.write(
            insert(sessions).values(
                id_hash=hash_id(session_id),
                username=username,
                role=role,
                credential=credential,
                client=client[:CLIENT_LENGTH],
                created=now,
                seen=now,
                expires=now + self._absolute,
            )
        )
        return session_id

    async def load(self, session_id: str) -> Session | None:
        """The session; None when it is unknown, ended, idle for too long or too old.

        One indexed SELECT; every ``SLIDE`` seconds an UPDATE of ``seen`` as well.
        """
        id_hash = hash_id(session_id)
        if id_hash is None:
            return None
        session = await self._select(id_hash)
        now = self._clock()
        if session is None or now - session.seen < self._slide:
            return session
        slid = await self._connections.write(
            update(sessions)
            .where(sessions.c.id_hash == id_hash, sessions.c.seen <= now - self._slide)
            .values(seen=now)
        )
        if slid:
            return replace(session, seen=now)
        # Somebody was quicker: another request slid it, or it was ended.
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
        """End one session; False when there was none."""
        id_hash = hash_id(session_id)
        if id_hash is None:
            return False
        return (
            await self._connections.write(delete(sessions).where(sessions.c.id_hash == id_hash)) > 0
        )

    async def list(self, username: str) -> list[Session]:
        """The living sessions of one admin, the oldest first."""
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
        """End the sessions of one admin whose public name this is, or all with an empty one.

        ``but`` is the id of a session that stays; how many ended.
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
        """End the sessions of all accounts of a domain but some; how many there were."""
        escaped = domain.replace("|", "||").replace("%", "|%").replace("_", "|_")
        return await self._connections.write(
            delete(sessions).where(
                sessions.c.username.like(f"%@{escaped}", escape="|"),
                sessions.c.username.not_in(sorted(but)),
            )
        )

    async def rebind_credential(self, username: str, old: str, new: str) -> int:
        """Let sessions live on whose credential is stored in another way now; how many."""
        table = sessions.c
        return await self._connections.write(
            update(sessions)
            .where(table.username == username, table.credential == old)
            .values(credential=new)
        )

    async def end_all(self, username: str) -> int:
        """End every session of ``username``; how many there were."""
        return await self._connections.write(
            delete(sessions).where(sessions.c.username == username)
        )

    async def purge(self) -> int:
        """Remove the rows of sessions that are over anyway; how many there were."""
        now = self._clock()
        return await self._connections.write(
            delete(sessions).where(
                or_(sessions.c.expires <= now, sessions.c.seen <= now - self._idle)
            )
        )

    async def _purge_sometimes(self) -> None:
        now = self._clock()
        # A clock that was ahead and has been corrected puts nothing off.
        if 0 < self._purge_at - now <= PURGE:
            return
        self._purge_at = now + PURGE
        try:
            await self.purge()
        except StateUnavailable as error:
            _logger.warning("Expired sessions were not removed: %s", error)
