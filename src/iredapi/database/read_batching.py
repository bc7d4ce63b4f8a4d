"""Micro-batching of short reads of many requests.

One message to PostgreSQL or MariaDB, or one call in the SQLite connection's thread, runs a
statement with the values of several requests. Under load there are fewer switches between processes
or threads, which cost more than the statements. Only a read that is fast and waits for no lock may
be batched: the other requests of the batch wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError

from iredapi.concurrency.batcher import Batcher
from iredapi.concurrency.deadline import TimeLimit
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.connection import PooledConnection
from iredapi.errors import ServerDown
from iredapi.observability.query_counter import METER

SECONDS: Final = 10.0
"""Seconds after which a batch fails; it usually takes milliseconds."""
Values = Mapping[str, Any]
Rows = list[Any]


class Pipeline:
    """Batches of reads of one database, by statement."""

    def __init__(
        self,
        acquire: Callable[[], Awaitable[PooledConnection]],
        give: Callable[[PooledConnection], Awaitable[None]],
        dialect: Dialect,
    ) -> None:
        self._acquire = acquire
        self._give = give
        self._dialect = dialect
        self._batchers: dict[str, Batcher[Values, Rows]] = {}

    async def fetch(self, compiled: CompiledStatement, values: Values) -> Rows:
        """Run a read and return its rows. Raises what SQLAlchemy would, and ServerDown."""
        begun = time.perf_counter()
        batcher = self._batchers.get(compiled.sql)
        if batcher is None:
            run_many = partial(PooledConnection.fetch_each, compiled=compiled)
            if self._dialect.driver == "asyncpg":
                run_many = partial(
                    PooledConnection.fetch_many,
                    indexed=compiled.with_row_index(self._dialect),
                )
            batcher = self._batchers[compiled.sql] = Batcher(
                partial(self._run_batch, compiled, run_many), kind="reads"
            )
        rows = await batcher.submit(values)
        meter = METER.get()
        if meter is not None:
            # Counted for the request that waits, not for the batch.
            meter.count(time.perf_counter() - begun)
        return rows

    async def close(self) -> None:
        """Wait for running batches."""
        for batcher in self._batchers.values():
            await batcher.close()

    async def _run_batch(
        self,
        compiled: CompiledStatement,
        run_many: Callable[..., Awaitable[list[Rows]]],
        value_sets: Sequence[Values],
    ) -> Sequence[Rows | Exception]:
        pooled = await self._acquire()
        try:
            async with TimeLimit(SECONDS):
                return await _results(pooled, compiled, run_many, value_sets)
        except TimeoutError:
            raise ServerDown(detail="The database did not answer in time.") from None
        finally:
            await self._give(pooled)


async def _results(
    pooled: PooledConnection,
    compiled: CompiledStatement,
    run_many: Callable[..., Awaitable[list[Rows]]],
    value_sets: Sequence[Values],
) -> Sequence[Rows | Exception]:
    # ``fetch_each`` prepares statements of MariaDB, which pays for a single read, too.
    if len(value_sets) > 1 or pooled.connection.dialect.driver == "aiomysql":
        try:
            return await run_many(pooled, values=value_sets)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            # One set of values failed, or the statement could not be prepared.
    return [await _run_alone(pooled, compiled, values) for values in value_sets]


async def _run_alone(
    pooled: PooledConnection, compiled: CompiledStatement, values: Values
) -> Rows | Exception:
    try:
        return await pooled.fetch(compiled, values)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return error
