"""Fixtures of the tests with clusters: three Galera nodes, each with a service beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from tests.clients import ROOT, Client
from tests.conftest import need
from tests.servers.api import ApiProcess, add_root, running, urls_of
from tests.servers.galera import GaleraCluster
from tests.servers.process import temporary_directory
from tests.servers.store import Store


@dataclass
class Nodes:
    """Three nodes of one cluster, with a service on each."""

    cluster: GaleraCluster
    stores: list[Store]
    """The same databases, as each node shows them."""
    apis: list[ApiProcess]
    stack: AsyncExitStack

    @property
    def store(self) -> Store:
        return self.stores[0]

    async def client(self, number: int, username: str = ROOT) -> Client:
        """A client of the service on one node, which is logged in."""
        http = httpx.AsyncClient(
            base_url=f"{self.apis[number % len(self.apis)].address}/api",
            timeout=120,
            trust_env=False,
            # A connection for each request, which the service ends: none is written to or read from
            # while the other side closes it.
            headers={"Connection": "close"},
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=0),
        )
        await self.stack.enter_async_context(http)
        return await Client(http).login(username)

    async def clients(self, username: str = ROOT) -> list[Client]:
        """A client of each service."""
        return [await self.client(number, username) for number in range(len(self.apis))]


@pytest.fixture(scope="session")
def galera() -> Iterator[GaleraCluster]:
    """A cluster for this test worker."""
    need("galera")
    cluster = GaleraCluster()
    yield cluster
    cluster.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def galera_services(galera: GaleraCluster) -> AsyncIterator[Nodes]:
    """A service on each node, all with the same databases; not emptied by this fixture."""
    stores = await galera.create_store("cluster")
    async with AsyncExitStack() as stack:
        apis = []
        for store in stores:
            place = temporary_directory("api")
            settings = {
                "IREDAPI_DATA_DIR": str(place),
                "IREDAPI_WORKERS": "1",
                "IREDAPI_LOGIN_FAILURES": "1000000",
            }
            apis.append(stack.enter_context(running(settings | urls_of(store), directory=place)))
        yield Nodes(galera, stores, apis, stack)
    for store in stores:
        await store.close()


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(galera_services: Nodes) -> AsyncIterator[Nodes]:
    """Three services on empty databases, with the global admin ROOT; nothing unexpected happens."""
    await galera_services.store.reset()
    await add_root(galera_services.store)
    before = [len(api.output) for api in galera_services.apis]
    yield galera_services
    for api, size in zip(galera_services.apis, before, strict=True):
        failed = [line for line in api.output[size:].splitlines() if "Traceback" in line]
        assert not failed, failed[0].replace("\\n", "\n")[-4000:]
