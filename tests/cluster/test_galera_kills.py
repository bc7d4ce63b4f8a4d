"""Galera: three nodes that all are written to are killed; nothing is lost or half made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import aiomysql
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tests.cluster.proof import prove
from tests.servers.galera import GaleraCluster
from tests.servers.store import Store

pytestmark = pytest.mark.xdist_group("galera")  # one cluster, whatever the number of workers


class Killed:
    """A cluster of which one node after the other is killed."""

    def __init__(self, cluster: GaleraCluster, stores: list[Store]) -> None:
        self.cluster = cluster
        self.stores = stores
        self.store = stores[0]
        self._gone = cluster.nodes[0]

    async def kill_one(self, random_: random.Random) -> str:
        """Kill any node."""
        number = random_.randrange(len(self.cluster.nodes))
        self._gone = self.cluster.nodes[number]
        await asyncio.to_thread(self._gone.kill)
        return f"node {number} killed"

    async def bring_back(self) -> None:
        """Start it again; it gets what it lacks from the others."""
        await asyncio.to_thread(self.cluster.restart, self._gone)

    async def bare_write(self) -> bool:
        """Write a row of a table of its own, on a node that is there."""
        node = next(node for node in self.cluster.nodes if node is not self._gone)
        url = make_url(self.store.admin["vmail"])
        connection = await aiomysql.connect(
            host="127.0.0.1", port=node.port, user=url.username, password=url.password,
            db=url.database, autocommit=True, connect_timeout=5,
        )  # fmt: skip
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(
                    "INSERT INTO probe VALUES (1, 1) ON DUPLICATE KEY UPDATE n = n + 1"
                )
        finally:
            connection.close()
        return True

    async def settle(self) -> list[str]:
        """Compare every table of every database on all nodes.

        Several times: services write to their own tables now and then while these are read.
        """
        for _ in range(9):
            if not await self._differences():
                return []
            await asyncio.sleep(1)
        return await self._differences()

    async def _differences(self) -> list[str]:
        first, *others = [await _tables(store) for store in self.stores]
        wrong = []
        for number, found in enumerate(others, 1):
            for name in first.keys() | found.keys():
                here, there = set(first.get(name, [])), set(found.get(name, []))
                if first.get(name) != found.get(name):
                    wrong.append(
                        f"{name}: node 0 has {sorted(here - there)[:5]}, "
                        f"node {number} has {sorted(there - here)[:5]}"
                    )
        return wrong


async def _tables(store: Store) -> dict[str, list[str]]:
    """Return all rows of all tables."""
    found = {}
    for database in store.admin:
        async with store.connect(database) as connection:
            for (name,) in (await connection.execute(text("SHOW TABLES"))).all():
                rows = await connection.exec_driver_sql(f"SELECT * FROM `{name}`")
                found[f"{database}.{name}"] = sorted(map(repr, rows))
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def killed(galera: GaleraCluster) -> AsyncIterator[Killed]:
    """Databases of their own on the nodes."""
    stores = await galera.create_store("killed")
    async with stores[0].connect("vmail") as connection:
        await connection.exec_driver_sql("CREATE TABLE probe (id INT PRIMARY KEY, n INT)")
    await stores[0].reset()
    yield Killed(galera, stores)
    for store in stores:
        await store.close()


async def test_nothing_acknowledged_is_lost(killed: Killed) -> None:
    """Each service has a node of its own, or another one when that is gone; all change the same."""
    proof = await prove(killed, stores=killed.cluster.with_others(killed.stores))
    proof.check_outages()
