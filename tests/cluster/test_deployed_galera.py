"""The files in deploy/ for a Galera cluster behind HAProxy, with real nodes."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clients import ROOT, Client
from tests.conftest import need
from tests.servers.api import add_root, running, urls_of
from tests.servers.deployed_galera import ADDRESSES, DeployedNode, proxy_of
from tests.servers.process import temporary_directory

pytestmark = pytest.mark.skipif(
    "CLUSTER_CHANGES" not in os.environ, reason="three minutes: only with `make cluster-test`"
)


@pytest.fixture
def deployed() -> Iterator[list[DeployedNode]]:
    need("galera")
    need("haproxy")
    password = secrets.token_hex(16)
    nodes = [DeployedNode(address, password) for address in ADDRESSES]
    yield nodes
    for node in nodes:
        node.stop()


async def size(node: DeployedNode) -> int:
    """The number of nodes in its cluster."""
    engine = create_async_engine(node.admin)
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql("SHOW STATUS LIKE 'wsrep_cluster_size'")
        number = found.mappings().one()["Value"]
    await engine.dispose()
    return int(number)


async def creates(root: Client, number: int, seconds: float) -> float:
    """Create a user, again and again until it succeeds; returns how long it took."""
    began = time.monotonic()
    while True:
        try:
            status, answer = await root.call(
                "POST", f"user/u{number}@ex.com", data={"password": "An0ther-Secret"}
            )
        except httpx.TransportError as error:
            status, answer = 0, {"_msg": repr(error)}
        if status == 200 or (status == 409 and answer["_msg"] == "ALREADY_EXISTS"):
            return time.monotonic() - began
        assert status in (503, 504), answer
        assert time.monotonic() - began < seconds, answer
        await asyncio.sleep(0.2)


async def test_nodes_leave_crash_and_come_back(deployed: list[DeployedNode]) -> None:
    """Only the first node makes a cluster, and only when there is none; HAProxy finds a node."""
    first, second, third = deployed
    first.initialise()
    first.begin()
    await first.make_account()
    for node in (second, third):
        node.begin()
    assert [await size(node) for node in deployed] == [3, 3, 3]
    assert [node.check() for node in deployed] == [200, 200, 200]
    proxy = proxy_of(deployed)
    store = await first.create_store("deployed")
    await add_root(store)
    place = temporary_directory("api")
    moved = {
        name: make_url(url)
        .set(host="127.0.0.1", port=proxy.port)
        .render_as_string(hide_password=False)
        for name, url in urls_of(store).items()
    }
    settings = {"IREDAPI_DATA_DIR": str(place), "IREDAPI_WORKERS": "1"}
    with running(settings | moved, directory=place) as api:
        async with httpx.AsyncClient(
            base_url=f"{api.address}/api", timeout=60, trust_env=False
        ) as http:
            root = await Client(http).login(ROOT)
            await root.ok("POST", "domain/ex.com")
            first.leave()
            print("first node left:", await creates(root, 1, 10))
            first.begin()
            assert await size(first) == 3
            first.crash()
            print("first node crashed:", await creates(root, 2, 10))
            first.lose_data()
            first.begin()
            assert await size(third) == 3, "a node without data makes no cluster of its own"
            second.crash()
            third.crash()
            # The first is alone, and does not know whether the others go on without it.
            await asyncio.sleep(8)
            assert first.check() == 503
            status, answer = await root.call("POST", "domain/other.example")
            assert status == 503, answer
            await asyncio.gather(*(asyncio.to_thread(node.begin) for node in (second, third)))
            print("majority back:", await creates(root, 3, 20))
            for node in (third, second, first):
                node.leave()
            first.begin()
            second.begin()
            third.begin()
            assert [await size(node) for node in deployed] == [3, 3, 3]
            print("all back:", await creates(root, 4, 20))
            listed = await root.ok("GET", "users/ex.com", email_only="yes")
            assert {f"u{number}@ex.com" for number in (1, 2, 3, 4)} <= set(listed)
    proxy.stop()
    await store.close()
