"""The rows of a long list, which are fetched in parts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iredapi.database.compiled_statement import CompiledStatement

if TYPE_CHECKING:
    from iredapi.database.connection import PooledConnection


class Cursor:
    """The rows of a statement, fetched in parts; it has the connection alone until ``close``."""

    __slots__ = ("_compiled", "_ended", "_pooled", "_rows")

    def __init__(self, pooled: PooledConnection, compiled: CompiledStatement, rows: Any) -> None:
        self._pooled = pooled
        self._compiled = compiled
        self._rows = rows
        self._ended = False

    async def fetch(self, count: int) -> list[Any]:
        """Return the next rows; fewer than ``count`` are the last ones."""
        name = self._pooled.connection.dialect.driver
        more = self._rows.fetch if name == "asyncpg" else self._rows.fetchmany
        found = await self._pooled.asked(self._compiled.sql, more(count))
        self._ended = len(found) < count
        return self._compiled.rows(found)

    async def close(self) -> None:
        """Discard the rows that were not fetched. Raises nothing."""
        if self._pooled.broken:
            return
        name = self._pooled.connection.dialect.driver
        if name == "aiomysql" and not self._ended:
            # The rest of the rows is still in the socket: reading it could take long.
            self._pooled.discard = True
        elif name != "asyncpg":  # there the end of the transaction closes it
            with suppress(Exception):
                await self._rows.close()
