"""Several servers that are written to at once are noticed, on every kind of state database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from iredapi.database.topology import Topology
from iredapi.state import State
from iredapi.state.written_servers import RECENT, SECONDS
from tests.integration.test_doctor import examine
from tests.servers.store import Store


class Process:
    """A process of the service, whose clock is moved by hand."""

    def __init__(self, moment: float) -> None:
        self._moment = self.now = moment
        self._state: State

    async def open(self, store: Store) -> Process:
        """Open the state database."""
        self._state = await State.open(store.state, clock=lambda: self.now)
        return self

    async def close(self) -> None:
        """Close it."""
        await self._state.close()

    async def looks(self, server: str, *minutes: float, database: str = "vmail") -> None:
        """Find itself on a server, some minutes after the beginning."""
        told = Topology("PostgreSQL", "15.18", server, "server", writer=server)
        for minute in minutes:
            self.now = self._moment + 60 * minute
            await self._state.written.record({database: told})


@pytest_asyncio.fixture
async def processes(store: Store) -> AsyncIterator[list[Process]]:
    """Two of them; the beginning is two and a half minutes ago."""
    moment = time.time() - RECENT + SECONDS / 2
    made = [await Process(moment).open(store) for _ in range(2)]
    yield made
    for process in made:
        await process.close()


async def found(store: Store) -> list[tuple[str, str]]:
    """What the doctor finds."""
    every, _ = await examine(store, "SEVERAL_WRITERS")
    return [(finding.subject, finding.detail) for finding in every]


async def test_two_servers_at_once(store: Store, processes: list[Process]) -> None:
    one, other = processes
    await one.looks("db1:5432", 0, 1)
    await other.looks("db2:5432", 0.5, 1.5)
    ((subject, detail),) = await found(store)
    assert subject == "vmail"
    assert "db1:5432" in detail
    assert "db2:5432" in detail
    # Then all use one again.
    await one.looks("db2:5432", 2, 2.4)
    assert await found(store) == []


@pytest.mark.parametrize("back", [False, True])
async def test_a_failover_is_none(store: Store, processes: list[Process], back: bool) -> None:
    """Nor is it one when they go back soon, and one process ended in between."""
    one, other = processes
    await one.looks("db1:5432", 0, 0.5)
    await other.looks("db1:5432", 0.4, 0.9)
    await other.looks("db2:5432", 1.2, 1.5)
    if back:
        await other.looks("db1:5432", 1.6, 2.2)
    assert await found(store) == []


async def test_what_is_no_conflict(store: Store, processes: list[Process]) -> None:
    """Nodes of one cluster, other databases, servers that take no writes, and old times."""
    one, other = processes
    await one.looks("galera a", 0, 2)
    await other.looks("galera a", 0, 2)
    await one.looks("db1", 0, 2, database="amavisd")
    await other.looks("db2", 0, 2, database="iredapd")
    await one.looks("db1", 0, 2, database="iredadmin")
    await other.looks("", 0, 2, database="iredadmin")
    await one.looks("db1", -9, -8, database="state")
    await other.looks("db2", -9, -8, database="state")
    assert await found(store) == []
