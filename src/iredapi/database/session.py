"""All databases of a configuration, and the connections of one unit of work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.concurrency.deadline import TimeLimit
from iredapi.concurrency.shield import Background
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.connection import PooledConnection
from iredapi.database.database import Database
from iredapi.database.row_locks import Row
from iredapi.errors import NotSupported, Overloaded

ORDER: Final = ("vmail", "amavisd", "iredapd", "iredadmin")
"""The order in which databases are locked, and the reverse of that of commits."""


@dataclass(slots=True)
class Databases:
    """All SQL databases of a configuration, and the queue of SQLite's writers."""

    by_name: Mapping[str, Database]
    patience: float = 60.0
    """Seconds for one unit of work, its commit included; also that a writer waits for the one
    before it (SQLite)."""
    background: Background = field(default_factory=Background)
    """Connections that are being given back; this continues when the request is cancelled."""
    _sqlite_writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    _has_sqlite: bool = field(init=False)

    def __post_init__(self) -> None:
        self._has_sqlite = any(database.sqlite for database in self.by_name.values())

    def has(self, name: str) -> bool:
        """Tell whether a database is configured."""
        return name in self.by_name

    def __getitem__(self, name: str) -> Database:
        """Return a database. Raises NotSupported when it is not configured."""
        try:
            return self.by_name[name]
        except KeyError:
            raise NotSupported(detail=f"The database {name} is not configured.") from None

    async def open(self, *, writing: bool) -> Connections:
        """Return the connections of one request; each is opened at its first use.

        Without ``writing`` they refuse writes. Raises Overloaded (SQLite).
        """
        queue = None
        if writing and self._has_sqlite:
            queue = self._sqlite_writer
            try:
                async with TimeLimit(self.patience):
                    await queue.acquire()
            except TimeoutError:
                raise Overloaded("Another change of the SQLite database takes long.") from None
        return Connections(self, writing=writing, queue=queue)

    def open_for_logs(self) -> Connections:
        """Return connections on which each write is a transaction of its own.

        They do not wait in the queue of SQLite's writers.
        """
        return Connections(self, writing=False, queue=None, read_only=False)

    async def close(self) -> None:
        """Close all databases."""
        await self.background.drain()
        for database in self.by_name.values():
            await database.close()


class Connections:
    """One request's connections, at most one to each database."""

    __slots__ = (
        "_deadline",
        "_pooled_connections",
        "_queue",
        "committed",
        "databases",
        "read_only",
        "writing",
    )  # fmt: skip

    def __init__(
        self,
        databases: Databases,
        *,
        writing: bool,
        queue: asyncio.Lock | None,
        read_only: bool | None = None,
    ) -> None:
        self.databases = databases
        self.writing = writing
        """Whether statements run in transactions, which ``commit`` commits."""
        self.read_only = not writing if read_only is None else read_only
        self.committed = False
        """Whether ``commit`` has committed a database."""
        self._queue = queue
        self._deadline = time.monotonic() + databases.patience
        self._pooled_connections: dict[str, PooledConnection] = {}

    async def get(self, name: str) -> AsyncConnection:
        """Return the connection to a database; open it and begin its transaction if need be."""
        return (await self._begun(name)).connection

    async def _pooled(self, name: str) -> PooledConnection:
        pooled = self._pooled_connections.get(name)
        if pooled is None:
            pooled = await self.databases[name].acquire(
                writing=self.writing, read_only=self.read_only
            )
            self._pooled_connections[name] = pooled
        return pooled

    async def _begun(self, name: str) -> PooledConnection:
        pooled = await self._pooled(name)
        if self.writing and not pooled.transacting:
            await pooled.begin()
        return pooled

    async def run(
        self, name: str, compiled: CompiledStatement, values: Mapping[str, Any]
    ) -> list[Any]:
        """Run a statement on the driver and return its rows. Raises what SQLAlchemy would."""
        return await (await self._begun(name)).fetch(compiled, values)

    async def hold(self, name: str, *rows: Row) -> None:
        """Lock rows, in this order, until the unit ends."""
        pooled = await self._pooled(name)
        if self.databases[name].sqlite:
            # A writing transaction locks the whole file.
            await self._begun(name)
            return
        if pooled.transacting or not await pooled.begin_with(rows):
            pooled = await self._begun(name)
            for row in rows:
                await pooled.fetch(pooled.lock_of(row), {"value": row.value})

    async def lock_nowait(self, name: str, column: Column[Any], values: Collection[str]) -> bool:
        """Begin a transaction by locking rows with NOWAIT; False: it was not possible."""
        pooled = await self._pooled(name)
        return not pooled.transacting and await pooled.begin_nowait(column, values)

    async def begin_reading(
        self, name: str, every: Sequence[CompiledStatement], values: Mapping[str, Any]
    ) -> list[list[Any]] | None:
        """Begin a transaction with reads, the first of which locks its rows without waiting.

        None: it was not possible, and no transaction has begun.
        """
        pooled = await self._pooled(name)
        return None if pooled.transacting else await pooled.begin_reading(every, values)

    async def run_all(
        self, name: str, every: Sequence[CompiledStatement], values: Mapping[str, Any]
    ) -> None:
        """Run writes that share their values, one after the other."""
        await (await self._begun(name)).run_all(every, values)

    async def run_each(
        self,
        name: str,
        every: Sequence[CompiledStatement],
        values: Sequence[Mapping[str, Any]],
    ) -> None:
        """Run writes one after the other, each with all sets of values (SQLite)."""
        await (await self._begun(name)).run_each(every, values)

    async def execute_autocommit(
        self, name: str, compiled: CompiledStatement, values: Mapping[str, Any]
    ) -> list[Any]:
        """Run a write that is a transaction of its own, and return its rows."""
        return await (await self._pooled(name)).fetch(compiled, values)

    async def fetch_and_count(
        self,
        name: str,
        read: CompiledStatement,
        write: CompiledStatement,
        values: Mapping[str, Any],
        lock: CompiledStatement | None = None,
    ) -> tuple[list[Any], int]:
        """Run a read and a write that is a transaction of its own in one message (aiomysql)."""
        return await (await self._pooled(name)).fetch_and_count(read, write, values, lock)

    async def fetch_for_each(
        self,
        name: str,
        indexed: CompiledStatement,
        values: Sequence[Mapping[str, Any]],
        *,
        begun: bool = True,
    ) -> list[list[Any]]:
        """Run a statement for each of some values in one message, for asyncpg only.

        With ``begun=False`` it is a transaction of its own, not part of the unit's.
        """
        pooled = await (self._begun(name) if begun else self._pooled(name))
        return await pooled.fetch_many(indexed, values)

    async def fetch_batched(
        self, name: str, compiled: CompiledStatement, values: Mapping[str, Any]
    ) -> list[Any]:
        """Run a fast read, batched with other requests' unless the unit has a connection already.

        Waiting for a second connection while holding one could deadlock on the pool.
        """
        pooled = self._pooled_connections.get(name)
        if pooled is not None:
            return await pooled.fetch(compiled, values)
        return await self.databases[name].fetch(compiled, values)

    async def commit(self) -> None:
        """Commit the related databases first, the accounts last: a request can then be repeated.

        Raises TimeoutError at the end of the unit's time (a commit gets a quarter of it in any
        case). The server may go on with that commit: a synchronous standby, or the other nodes of
        Galera, can keep it waiting without end.
        """
        open_ = [item for item in self._pooled_connections.items() if item[1].transacting]
        if len(open_) > 1:
            open_.sort(key=lambda item: ORDER.index(item[0]), reverse=True)
        for _, pooled in open_:
            if pooled.guards is not None:
                # Before the first COMMIT: most conflicts on Galera are found here.
                await pooled.write_guards()
        for name, pooled in open_:
            left = max(self._deadline - time.monotonic(), self.databases.patience / 4)
            try:
                async with TimeLimit(left):
                    await pooled.commit()
                self.committed = True
            except TimeoutError:
                self.databases[name].note_hanging_commit()
                raise

    async def close(self) -> None:
        """Roll back what was not committed and give the connections back, also when cancelled."""
        slow = [
            (self.databases[name], pooled)
            for name, pooled in self._pooled_connections.items()
            if not self.databases[name].give_at_once(pooled, writing=self.writing)
        ]
        self._pooled_connections.clear()
        queue, self._queue = self._queue, None
        if slow:
            await self.databases.background.run(_close(slow, queue, writing=self.writing))
        elif queue is not None:
            queue.release()


async def _close(
    opened: Sequence[tuple[Database, PooledConnection]],
    queue: asyncio.Lock | None,
    *,
    writing: bool,
) -> None:
    try:
        for database, pooled in opened:
            await database.give(pooled, writing=writing)
    finally:
        # The next writer of SQLite begins when this one has released its connections.
        if queue is not None:
            queue.release()
