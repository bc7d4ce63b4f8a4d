"""Counting attempts to log in, so that guessing passwords takes for ever.

An attempt is counted *before* the password is verified: however many guesses arrive
at once, on however many replicas, no more than the limit are ever verified.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, Select, case, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import KEY_LENGTH, as_key, login_attempts, upsert

PURGE = 600.0
"""Seconds between two removals of old windows by one process."""

_logger = logging.getLogger(__name__)


class _Refused(Exception):
    """Rolls the counting of a refused attempt back."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class LoginAttempts:
    """The throttle of all replicas: ``limit`` attempts in ``window`` seconds per key.

    A key is an account or a client address, named by the caller. Where several are
    given, the first one is the account.
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
        self._purge_at = clock() + PURGE

    async def begin(self, keys: Sequence[str]) -> int:
        """Count an attempt for every key, or for none: 0, or the seconds to wait.

        An attempt that is refused leaves no trace, so waiting always helps.
        """
        stored = _stored(keys)
        if not stored:
            return 0
        # An attack costs reads only.
        seen = await self._connections.read(_counters(stored))
        wait = self._wait(seen, self._limit - 1)
        if wait:
            return wait
        await self._purge_sometimes()

        async def count(connection: AsyncConnection) -> None:
            now = self._clock()
            table = login_attempts.c
            old = table.window_start <= now - self._window
            await connection.execute(
                upsert(
                    self._connections.dialect,
                    login_attempts,
                    [{"key": key, "count": 1, "window_start": now} for key in stored],
                    [
                        ("count", case((old, 1), else_=table["count"] + 1)),
                        ("window_start", case((old, now), else_=table.window_start)),
                    ],
                )
            )
            rows = (await connection.execute(_counters(stored))).all()
            wait = self._wait(rows, self._limit)
            if wait:
                raise _Refused(wait)

        try:
            await self._connections.transact(count)
        except _Refused as refused:
            return refused.wait
        return 0

    async def succeeded(self, keys: Sequence[str]) -> None:
        """The password was right: the account's failures are forgotten.

        An address only gets this attempt back, or an attacker with an account of his
        own would start afresh whenever he logs in.
        """
        await self._give_back(keys, forget=keys[:1])

    async def withdraw(self, keys: Sequence[str]) -> None:
        """The password could not be verified (a server is away): as if never tried."""
        await self._give_back(keys, forget=())

    async def purge(self) -> int:
        """Remove counters whose window is over; how many there were."""
        over = login_attempts.c.window_start <= self._clock() - self._window
        return await self._connections.write(delete(login_attempts).where(over))

    async def _give_back(self, keys: Sequence[str], forget: Sequence[str]) -> None:
        stored = _stored(keys)
        forgotten = _stored(forget)
        if not stored:
            return
        table = login_attempts.c

        async def give_back(connection: AsyncConnection) -> None:
            for key in stored:
                if key in forgotten:
                    await connection.execute(delete(login_attempts).where(table.key == key))
                    continue
                await connection.execute(
                    update(login_attempts)
                    .where(table.key == key, table["count"] > 0)
                    .values(count=table["count"] - 1)
                )

        await self._connections.transact(give_back)

    def _wait(self, rows: Sequence[Row[Any]], allowed: int) -> int:
        """Whole seconds until no counter is above ``allowed``; 0 when none is."""
        now = self._clock()
        starts = [row.window_start for row in rows if row.attempts > allowed]
        # Another replica's clock may be ahead of ours.
        left = min(max(starts, default=-math.inf) - now, 0.0) + self._window
        return math.ceil(left) if left > 0 else 0

    async def _purge_sometimes(self) -> None:
        now = self._clock()
        if now < self._purge_at:
            return
        self._purge_at = now + PURGE
        try:
            await self.purge()
        except StateUnavailable as error:
            _logger.warning("Old login attempts were not removed: %s", error)


def _stored(keys: Sequence[str]) -> list[str]:
    """The keys as stored, always locked in the same order."""
    return sorted({as_key(key, KEY_LENGTH) for key in keys})


def _counters(stored: Sequence[str]) -> Select[Any]:
    table = login_attempts.c
    # Not "count": that is a method of every row.
    attempts = table["count"].label("attempts")
    return select(attempts, table.window_start).where(table.key.in_(stored))
