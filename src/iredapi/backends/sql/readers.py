"""Connections for reading, and the shortcut to the driver: the one place where SQLAlchemy is left.

A connection that is given back stays with us, ready for the next request: SQLAlchemy's pool and its
per-statement machinery cost several times what the statement costs (ADR 8). ``Plain`` is a
statement that SQLAlchemy has compiled once, with its own conversions of values and columns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CompoundSelect, Dialect, Insert, Select, Update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from iredapi.meter import METER

RECYCLE: Final = 1800.0
"""Seconds after which a connection is not used again."""
Statement = Select[Any] | CompoundSelect[Any] | Insert | Update
Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Plain:
    """A statement as the driver takes it."""

    sql: str
    names: tuple[str, ...]
    """What its values are called, in their order."""
    constants: Mapping[str, Any]
    binds: Mapping[str, Convert]
    columns: tuple[str, ...]
    results: tuple[tuple[int, Convert], ...]
    """Columns whose values SQLAlchemy would convert."""

    @classmethod
    def of(cls, statement: Statement, dialect: Dialect) -> Plain:
        """Compile a statement; lists for IN must be literal."""
        compiled: Any = statement.compile(dialect=dialect)
        columns: Sequence[Any] = ()
        if isinstance(statement, Select | CompoundSelect):
            columns = list(statement.selected_columns)
        binds = {
            name: convert
            for name, bind in compiled.binds.items()
            if (convert := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
        }
        results = tuple(
            (index, convert)
            for index, column in enumerate(columns)
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None))
            is not None
        )
        return cls(
            sql=compiled.string,
            names=tuple(compiled.positiontup),
            constants=dict(compiled.params),
            binds=binds,
            columns=tuple(str(column.key) for column in columns),
            results=results,
        )

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the driver's order."""
        found = []
        for name in self.names:
            value = values[name] if name in values else self.constants[name]
            convert = self.binds.get(name)
            found.append(value if convert is None else convert(value))
        return found

    def rows(self, found: Sequence[Any]) -> list[Any]:
        """Return rows as SQLAlchemy would: sequences in the order of ``columns``."""
        if not self.results:
            return list(found)
        rows = []
        for row in found:
            values = list(row)
            for index, convert in self.results:
                values[index] = convert(values[index])
            rows.append(values)
        return rows


async def _asyncpg(driver: Any, sql: str, arguments: list[Any]) -> Sequence[Any]:
    found: Sequence[Any] = await driver.fetch(sql, *arguments)
    return found


async def _aiomysql(driver: Any, sql: str, arguments: list[Any]) -> Sequence[Any]:
    async with driver.cursor() as cursor:
        await cursor.execute(sql, arguments)
        found: Sequence[Any] = await cursor.fetchall()
    return found


async def _aiosqlite(driver: Any, sql: str, arguments: list[Any]) -> Sequence[Any]:
    found: Sequence[Any] = await driver.execute_fetchall(sql, arguments)
    return found


_FETCH: Final = {"asyncpg": _asyncpg, "aiomysql": _aiomysql, "aiosqlite": _aiosqlite}


class Lease:
    """A connection, used by one request at a time."""

    __slots__ = ("_driver", "_fetch", "born", "broken", "connection")

    def __init__(self, connection: AsyncConnection, driver: Any) -> None:
        self.connection = connection
        self._driver = driver
        self._fetch = _FETCH[connection.dialect.driver]
        self.born = time.monotonic()
        self.broken = False

    async def fetch(self, plain: Plain, values: Mapping[str, Any]) -> list[Any] | None:
        """Run a statement on the driver; None when that failed, and this connection is no good.

        Who reads runs the statement once more in the ordinary way, which knows what errors mean.
        """
        begun = time.perf_counter()
        try:
            found = await self._fetch(self._driver, plain.sql, plain.arguments(values))
            if (meter := METER.get()) is not None:
                meter.count(time.perf_counter() - begun)
            return plain.rows(found)
        except Exception:
            self.broken = True
            return None
        except BaseException:
            # A request that was cancelled may have left half an answer in the socket.
            self.broken = True
            raise


class Readers:
    """At most ``size`` leases; who finds none waits ``timeout`` seconds, in order."""

    def __init__(self, engine: AsyncEngine, size: int, timeout: float) -> None:
        self._engine = engine
        self._timeout = timeout
        self._left = size
        self._free: list[Lease] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> Lease:
        """Return a connection. Raises what connecting raises, and sqlalchemy's TimeoutError."""
        while not self._left:
            await self._wait()
        self._left -= 1
        try:
            now = time.monotonic()
            while self._free:
                lease = self._free.pop()
                if now - lease.born < RECYCLE:
                    return lease
                await _discard(lease)
            connection = await self._engine.connect()
            raw = await connection.get_raw_connection()
            return Lease(connection, raw.driver_connection)
        except BaseException:
            self._release()
            raise

    async def give(self, lease: Lease) -> None:
        """Take a connection back."""
        try:
            if not lease.broken and not lease.connection.invalidated:
                self._free.append(lease)
                return
            # What broke one (a server that was restarted) broke those that wait, too.
            stale = [lease, *self._free]
            self._free.clear()
            for item in stale:
                await _discard(item)
        finally:
            self._release()

    async def close(self) -> None:
        """Close what is not in use."""
        while self._free:
            with suppress(SQLAlchemyError, OSError):
                await self._free.pop().connection.close()

    def _release(self) -> None:
        self._left += 1
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._timeout):
                await waiter
        except TimeoutError:
            raise PoolTimeout("no free connection") from None
        except BaseException:
            if waiter.done() and not waiter.cancelled() and self._left:
                # We were called and cannot come: the next one may.
                self._left -= 1
                self._release()
            raise


async def _discard(lease: Lease) -> None:
    with suppress(SQLAlchemyError, OSError):
        if not lease.connection.invalidated:
            await lease.connection.invalidate()
        await lease.connection.close()
