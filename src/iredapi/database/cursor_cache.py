"""Open cursors of long lists, so that a list is sorted once and not for each page.

A full page keeps its cursor open, and the next page continues it. This is only an optimisation:
when the cursor is closed, the next page opens a new one that starts after the last name; when the
maximum number of cursors is open, it runs an ordinary statement. A slow client keeps a connection
(and a snapshot) for at most ``IDLE_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from iredapi.concurrency.shield import Background
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.connection import PooledConnection
from iredapi.database.cursor import Cursor

IDLE_SECONDS: Final = 3.0
"""Seconds for which a cursor stays open for the next page."""


@dataclass(slots=True)
class _OpenCursor:
    pooled: PooledConnection
    cursor: Cursor
    expiry: asyncio.TimerHandle | None = None


class Cursors:
    """At most ``places`` open cursors of one database, each on its own connection.

    A new cursor is opened only while ``spare`` returns true: the pool has a connection to spare.
    """

    def __init__(
        self,
        acquire: Callable[[], Awaitable[PooledConnection]],
        give: Callable[[PooledConnection], Awaitable[None]],
        places: int,
        *,
        spare: Callable[[], bool],
    ) -> None:
        self._acquire = acquire
        self._give = give
        self._places = places
        self._spare = spare
        self._waiting: dict[Any, list[_OpenCursor]] = {}
        self._background = Background()

    async def page(
        self,
        compiled: CompiledStatement,
        values: Mapping[str, Any],
        after: str,
        limit: int,
        order: int,
    ) -> list[Any] | None:
        """Return the next rows after a name; None: no cursor is free.

        The name is the parameter ``after`` of the statement, and the column ``order`` of its rows.
        Raises what SQLAlchemy would.
        """
        list_of = (compiled.sql, *sorted(values.items()))
        found = self._take((list_of, after)) or await self._begin(
            compiled, {**values, "after": after}
        )
        if found is None:
            return None
        keep = False
        try:
            rows = await found.cursor.fetch(limit)
            keep = len(rows) == limit
        finally:
            if not keep:
                await self._end(found)
        if keep:
            self._keep_open((list_of, rows[-1][order]), found)
        return rows

    async def close(self) -> None:
        """Close all cursors."""
        for waiting in list(self._waiting.values()):
            for found in waiting:
                if found.expiry is not None:
                    found.expiry.cancel()
                await self._end(found)
        self._waiting.clear()
        await self._background.drain()

    def _take(self, key: Any) -> _OpenCursor | None:
        waiting = self._waiting.get(key)
        if not waiting:
            return None
        found = waiting.pop()
        if not waiting:
            del self._waiting[key]
        if found.expiry is not None:
            found.expiry.cancel()
        return found

    async def _begin(
        self, compiled: CompiledStatement, values: Mapping[str, Any]
    ) -> _OpenCursor | None:
        if not self._places or not self._spare():
            return None
        self._places -= 1
        try:
            pooled = await self._acquire()
            try:
                return _OpenCursor(pooled, await pooled.cursor(compiled, values))
            except BaseException:
                await self._give(pooled)
                raise
        except BaseException:
            self._places += 1
            raise

    def _keep_open(self, key: Any, found: _OpenCursor) -> None:
        self._waiting.setdefault(key, []).append(found)
        loop = asyncio.get_running_loop()
        found.expiry = loop.call_later(IDLE_SECONDS, self._expire, key, found)

    def _expire(self, key: Any, found: _OpenCursor) -> None:
        waiting = self._waiting.get(key, [])
        if found not in waiting:
            return
        waiting.remove(found)
        if not waiting:
            del self._waiting[key]
        self._background.start(self._close(found))

    async def _end(self, found: _OpenCursor) -> None:
        await self._background.run(self._close(found))

    async def _close(self, found: _OpenCursor) -> None:
        try:
            await found.cursor.close()
        finally:
            self._places += 1
            await self._give(found.pooled)
