"""A request with an idempotency key, while it is carried out and after its process has died.

Transactions tell the attempt of their request when they begin and before they commit (ADR 16).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import orjson

from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.domain.actors import SYSTEM, Actor
from iredapi.errors import ApiError
from iredapi.operations.outcomes import Look
from iredapi.state.idempotency_keys import CURRENT, Claim, IdempotencyKeys, KeyLost, Phase

Digest = Callable[[bytes], str]
Write = Callable[[Actor, Callable[[UnitOfWork], Awaitable[None]]], Awaitable[Any]]
Result = Mapping[str, Any]
"""The fields of a ``WriteResult``."""


@dataclass(slots=True)
class Attempt:
    """One process's attempt to carry out a request."""

    keys: IdempotencyKeys
    claim: Claim
    look: Look | None
    digest: Digest
    """A keyed digest."""
    _before: str = ""
    _committed: bool = False
    _in_doubt: bool = False
    """Whether a commit was begun, and how it ended is not known yet."""

    async def begin(self, unit: UnitOfWork) -> None:
        """Lock the account and note what it is like, before the first write to it."""
        if self.look is not None and not self._committed:
            await self.look.claim(unit)
            self._before = await self._seen(self.look, unit)

    async def before_commit(
        self, unit: UnitOfWork, result: Result, *, sees_own_writes: bool
    ) -> None:
        """Note that the commit begins. Raises ApiError if another process carries it out now."""
        if self._committed and not self._in_parts:
            return
        self._in_doubt = True
        after = ""
        if self.look is not None and sees_own_writes:
            after = await self._seen(self.look, unit)
        outcome = {"before": self._before, "after": after, "result": result}
        try:
            await self.keys.mark(self.claim, orjson.dumps(outcome).decode())
        except KeyLost:
            raise in_use() from None
        CURRENT.set(self.claim)

    def committed(self) -> None:
        """Note that a write was committed: the first one decides, unless it is made in parts."""
        CURRENT.set(None)
        self._committed = True
        self._in_doubt = False

    async def give_back(self) -> None:
        """Give the key back without an answer. Raises StateUnavailable."""
        if self._in_parts and self._committed and not self._in_doubt:
            # Only parts are done, all of them known: the next request goes on from there.
            self.claim.marked = False
        await self.keys.release(self.claim)

    @property
    def _in_parts(self) -> bool:
        return self.look is not None and self.look.in_parts

    async def _seen(self, look: Look, unit: UnitOfWork) -> str:
        return " ".join(self.digest(found) if found else "" for found in await look.states(unit))

    async def resolve(self, write: Write) -> Result | None:
        """Return the result of the write of a dead process; None: it was not made.

        Raises ApiError ``OUTCOME_UNKNOWN``.
        """
        claim, look = self.claim, self.look
        if claim.phase is Phase.OPEN:
            return None
        outcome = orjson.loads(claim.outcome)
        before, after, result = outcome["before"], outcome["after"], outcome["result"]
        invites = look is not None and look.invites
        if claim.phase is Phase.COMMITTED and not self._in_parts:
            if invites:
                raise _unknown()
            return dict(result)
        if claim.undone and claim.phase is Phase.COMMITTING:
            if look is not None:
                # What reads before it locks must find it undone: a lock of the domain does that.
                await self._now(look, write)
            await self._reopen()
            return None
        if look is None:
            raise _unknown()
        now = await self._now(look, write)
        shows = after not in {"", before}
        if look.deletes:
            made, can_begin = not now, now in {before, after}
        else:
            made = shows and now == after and not invites
            can_begin = now == before and (shows or not invites)
        if made:
            return dict(result)
        if not can_begin:
            raise _unknown()
        await self._reopen()
        return None

    async def _now(self, look: Look, write: Write) -> str:
        seen = ""

        async def see(unit: UnitOfWork) -> None:
            nonlocal seen
            # A transaction of the dead process that is still open ends first.
            await look.claim(unit)
            seen = await self._seen(look, unit)

        await write(SYSTEM, see)
        return seen

    async def _reopen(self) -> None:
        try:
            await self.keys.reopen(self.claim)
        except KeyLost:
            raise in_use() from None


def in_use() -> ApiError:
    """Return the error of a request that another process carries out."""
    return ApiError("IDEMPOTENCY_KEY_IN_USE", retry_after=_PATIENCE)


def _unknown() -> ApiError:
    return ApiError("OUTCOME_UNKNOWN")


_PATIENCE: Final = 1
"""Retry-After, in seconds."""
ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""The attempt of the current request; None: it has no key."""
