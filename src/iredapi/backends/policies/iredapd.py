"""What the stores of iRedAPD's policies share: the connection to ``iredapd`` and its locks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Executable, Select, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.database.database import Connections
from iredapi.database.dialect import MYSQL, insert_ignore

LONGEST: Final = 255
LONGEST_ON_MYSQL: Final = 100


class IredapdStore:
    """Base of the stores in ``iredapd``. Raises NotSupported when it is not configured."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def dialect(self) -> str:
        """The dialect of the database."""
        return self._connections.databases["iredapd"].dialect

    @property
    def longest(self) -> int:
        """Most characters of an account or sender of greylisting."""
        return LONGEST_ON_MYSQL if self.dialect in MYSQL else LONGEST

    async def connection(self) -> AsyncConnection:
        """Return the connection to ``iredapd``."""
        return await self._connections.get("iredapd")

    async def run(self, statement: Executable) -> int:
        """Run a write and return the number of rows."""
        result = await (await self.connection()).execute(statement)
        return int(getattr(result, "rowcount", 0))

    async def rows(self, statement: Select[Any]) -> Sequence[Mapping[str, Any]]:
        """Run a read and return its rows by column name."""
        result = await (await self.connection()).execute(statement)
        return [{str(key): row[key] for key in row} for row in result.mappings()]

    async def column(self, statement: Select[Any]) -> list[Any]:
        """Run a read and return its first column."""
        return list((await (await self.connection()).execute(statement)).scalars())

    async def insert_missing(self, table: Table, rows: Collection[Mapping[str, Any]]) -> None:
        """Insert rows whose unique keys are free."""
        if rows:
            statement = insert_ignore(table, self.dialect)
            await (await self.connection()).execute(statement, [dict(row) for row in rows])

    async def hold(self, *name: str) -> None:
        """Hold a name against our other writers until the unit ends: PostgreSQL only.

        What does not exist has no row to lock, and PostgreSQL has no unique key on ``throttle``. An
        advisory lock needs no rights, is released with the transaction, and stops nobody else:
        ``LOCK TABLE`` would make the writers of all accounts wait for each other, and would have to
        be waited for by a backup. On MariaDB the unique keys hold: an insert waits for another one
        of the same key, so the stores insert before they look. SQLite has one writer.
        """
        if self.dialect == "postgresql":
            digest = blake2b("\0".join(("iredapi", *name)).encode(), digest_size=8).digest()
            key = int.from_bytes(digest, "big", signed=True)
            await (await self.connection()).execute(select(func.pg_advisory_xact_lock(key)))
