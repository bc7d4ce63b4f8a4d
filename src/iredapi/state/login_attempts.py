"""Counters of login attempts, against guessing of passwords.

An attempt is counted *before* the password is verified: however many guesses arrive in parallel, on
any number of replicas, no more than the limit are verified. The same guess counts once.

Attempts that arrive at the same moment are counted one after the other in one transaction, and so
are the ends of logins: each takes its attempt back and begins a session.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Delete, Insert
from sqlalchemy.types import NullType

from iredapi.state.batches import Batches
from iredapi.state.connections import Connections
from iredapi.state.purging import INTERVAL, Purging
from iredapi.state.tables import KEY_LENGTH, as_key, login_attempts, sessions, upsert, upsert_values

SKEW = 30.0
"""Seconds by which another replica's clock may be ahead.

A window that begins even later was counted by a clock that has been corrected since; it counts as
expired.
"""


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


@dataclass(slots=True)
class _Counter:
    """A stored counter."""

    key: str
    attempts: int
    guesses: list[str]
    window_start: float


@dataclass(frozen=True, slots=True)
class _End:
    """The end of an attempt."""

    attempt: Attempt
    forget: frozenset[str] = frozenset()
    """Stored keys whose counters are removed."""
    session: Mapping[str, Any] | None = None
    """The row of a session that begins."""


class _NothingCounted(Exception):
    """Rolls back a transaction in which all attempts were refused."""


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
        self._purging = Purging("Old login attempts", self.purge, clock() + INTERVAL)
        self._beginnings: Batches[tuple[tuple[str, ...], str], Attempt] = Batches(self._begin)
        self._ends: Batches[_End, None] = Batches(self._end)

    async def begin(self, keys: Sequence[str], guess: str = "") -> Attempt:
        """Count an attempt for all keys, or refuse it and count nothing.

        ``guess`` is a short tag of the password without commas: the same guess is counted once.
        Empty: every attempt is counted.
        """
        return await self._beginnings.submit((tuple(keys), guess)) if keys else Attempt((), guess)

    async def _begin(self, items: Sequence[tuple[tuple[str, ...], str]]) -> Sequence[Attempt]:
        wanted = [(keys, _stored_keys(keys), guess) for keys, guess in items]
        # Refused attempts and repeated guesses cost one read and no write.
        every = _stored_keys([key for keys, _ in items for key in keys])
        counters = await self._connections.use(lambda connection: self._read(connection, every))
        found: list[Attempt | None] = []
        for keys, stored, guess in wanted:
            mine = [counters[key] for key in stored if key in counters]
            if wait := self._wait(mine):
                found.append(Attempt(keys, guess, wait))
            elif guess and len(mine) == len(stored) and all(self._has(one, guess) for one in mine):
                found.append(Attempt(keys, guess))
            else:
                found.append(None)
        left = [item for item, attempt in zip(wanted, found, strict=True) if attempt is None]
        if not left:
            return [attempt for attempt in found if attempt is not None]
        await self._purging.sometimes(self._clock())
        counted: list[Attempt] = []

        async def count(connection: AsyncConnection) -> None:
            counted[:] = await self._count(connection, left)
            if not any(attempt.counted for attempt in counted):
                raise _NothingCounted

        with suppress(_NothingCounted):
            await self._connections.transact(count)
        others = iter(counted)
        return [next(others) if attempt is None else attempt for attempt in found]

    async def _count(
        self,
        connection: AsyncConnection,
        wanted: Sequence[tuple[tuple[str, ...], Sequence[str], str]],
    ) -> list[Attempt]:
        """Count attempts, one after the other, or refuse them."""
        now = self._clock()
        every = sorted({key for _, stored, _ in wanted for key in stored})
        values = {"now": now, "over": now - self._window, "ahead": now + SKEW}
        # Begins new windows, and locks the rows of current ones.
        await self._connections.execute_compiled(
            connection,
            ("begin windows", len(every)),
            lambda: _begin_windows(self._connections.dialect, len(every)),
            values | _numbered("key", every),
        )
        counters = await self._read(connection, every)
        attempts, changed = list[Attempt](), set[str]()
        for keys, stored, guess in wanted:
            mine = [counters[key] for key in stored]
            if wait := self._wait(mine):
                attempts.append(Attempt(keys, guess, wait))
                continue
            new = [one for one in mine if not guess or guess not in one.guesses]
            for one in new:
                one.attempts += 1
                if guess:
                    one.guesses.append(guess)
            counted = frozenset(one.key for one in new)
            changed |= counted
            attempts.append(Attempt(keys, guess, counted=counted))
        if rows := [counters[key] for key in sorted(changed)]:
            await self._connections.execute_compiled(
                connection,
                ("count", len(rows)),
                lambda: _store_counters(self._connections.dialect, len(rows)),
                {
                    **_numbered("key", [one.key for one in rows]),
                    **_numbered("count", [one.attempts for one in rows]),
                    **_numbered("guesses", ["".join(f"{g}," for g in one.guesses) for one in rows]),
                    **_numbered("window_start", [one.window_start for one in rows]),
                },
            )
        return attempts

    async def _read(
        self, connection: AsyncConnection, stored: Sequence[str]
    ) -> dict[str, _Counter]:
        rows = await self._connections.execute_compiled(
            connection,
            ("counters", len(stored)),
            lambda: _counters(len(stored)),
            _numbered("key", stored),
        )
        return {
            key: _Counter(key, count, [g for g in (guesses or "").split(",") if g], start)
            for key, count, guesses, start in rows
        }

    async def succeeded(self, attempt: Attempt, session: Mapping[str, Any] | None = None) -> None:
        """Remove the account's counter after a correct password, and store a session.

        A client address only gets this attempt back; otherwise an attacker could reset its counter
        by logging in to an account of his own.
        """
        await self._ends.submit(_End(attempt, frozenset(_stored_keys(attempt.keys[:1])), session))

    async def withdraw(self, attempt: Attempt) -> None:
        """Uncount an attempt whose password could not be verified (a server was unavailable)."""
        if attempt.counted:
            await self._ends.submit(_End(attempt))

    async def close(self) -> None:
        """Wait for batches that are running."""
        await self._beginnings.close()
        await self._ends.close()

    async def purge(self) -> int:
        """Remove expired counters; return their number."""
        over = self._is_over(self._clock())
        return await self._connections.write(delete(login_attempts).where(over))

    async def _end(self, items: Sequence[_End]) -> Sequence[None]:
        forgotten = sorted({key for item in items for key in item.forget})
        given_back = sorted(
            (key, item.attempt.guess)
            for item in items
            for key in item.attempt.counted.difference(forgotten)
        )
        begun = [item.session for item in items if item.session is not None]
        changed = [*forgotten, *(key for key, _ in given_back)]
        # One DELETE locks its rows in any order. Where two batches lock the same rows in another
        # order, PostgreSQL finds the deadlock after a second.
        must_lock = len(forgotten) > 1 or changed != sorted(changed)

        async def end(connection: AsyncConnection) -> None:
            chosen = forgotten
            locked = set(changed)
            if must_lock and self._connections.dialect != "sqlite":
                locked = await self._lock(connection, changed)
                chosen = [key for key in forgotten if key in locked]
            if chosen:
                await self._connections.execute_compiled(
                    connection,
                    ("forget", len(chosen)),
                    lambda: _forget(len(chosen)),
                    _numbered("key", chosen),
                )
            for key, guess in given_back:
                if key in locked:
                    await connection.execute(_give_back(key, guess))
            if begun:
                await self._connections.execute_compiled(
                    connection,
                    ("begin sessions", len(begun)),
                    lambda: _begin_sessions(len(begun)),
                    {f"{name}_{n}": row[name] for n, row in enumerate(begun) for name in row},
                )

        if forgotten or given_back or begun:
            await self._connections.transact(end)
        return [None] * len(items)

    async def _lock(self, connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
        """Lock the rows of keys, in the order of ``_stored_keys``; return the keys of the rows."""
        rows = await self._connections.execute_compiled(
            connection,
            ("lock", len(keys)),
            lambda: _locked(self._connections.dialect, len(keys)),
            _numbered("key", keys),
        )
        return {row[0] for row in rows}

    def _has(self, row: _Counter, guess: str) -> bool:
        """Return whether the current window has counted this guess."""
        since = self._clock() - row.window_start
        return -SKEW <= since < self._window and guess in row.guesses

    def _is_over(self, now: float) -> ColumnElement[bool]:
        start = login_attempts.c.window_start
        return or_(start <= now - self._window, start > now + SKEW)

    def _wait(self, rows: Collection[_Counter]) -> int:
        """Return the whole seconds until no counter is at its limit; 0: none is."""
        now = self._clock()
        starts = [
            row.window_start
            for row in rows
            if row.attempts >= self._limit and row.window_start <= now + SKEW
        ]
        left = min(max(starts, default=-math.inf) - now, 0.0) + self._window
        return math.ceil(left) if left > 0 else 0


def _stored_keys(keys: Sequence[str]) -> list[str]:
    """Return the stored keys, sorted: rows are always locked in this order."""
    return sorted({as_key(key, KEY_LENGTH) for key in keys})


def _numbered(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return the values of parameters whose names end with a number."""
    return {f"{name}_{number}": value for number, value in enumerate(values)}


def _parameters(table: Any, count: int, *names: str) -> list[dict[str, Any]]:
    """Return rows of parameters for ``_numbered`` values of columns."""
    return [
        {name: bindparam(f"{name}_{n}", type_=table.c[name].type) for name in names}
        for n in range(count)
    ]


def _has_key(count: int) -> ColumnElement[bool]:
    return login_attempts.c.key.in_(
        [row["key"] for row in _parameters(login_attempts, count, "key")]
    )


def _counters(count: int) -> Select[Any]:
    table = login_attempts.c
    # The driver returns a float; SQLAlchemy's conversion needs a result of its own.
    start = type_coerce(table.window_start, NullType()).label("start")
    return select(table.key, table["count"], table.guesses, start).where(_has_key(count))


def _begin_windows(dialect: str, count: int) -> Insert:
    table = login_attempts.c
    now, over, ahead = (bindparam(name, type_=Double) for name in ("now", "over", "ahead"))
    old = or_(table.window_start <= over, table.window_start > ahead)
    rows = [
        row | {"count": 0, "guesses": "", "window_start": now}
        for row in _parameters(login_attempts, count, "key")
    ]
    return upsert(
        dialect,
        login_attempts,
        rows,
        [
            ("count", case((old, 0), else_=table["count"])),
            ("guesses", case((old, ""), else_=func.coalesce(table.guesses, ""))),
            ("window_start", case((old, now), else_=table.window_start)),
        ],
    )


def _store_counters(dialect: str, count: int) -> Insert:
    names = ("key", "count", "guesses", "window_start")
    rows = _parameters(login_attempts, count, *names)
    return upsert_values(dialect, login_attempts, rows, ("count", "guesses"))


def _locked(dialect: str, count: int) -> Select[Any]:
    key = login_attempts.c.key
    # Byte order, as ``_stored_keys`` sorts; MariaDB's column has it.
    order = key.collate("C") if dialect == "postgresql" else key
    return select(key).where(_has_key(count)).order_by(order).with_for_update()


def _forget(count: int) -> Delete:
    return delete(login_attempts).where(_has_key(count))


def _give_back(key: str, guess: str) -> Any:
    table = login_attempts.c
    values: dict[str, Any] = {"count": table["count"] - 1}
    if guess:
        # All tags have the same length, so none can span two others.
        values["guesses"] = func.replace(table.guesses, f"{guess},", "")
    chosen = (table.key == key, table["count"] > 0)
    return update(login_attempts).where(*chosen).values(values)


def _begin_sessions(count: int) -> Insert:
    return insert(sessions).values(_parameters(sessions, count, *sessions.c.keys()))
