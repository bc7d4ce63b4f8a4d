"""URLs that name several servers: the first one that takes writes is used, also after a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from iredapi.config.parsing import async_url
from iredapi.database.database import Database, PoolOptions
from iredapi.errors import ApiError, ReadOnlyServer, ServerDown
from iredapi.observability.health_checks import NotUsable
from iredapi.runtime.start_errors import reason
from iredapi.state.connections import Connections, StateUnavailable
from tests.conftest import need
from tests.servers import mariadb
from tests.servers.mariadb import MariadbServer
from tests.servers.postgresql_pair import PostgresqlPair
from tests.servers.process import free_port


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database("vmail", async_url(url), MetaData(), PoolOptions(connect_timeout=3))
    try:
        yield database
    finally:
        await database.close()


_WHERE = {
    "postgresql": "SELECT inet_server_port()",
    "mysql": "SELECT @@port",
}


async def port_of(database: Database, *, writing: bool = False) -> int:
    """The port of the server that answers."""
    async with database.using(writing=writing) as pooled:
        found = await pooled.connection.execute(text(_WHERE[database.dialect]))
        return int(found.scalar_one())


async def write(database: Database) -> None:
    """Change a row in a transaction; once more on a new connection, as a unit of work does."""
    for attempt in range(2):
        try:
            async with database.using(writing=True) as pooled:
                await pooled.connection.exec_driver_sql("UPDATE probe SET n = n + 1")
                await pooled.commit()
        except Exception:
            if attempt:
                raise
        else:
            return


@pytest.fixture(scope="module")
def two_mariadbs() -> Iterator[list[MariadbServer]]:
    need("mariadb")
    servers = [MariadbServer(mariadb.SETTINGS) for _ in range(2)]
    yield servers
    for server in servers:
        server.stop()


async def administer(server: MariadbServer, *statements: str) -> None:
    engine = create_async_engine(server.admin, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement.replace("%", "%%"))
    finally:
        await engine.dispose()


async def test_mariadb_writes_go_to_the_server_that_takes_them(
    two_mariadbs: list[MariadbServer],
) -> None:
    first, second = two_mariadbs
    for server in two_mariadbs:
        await administer(
            server,
            "CREATE DATABASE d", "CREATE TABLE d.probe (n INT PRIMARY KEY)",
            "INSERT INTO d.probe VALUES (1)", "CREATE USER x@'%' IDENTIFIED BY 'p@/,:'",
            "GRANT ALL ON d.* TO x@'%'",
        )  # fmt: skip
    ports = [server.admin.port for server in two_mariadbs]
    dead = free_port()
    url = f"mysql://x:p%40%2F%2C%3A@127.0.0.1:{dead},127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/d"
    await administer(first, "SET GLOBAL read_only = ON")
    async with opened(url) as database:
        await database.ping()
        assert await port_of(database) == ports[1]
        await write(database)
        await administer(second, "SET GLOBAL read_only = ON")
        await administer(first, "SET GLOBAL read_only = OFF")
        await write(database)
        assert await port_of(database) == ports[0]
        await administer(first, "SET GLOBAL read_only = ON")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of any driver
            await write(database)
        assert isinstance(caught.value, ReadOnlyServer)
        with pytest.raises(NotUsable, match="read-only"):
            await database.ping()
        said = (await reason(OSError(), database.url)).sentence
        assert f"127.0.0.1:{dead}, 127.0.0.1:{ports[0]}" in said
        assert "p@" not in said
    connections = await Connections.open(async_url(url))
    try:
        with pytest.raises(StateUnavailable) as refused:
            await connections.write(text("DELETE FROM probe"))
        assert refused.value.read_only
        await administer(second, "SET GLOBAL read_only = OFF")
        assert await connections.write(text("DELETE FROM probe")) == 1
    finally:
        await connections.close()


async def test_postgresql_writes_follow_a_promotion() -> None:
    need("postgresql")
    pair = PostgresqlPair()
    try:
        await pair.start()
        login = make_url(pair.primary.url())
        await pair.primary.query(
            "CREATE TABLE probe (n int)", "INSERT INTO probe VALUES (1)", "SELECT 1"
        )
        at_standby = f"postgresql://admin:{login.password}@127.0.0.1:{pair.standby.port}/postgres"
        async with opened(at_standby) as database:
            told = await database.topology()
            assert told is not None
            assert (told.role, told.writer) == ("standby", "")
            assert "PostgreSQL" in str(told)
            with pytest.raises(NotUsable, match="read-only"):
                await database.ping()
        dead = free_port()
        hosts = ",".join(
            f"127.0.0.1:{port}" for port in [dead, pair.standby.port, pair.primary.port]
        )
        url = f"postgresql://admin:{login.password}@{hosts}/postgres"
        async with opened(url) as database:
            await database.ping()
            assert await port_of(database) == pair.primary.port
            await write(database)
            before = pair.primary.port
            told = await database.topology()
            assert told is not None
            assert (told.role, told.cluster_size) == ("primary", 2)
            assert told.node.endswith(f":{before}")
            assert told.writer
            assert "writer" not in told.to_dict()
            await asyncio.to_thread(pair.primary.kill)
            with pytest.raises((ApiError, OSError)):
                await write(database)
            await pair.fail_over()
            started = time.monotonic()
            while True:
                try:
                    await write(database)
                    break
                except (ServerDown, ReadOnlyServer):
                    assert time.monotonic() - started < 2
                    await asyncio.sleep(0.1)
            assert await port_of(database) == pair.primary.port != before
        only_standby = f"postgresql://admin:{login.password}@127.0.0.1:{before}/postgres"
        async with opened(f"{only_standby}?target_session_attrs=primary") as database:
            with pytest.raises(ServerDown):
                await port_of(database)
    finally:
        pair.stop()
