"""deploy/haproxy-postgresql.cfg: everything goes to the PostgreSQL server that takes writes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.clients import ROOT, Client, serving
from tests.cluster.test_deployed_galera import creates
from tests.conftest import need
from tests.integration.test_doctor import examine
from tests.servers.api import add_root, running, urls_of
from tests.servers.haproxy import DEPLOY, Haproxy
from tests.servers.postgresql import PostgresqlServer
from tests.servers.postgresql_pair import Node, PostgresqlPair, on_several_hosts
from tests.servers.process import Daemon, free_port
from tests.servers.store import Store

pytestmark = pytest.mark.skipif(
    "CLUSTER_CHANGES" not in os.environ, reason="only with `make cluster-test`: it needs haproxy"
)


@contextmanager
def answering(node: Node) -> Iterator[int]:
    """Let deploy/postgresql/check answer for a server; yields its port."""
    port = free_port()
    reached = (
        f"host=127.0.0.1 port={node.port} user=admin passfile={node.directory / 'pgpass'} "
        "dbname=postgres"
    )

    def ready() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    daemon = Daemon.start(
        [
            "env", f"PATH={node.programs}:/usr/bin:/bin", f"POSTGRESQL_CHECK={reached}",
            "socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
            f"EXEC:{DEPLOY / 'postgresql' / 'check'}",
        ],
        log=node.directory / "log-check", user=node.user, ready=ready,
    )  # fmt: skip
    try:
        yield port
    finally:
        daemon.stop()


def asked(port: int) -> int:
    """Ask as HAProxy does; returns the status of HTTP."""
    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code


async def reached(pair: PostgresqlPair, proxy: Haproxy) -> int:
    """The port of the server that a new connection leads to."""
    connection = await asyncpg.connect(
        host="127.0.0.1", port=proxy.port, user="admin", password=pair.primary.password,
        database="postgres", timeout=10,
    )  # fmt: skip
    try:
        return int(await connection.fetchval("SELECT inet_server_port()"))
    finally:
        await connection.close(timeout=5)


async def recorded(store: Store, second: Node) -> None:
    """The service has remembered, by itself, which servers it writes to."""
    moved = on_several_hosts(store, [second.port])
    for _ in range(140):
        rows = await moved.rows("SELECT DISTINCT name FROM written_servers", "state")
        if len(rows) == 5:
            break
        await asyncio.sleep(0.5)
    await moved.close()
    assert len(rows) == 5, rows


async def doctor_warns(store: Store, first: Node, second: Node) -> None:
    """Two services that write to two servers, and have one state database."""
    moved: dict[str, Any] = {
        name: value.replace(f":{first.port}/", f":{second.port}/")
        for name, value in store.settings().items()
    }
    state = {"state_url": moved["state_url"]}
    async with serving(store, **state) as old, serving(store, **moved) as new:
        for _ in range(2):
            for service in (old, new):
                await service.context.servers_written.look()
        found, result = await examine(store, "SEVERAL_WRITERS", **moved)
        names = {finding.subject for finding in found}
        assert names == {"vmail", "amavisd", "iredapd", "iredadmin"}
        assert str(first.port) in found[0].detail
        assert str(second.port) in found[0].detail
        assert result.status == 1


@pytest_asyncio.fixture(loop_scope="session")
async def pair() -> AsyncIterator[PostgresqlPair]:
    """A primary and a standby."""
    need("postgresql")
    need("haproxy")
    found = PostgresqlPair()
    try:
        await found.start()
        yield found
    finally:
        found.stop()


async def test_all_use_the_server_that_takes_writes(pair: PostgresqlPair) -> None:
    """Also when an old primary comes back by mistake as one that takes writes."""
    first, second = pair.primary, pair.standby
    store = await PostgresqlServer(at=first.url()).create_store("haproxy")
    await add_root(store)
    await store.close()
    with answering(first) as one, answering(second) as other:
        assert (asked(one), asked(other)) == (200, 503)
        servers = {
            f"server pg{number} pg{number}:5432 check": (
                f"server pg{number} 127.0.0.1:{node.port} check port {port}"
            )
            for number, (node, port) in enumerate([(first, one), (second, other)], 1)
        }
        proxy = Haproxy("haproxy-postgresql.cfg", ":5432", servers)
        through = {
            name: value.replace(f":{first.port}/", f":{proxy.port}/")
            for name, value in urls_of(store).items()
        }
        with running(through) as api:
            async with httpx.AsyncClient(
                base_url=f"{api.address}/api", timeout=60, trust_env=False
            ) as http:
                root = await Client(http).login(ROOT)
                await root.ok("POST", "domain/ex.com")
                await creates(root, 1, 10)
                assert await reached(pair, proxy) == first.port
                await asyncio.to_thread(first.kill)
                assert asked(one) == 503
                await pair.fail_over()
                print("failed over:", await creates(root, 2, 20))
                assert (asked(one), asked(other)) == (503, 200)
                # Nobody makes it a standby.
                await asyncio.to_thread(first.start)
                assert (asked(one), asked(other)) == (200, 200)
                await asyncio.sleep(2)  # HAProxy has seen it as well
                assert await reached(pair, proxy) == second.port
                await creates(root, 3, 10)
                listed = await root.ok("GET", "users/ex.com", email_only="yes")
                assert set(listed) == {f"u{number}@ex.com" for number in (1, 2, 3)}
            await recorded(store, second)
        await doctor_warns(store, first, second)
        proxy.stop()
