"""Patroni with synchronous mode: leaders are killed, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.proof import prove
from tests.cluster.test_postgresql_standby import write_once
from tests.conftest import need
from tests.servers.patroni import PatroniCluster
from tests.servers.postgresql import PostgresqlServer
from tests.servers.postgresql_pair import on_several_hosts, settings_on_several_hosts
from tests.servers.store import Store


class Leaders:
    """A cluster whose leader is killed."""

    def __init__(self, cluster: PatroniCluster, store: Store) -> None:
        self._cluster, self.store = cluster, store
        self._gone = cluster.nodes[0]

    async def kill_one(self, _random: random.Random) -> str:
        """Kill the leader with its Patroni."""
        leader = await asyncio.to_thread(self._cluster.leader)
        assert leader is not None
        self._gone = leader
        await asyncio.to_thread(leader.kill)
        return f"leader {leader.name} killed"

    async def bring_back(self) -> None:
        """Start it again once another one leads; Patroni rewinds it."""
        for _ in range(240):
            if await asyncio.to_thread(self._cluster.leader) not in {None, self._gone}:
                break
            await asyncio.sleep(0.5)
        await asyncio.to_thread(self._gone.start)
        await asyncio.to_thread(self._cluster.wait_for_standby)

    async def bare_write(self) -> bool:
        """Write a row of a table of its own."""
        return await write_once(self.store.admin["vmail"])

    async def settle(self) -> list[str]:
        """The leader has everything."""
        return []


@pytest_asyncio.fixture(loop_scope="session")
async def leaders() -> AsyncIterator[Leaders]:
    """A leader and its synchronous standby, with databases."""
    need("patroni")
    cluster = await asyncio.to_thread(PatroniCluster)
    try:
        first = cluster.leader()
        assert first is not None
        store = await PostgresqlServer(at=first.url()).create_store("patroni")
        async with store.connect("vmail") as connection:
            await connection.exec_driver_sql("CREATE TABLE probe (n int)")
        await store.reset()
        await store.close()
        moved = on_several_hosts(store, cluster.ports)
        yield Leaders(cluster, moved)
        await moved.close()
    finally:
        cluster.stop()


@pytest.mark.skipif(
    "CLUSTER_CHANGES" not in os.environ, reason="make cluster-test: a failover takes 20 seconds"
)
async def test_nothing_acknowledged_is_lost(leaders: Leaders) -> None:
    proof = await prove(leaders, settings=settings_on_several_hosts(leaders.store))
    proof.check_outages()
