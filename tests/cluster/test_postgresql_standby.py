"""PostgreSQL with a synchronous standby: servers are killed and promoted, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from sqlalchemy.engine import make_url

from tests.cluster.proof import prove
from tests.conftest import need
from tests.servers.postgresql import PostgresqlServer
from tests.servers.postgresql_pair import (
    PostgresqlPair,
    on_several_hosts,
    settings_on_several_hosts,
)
from tests.servers.store import Store


async def write_once(url: str) -> bool:
    """Write a row on a new connection to whichever server takes writes."""
    parts = make_url(url)
    hosts = [host.rpartition(":") for host in parts.query["host"]]
    connection = await asyncpg.connect(
        host=[host for host, _, _ in hosts],
        port=[int(port) for _, _, port in hosts],
        user=parts.username,
        password=parts.password,
        database=parts.database,
        target_session_attrs="read-write",
        timeout=5,
    )
    try:
        await connection.execute("INSERT INTO probe VALUES (1)")
    finally:
        await connection.close(timeout=1)
    return True


class Standby:
    """A pair, of which either server is killed."""

    def __init__(self, pair: PostgresqlPair, store: Store) -> None:
        self.pair = pair
        self.store = store
        self._promoted = False

    async def kill_one(self, random_: random.Random) -> str:
        """Kill the primary, or now and then the standby."""
        self._promoted = random_.random() < 0.75
        if self._promoted:
            await asyncio.to_thread(self.pair.primary.kill)
            return "primary killed, standby promoted"
        await asyncio.to_thread(self.pair.standby.kill)
        return "standby killed and started"

    async def bring_back(self) -> None:
        """Promote the other one first, when it was the primary."""
        if self._promoted:
            await self.pair.fail_over()
            await self.pair.bring_back()
        else:
            await self.pair.attach()

    async def bare_write(self) -> bool:
        """Write a row of a table of its own."""
        return await write_once(self.store.admin["vmail"])

    async def settle(self) -> list[str]:
        """The standby is synchronous: the primary has everything."""
        return []


@pytest_asyncio.fixture(loop_scope="session")
async def standby() -> AsyncIterator[Standby]:
    """A primary and a synchronous standby, with databases."""
    need("postgresql")
    pair = PostgresqlPair()
    try:
        await pair.start()
        server = PostgresqlServer(at=pair.primary.url())
        store = await server.create_store("standby")
        async with store.connect("vmail") as connection:
            await connection.exec_driver_sql("CREATE TABLE probe (n int)")
        await store.reset()
        await store.close()
        moved = on_several_hosts(store, pair.ports)
        yield Standby(pair, moved)
        await moved.close()
    finally:
        pair.stop()


async def test_nothing_acknowledged_is_lost(standby: Standby) -> None:
    proof = await prove(standby, settings=settings_on_several_hosts(standby.store))
    proof.check_outages()
