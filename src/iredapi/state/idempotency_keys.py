"""Keys of requests that are carried out once, whatever is sent how often (ADR 16).

A row belongs to the process that holds it, until its lease ends. Every write to a row names its
holder: a process that has lost its row finds that out.
"""

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, delete, select, update
from sqlalchemy.sql.dml import Update

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.purging import Purging
from iredapi.state.renewal import renewed
from iredapi.state.tables import idempotency_keys, upsert

LEASE: Final = 10.0
"""Seconds after which the request of a process that does not renew its lease is taken over."""
RETENTION: Final = 86400.0
"""Seconds for which an answer is kept, by default."""
MAX_BODY: Final = 256 * 1024
"""Maximum length in bytes of a body that is stored."""
_TRIES: Final = 10
_table = idempotency_keys.c


class Phase(StrEnum):
    """How far a request has come."""

    OPEN = "open"
    """Nothing that decides it is committed."""
    COMMITTING = "committing"
    COMMITTED = "committed"
    """All of a write to LDAP is done."""
    DONE = "done"
    """The answer is stored."""


class KeyLost(Exception):
    """Another process has taken the request over."""


@dataclass(slots=True)
class Claim:
    """A request that this process carries out. ``phase`` … are what a dead process has left."""

    id: str
    holder: str
    phase: Phase = Phase.OPEN
    outcome: str = ""
    """What ``mark`` has stored."""
    undone: bool = False
    """Whether the write of the dead process is in the journal, and is undone."""
    marked: bool = False
    """Whether this process has begun a commit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored answer. ``body`` None: it was too large to be kept."""

    status: int
    headers: str
    body: str | None


@dataclass(frozen=True, slots=True)
class InUse:
    """Another process carries the request out; its lease ends after ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reused:
    """The key was sent with another request."""


CURRENT: ContextVar[Claim | None] = ContextVar("idempotency_claim", default=None)
"""The claim whose outcome the current write decides; None: it decides none."""


def decided_by_journal(claim: Claim, **values: Any) -> Update:
    """Return the UPDATE of a claim's row that belongs into a transaction with the journal."""
    return update(idempotency_keys).where(*_mine(claim)).values(values)


def _mine(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return _table.id == claim.id, _table.holder == claim.holder


class IdempotencyKeys:
    """The keys of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self.retention = RETENTION
        """Seconds for which an answer is kept."""
        self._purging = Purging("Expired keys", self.purge, clock())

    async def begin(self, key_id: str, request: str) -> Claim | Stored | InUse | Reused:
        """Claim a key for a request, or return why not. Both arguments are digests."""
        await self._purging.sometimes(self._clock())
        for _ in range(_TRIES):
            claim = Claim(key_id, secrets.token_hex(16))
            row = {"id": key_id, **self._fresh(claim, request)}
            # The row of another request stays as it is.
            kept = [("id", _table.id)]
            await self._connections.write(
                upsert(self._connections.dialect, idempotency_keys, [row], kept)
            )
            found = await self._connections.read(
                select(idempotency_keys).where(_table.id == key_id)
            )
            if found:
                answer = await self._of_row(claim, found[0], request)
                if answer is not None:
                    return answer
        raise StateUnavailable("A key changes too often.")

    async def _of_row(
        self, claim: Claim, row: Row[Any], request: str
    ) -> Claim | Stored | InUse | Reused | None:
        """Return what a row means for a request; None: it was changed meanwhile."""
        if row.holder == claim.holder:
            return claim
        now = self._clock()
        if row.created <= now - self.retention:
            return await self._take(claim, row, self._fresh(claim, request))
        if row.request != request:
            return Reused()
        if row.phase == Phase.DONE:
            return Stored(row.status, row.headers, row.body)
        if row.lease > now:
            return InUse(row.lease - now)
        claim.phase, claim.outcome = Phase(row.phase), row.outcome or ""
        claim.undone = bool(row.journaled)
        return await self._take(claim, row, {"holder": claim.holder, "lease": now + LEASE})

    async def _take(self, claim: Claim, row: Row[Any], values: dict[str, Any]) -> Claim | None:
        unchanged = (_table.id == row.id, _table.holder == row.holder, _table.phase == row.phase)
        taken = await self._connections.write(
            update(idempotency_keys).where(*unchanged).values(values)
        )
        return claim if taken else None

    def _fresh(self, claim: Claim, request: str) -> dict[str, Any]:
        now = self._clock()
        return {
            "request": request, "holder": claim.holder, "phase": Phase.OPEN.value,
            "lease": now + LEASE, "created": now, "outcome": None, "journaled": 0,
            "status": None, "headers": None, "body": None,
        }  # fmt: skip

    def held(self, claim: Claim) -> AbstractAsyncContextManager[None]:
        """Renew the lease of a claim while the request is carried out."""
        return renewed("The key of a request", LEASE, partial(self._renew, claim))

    async def _renew(self, claim: Claim) -> bool:
        return await self._update(claim, lease=self._clock() + LEASE)

    async def _update(self, claim: Claim, **values: Any) -> bool:
        return bool(
            await self._connections.write(
                update(idempotency_keys).where(*_mine(claim)).values(values)
            )
        )

    async def mark(self, claim: Claim, outcome: str) -> None:
        """Note that a commit begins, with what tells later whether it was made. Raises KeyLost."""
        # Before the statement: if its answer is lost, it may have been carried out.
        claim.marked = True
        values = {"phase": Phase.COMMITTING.value, "outcome": outcome, "journaled": 0}
        if not await self._update(claim, **values, lease=self._clock() + LEASE):
            raise KeyLost

    async def store(self, claim: Claim, status: int, headers: str, body: bytes) -> None:
        """Store the answer, without the body when that is too large."""
        kept = body.decode() if len(body) <= MAX_BODY else None
        await self._update(
            claim, phase=Phase.DONE.value, outcome=None, status=status, headers=headers, body=kept
        )

    async def release(self, claim: Claim) -> None:
        """Give a claim back without an answer; what was begun is looked at by the next request."""
        if claim.marked or claim.phase is not Phase.OPEN:
            await self._update(claim, lease=0.0)
        else:
            await self._connections.write(delete(idempotency_keys).where(*_mine(claim)))

    async def reopen(self, claim: Claim) -> None:
        """Note that nothing of what a dead process has begun is there. Raises KeyLost."""
        if not await self._update(claim, phase=Phase.OPEN.value, outcome=None, journaled=0):
            raise KeyLost
        claim.phase, claim.outcome, claim.undone = Phase.OPEN, "", False

    async def purge(self) -> int:
        """Remove expired keys; return their number."""
        return await self._connections.write(
            delete(idempotency_keys).where(_table.created <= self._clock() - self.retention)
        )
