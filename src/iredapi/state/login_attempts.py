"""Counters of login attempts, against guessing of passwords.

An attempt is counted *before* the password is verified: however many guesses arrive in parallel, on
any number of replicas, no more than the limit are verified. The same guess counts once.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import KEY_LENGTH, as_key, login_attempts, upsert

PURGE_INTERVAL = 600.0
"""Seconds between two removals of expired counters by one process."""

SKEW = 30.0
"""Seconds by which another replica's clock may be ahead.

A window that begins even later was counted by a clock that has been corrected since; it counts as
expired.
"""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login attempt that was counted or refused."""

    keys: tuple[str, ...]
    """The keys of its counters: the account first, if there is one."""
    guess: str
    wait: int = 0
    """Seconds until the next attempt is allowed; 0: this one is allowed."""
    counted: frozenset[str] = frozenset()
    """The stored keys whose counters were incremented; the same guess counts once."""


class _LimitReached(Exception):
    """Rolls back the transaction of a refused attempt."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class LoginAttempts:
    """The login throttle of all replicas: ``limit`` attempts in ``window`` seconds per key.

    A key is an account or a client address. Of several keys the first one is the account.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        limit: int,
        window: float,
        clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._limit = limit
        self._window = window
        self._clock = clock
        self._purge_at = clock() + PURGE_INTERVAL

    async def begin(self, keys: Sequence[str], guess: str = "") -> Attempt:
        """Count an attempt for all keys, or refuse it and count nothing.

        ``guess`` is a short tag of the password without commas: the same guess is counted once.
        Empty: every attempt is counted.
        """
        stored = _stored_keys(keys)
        if not stored:
            return Attempt((), guess)
        # Refused attempts and repeated guesses cost one read and no write.
        rows = await self._connections.read(_counters(stored))
        wait = self._wait(rows)
        if wait:
            return Attempt(tuple(keys), guess, wait)
        if guess and len(rows) == len(stored) and all(self._has(row, guess) for row in rows):
            return Attempt(tuple(keys), guess)
        await self._purge_sometimes()

        async def count(connection: AsyncConnection) -> frozenset[str]:
            now = self._clock()
            table = login_attempts.c
            old = self._is_over(now)
            # Begins new windows, and locks the rows of current ones.
            await connection.execute(
                upsert(
                    self._connections.dialect,
                    login_attempts,
                    [
                        {"key": key, "count": 0, "guesses": "", "window_start": now}
                        for key in stored
                    ],
                    [
                        ("count", case((old, 0), else_=table["count"])),
                        ("guesses", case((old, ""), else_=func.coalesce(table.guesses, ""))),
                        ("window_start", case((old, now), else_=table.window_start)),
                    ],
                )
            )
            rows = (await connection.execute(_counters(stored))).all()
            wait = self._wait(rows)
            if wait:
                raise _LimitReached(wait)
            new = [row.key for row in rows if not guess or guess not in row.guesses.split(",")]
            if new:
                tried = table.guesses + (f"{guess}," if guess else "")
                await connection.execute(
                    update(login_attempts)
                    .where(table.key.in_(new))
                    .values({"count": table["count"] + 1, "guesses": tried})
                )
            return frozenset(new)

        try:
            counted = await self._connections.transact(count)
        except _LimitReached as refused:
            return Attempt(tuple(keys), guess, refused.wait)
        return Attempt(tuple(keys), guess, counted=counted)

    async def succeeded(self, attempt: Attempt) -> None:
        """Remove the account's counter after a correct password.

        A client address only gets this attempt back; otherwise an attacker could reset its counter
        by logging in to an account of his own.
        """
        await self._give_back(attempt, forget=_stored_keys(attempt.keys[:1]))

    async def withdraw(self, attempt: Attempt) -> None:
        """Uncount an attempt whose password could not be verified (a server was unavailable)."""
        await self._give_back(attempt, forget=())

    async def purge(self) -> int:
        """Remove expired counters; return their number."""
        over = self._is_over(self._clock())
        return await self._connections.write(delete(login_attempts).where(over))

    async def _give_back(self, attempt: Attempt, forget: Collection[str]) -> None:
        counted = sorted(attempt.counted.union(forget))
        if not counted:
            return
        table = login_attempts.c

        async def give_back(connection: AsyncConnection) -> None:
            for key in counted:
                if key in forget:
                    await connection.execute(delete(login_attempts).where(table.key == key))
                    continue
                values: dict[str, Any] = {"count": table["count"] - 1}
                if attempt.guess:
                    # All tags have the same length, so none can span two others.
                    values["guesses"] = func.replace(table.guesses, f"{attempt.guess},", "")
                await connection.execute(
                    update(login_attempts)
                    .where(table.key == key, table["count"] > 0)
                    .values(values)
                )

        await self._connections.transact(give_back)

    def _has(self, row: Row[Any], guess: str) -> bool:
        """Return whether the current window has counted this guess."""
        since = self._clock() - row.window_start
        return -SKEW <= since < self._window and guess in (row.guesses or "").split(",")

    def _is_over(self, now: float) -> ColumnElement[bool]:
        start = login_attempts.c.window_start
        return or_(start <= now - self._window, start > now + SKEW)

    def _wait(self, rows: Sequence[Row[Any]]) -> int:
        """Return the whole seconds until no counter is at its limit; 0: none is."""
        now = self._clock()
        starts = [
            row.window_start
            for row in rows
            if row.attempts >= self._limit and row.window_start <= now + SKEW
        ]
        left = min(max(starts, default=-math.inf) - now, 0.0) + self._window
        return math.ceil(left) if left > 0 else 0

    async def _purge_sometimes(self) -> None:
        now = self._clock()
        # A clock that was ahead and has been corrected does not delay the next removal.
        if 0 < self._purge_at - now <= PURGE_INTERVAL:
            return
        self._purge_at = now + PURGE_INTERVAL
        try:
            await self.purge()
        except StateUnavailable as error:
            _logger.warning("Old login attempts were not removed: %s", error)


def _stored_keys(keys: Sequence[str]) -> list[str]:
    """Return the stored keys, sorted: rows are always locked in this order."""
    return sorted({as_key(key, KEY_LENGTH) for key in keys})


def _counters(stored: Sequence[str]) -> Select[Any]:
    table = login_attempts.c
    # Not "count": a row has a method of that name.
    attempts = table["count"].label("attempts")
    return select(table.key, attempts, table.guesses, table.window_start).where(
        table.key.in_(stored)
    )
