"""The service's async drivers, used directly and as simply as possible.

Statements have ``?`` for their values; what a driver wants instead is made once per statement.
Connections wait in a list: a pool that resets them would cost a round trip each time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiomysql
import aiosqlite
import asyncpg

CONNECTIONS = 10
PAGE = 1000
Row = Mapping[str, Any]
Work = Sequence[tuple[str, Sequence[Any]]]


class Driver(Protocol):
    """One database."""

    async def rows(self, *work: tuple[str, Sequence[Any]]) -> list[list[Row]]:
        """Run SELECTs one after the other on one connection."""

    async def run(self, work: Work) -> None:
        """Run statements in one transaction; a single one needs none."""

    def stream(self, sql: str, *values: Any) -> AsyncIterator[Sequence[Row]]:
        """Run a SELECT with a cursor of the server."""


class _Pool:
    """Connections that are made when first needed, and used last in, first out."""

    def __init__(self, limit: int = CONNECTIONS) -> None:
        self._free: list[Any] = []
        self._places = asyncio.Semaphore(limit)

    async def connect(self) -> Any:
        raise NotImplementedError

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        async with self._places:
            connection = self._free.pop() if self._free else await self.connect()
            yield connection
            self._free.append(connection)


@cache
def _numbered(sql: str) -> str:
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql)


class Postgresql(_Pool):
    """asyncpg."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url.replace("+asyncpg", "")

    async def connect(self) -> Any:
        return await asyncpg.connect(self._url)

    async def rows(self, *work: tuple[str, Sequence[Any]]) -> list[list[Row]]:
        async with self.one() as connection:
            return [await connection.fetch(_numbered(sql), *values) for sql, values in work]

    async def run(self, work: Work) -> None:
        async with self.one() as connection:
            if len(work) == 1:
                await connection.execute(_numbered(work[0][0]), *work[0][1])
                return
            async with connection.transaction():
                for sql, values in work:
                    await connection.execute(_numbered(sql), *values)

    async def stream(self, sql: str, *values: Any) -> AsyncIterator[Sequence[Row]]:
        async with self.one() as connection, connection.transaction():
            cursor = await connection.cursor(_numbered(sql), *values)
            while rows := await cursor.fetch(PAGE):
                yield rows


class Mariadb(_Pool):
    """aiomysql."""

    def __init__(self, url: str) -> None:
        super().__init__()
        place = urlsplit(url)
        self._place = {
            "host": place.hostname,
            "port": place.port,
            "user": unquote(place.username or ""),
            "password": unquote(place.password or ""),
            "db": place.path.strip("/"),
            "charset": "utf8mb4",
            "autocommit": True,
        }

    async def connect(self) -> Any:
        return await aiomysql.connect(**self._place)

    async def rows(self, *work: tuple[str, Sequence[Any]]) -> list[list[Row]]:
        found = []
        async with self.one() as connection, connection.cursor(aiomysql.DictCursor) as cursor:
            for sql, values in work:
                await cursor.execute(sql.replace("?", "%s"), values)
                found.append(await cursor.fetchall())
        return found

    async def run(self, work: Work) -> None:
        async with self.one() as connection, connection.cursor() as cursor:
            if len(work) > 1:
                await connection.begin()
            for sql, values in work:
                await cursor.execute(sql.replace("?", "%s"), values)
            if len(work) > 1:
                await connection.commit()

    async def stream(self, sql: str, *values: Any) -> AsyncIterator[Sequence[Row]]:
        async with self.one() as connection, connection.cursor(aiomysql.SSDictCursor) as cursor:
            await cursor.execute(sql.replace("?", "%s"), values)
            while rows := await cursor.fetchmany(PAGE):
                yield rows


class Sqlite(_Pool):
    """aiosqlite: a single connection, which is faster than several (one interpreter lock)."""

    def __init__(self, url: str) -> None:
        super().__init__(1)
        self._file = urlsplit(url).path[1:]

    async def connect(self) -> Any:
        connection = await aiosqlite.connect(f"/{self._file.lstrip('/')}", isolation_level=None)
        connection.row_factory = aiosqlite.Row
        await connection.execute("PRAGMA busy_timeout=30000")
        return connection

    async def rows(self, *work: tuple[str, Sequence[Any]]) -> list[list[Row]]:
        async with self.one() as connection:
            return [list(await connection.execute_fetchall(sql, values)) for sql, values in work]

    async def run(self, work: Work) -> None:
        async with self.one() as connection:
            if len(work) > 1:
                await connection.execute("BEGIN IMMEDIATE")
            for sql, values in work:
                await connection.execute(sql, values)
            if len(work) > 1:
                await connection.commit()

    async def stream(self, sql: str, *values: Any) -> AsyncIterator[Sequence[Row]]:
        async with self.one() as connection, connection.execute(sql, values) as cursor:
            while rows := await cursor.fetchmany(PAGE):
                yield rows


DRIVERS: Mapping[str, type[Postgresql | Mariadb | Sqlite]] = {
    "postgresql": Postgresql,
    "mariadb": Mariadb,
    "sqlite": Sqlite,
}
