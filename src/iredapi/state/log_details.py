"""Details of entries of the panel's log: request ids and changed values (docs/adr/0017)."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.domain.log import Details
from iredapi.observability.query_counter import UNCOUNTED
from iredapi.state.connections import Connections
from iredapi.state.purging import Purging
from iredapi.state.tables import REQUEST_ID_LENGTH, log_detail_blocks

BUCKET = 64
"""Ids of entries whose details may be in one row. A look-up reads up to so many for each entry."""

_DAY = 86400.0
_CHUNK = 500
"""Rows that one statement removes."""
_PAGE = 1000
"""Buckets that one statement looks up: those of the longest page."""
_LONG = 1 << 20
"""Characters after which a row ends."""
_ROUNDS = 200
"""Statements of one removal; the next one goes on."""


class NewDetails(NamedTuple):
    """The details of an entry."""

    log_id: int
    digest: str
    request_id: str
    about: str
    changes: Sequence[Mapping[str, Any]]
    """JSON values, without secrets."""


class LogDetails:
    """The details of all replicas. They are kept for ``days``; 0: none are."""

    def __init__(self, connections: Connections, *, days: int, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._days = days
        self._clock = clock
        self._purging = Purging("Old details of log entries", self.purge, clock())

    @property
    def kept(self) -> bool:
        """Whether details are kept."""
        return self._days > 0

    async def write(self, rows: Sequence[NewDetails]) -> None:
        """Write details in one transaction. Those of an entry that are written later count."""
        now, blocks = self._clock(), list(_blocks(rows))

        async def insert_all(connection: AsyncConnection) -> None:
            every = [
                {"bucket": bucket, "id": secrets.randbits(63), "entries": text, "created": now}
                for bucket, text in blocks
            ]
            await self._connections.execute_for_each(
                connection, "log_details", lambda: insert(log_detail_blocks), every
            )

        await self._connections.transact(insert_all)
        await self._purging.sometimes(self._clock())

    async def of(self, ids: Sequence[int]) -> dict[int, Details]:
        """Return the details of entries, by their ids. One statement for each 1,000 of them."""
        found: dict[int, Details] = {}
        table, oldest = log_detail_blocks.c, self._clock() - self._days * _DAY
        buckets, wanted = sorted({number // BUCKET for number in ids}), frozenset(ids)
        for start in range(0, len(buckets) if self.kept else 0, _PAGE):
            rows = await self._connections.read(
                select(table.entries)
                .where(table.bucket.in_(buckets[start : start + _PAGE]), table.created >= oldest)
                .order_by(table.created)
            )
            for row in rows:
                for number, *details in json.loads(row.entries):
                    if number in wanted:
                        found[number] = Details(*details)
        return found

    async def purge(self) -> int:
        """Remove rows that are too old; return their number."""
        table, oldest, removed = log_detail_blocks.c, self._clock() - self._days * _DAY, 0
        old = select(table.bucket, table.id).where(table.created < oldest).limit(_CHUNK)
        for _ in range(_ROUNDS):
            rows = await self._connections.read(old.execution_options(**UNCOUNTED))
            keys = [(row.bucket, row.id) for row in rows]
            if keys:
                some = delete(log_detail_blocks).where(tuple_(table.bucket, table.id).in_(keys))
                removed += await self._connections.write(some.execution_options(**UNCOUNTED))
            if len(keys) < _CHUNK:
                break
        return removed


def _blocks(rows: Sequence[NewDetails]) -> Iterator[tuple[int, str]]:
    """Return buckets, each with a JSON list of details."""
    by_bucket: dict[int, list[tuple[Any, ...]]] = {}
    for log_id, digest, request_id, *others in rows:
        entry = (log_id, digest, request_id[:REQUEST_ID_LENGTH], *others)
        by_bucket.setdefault(log_id // BUCKET, []).append(entry)
    for bucket, entries in by_bucket.items():
        for text in _texts(entries):
            yield bucket, text


def _texts(entries: Sequence[tuple[Any, ...]]) -> Iterator[str]:
    """Return JSON lists of entries; more than one where it would be long."""
    text = _json(entries)
    if len(text) <= _LONG or len(entries) == 1:
        yield text
        return
    half = len(entries) // 2
    yield from _texts(entries[:half])
    yield from _texts(entries[half:])


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return json.dumps(value, default=str)
