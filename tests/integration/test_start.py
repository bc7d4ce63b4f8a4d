"""Start of the service: clocks, proxies, a state database that cannot be written."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from iredapi.backends.sql.tables import metadata
from iredapi.database.live_schema import create_all
from iredapi.observability.logging import configure
from tests.clients import serving
from tests.servers.api import running_on
from tests.servers.store import Store


@asynccontextmanager
async def _not_written(store: Store) -> AsyncIterator[None]:
    """Keep the service from writing sessions, in a way that its kind of database has."""
    url = make_url(store.state)
    if store.dialect == "sqlite":
        other = sqlite3.connect(str(url.database))
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()
        return
    forbid, allow = {
        "postgresql": (f"REVOKE DELETE ON sessions FROM {url.username}",
                       f"GRANT DELETE ON sessions TO {url.username}"),
        "mariadb": ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
    }[store.dialect]  # fmt: skip
    await store.execute(forbid, "state")
    try:
        yield
    finally:
        await store.execute(allow, "state")


async def test_not_ready_when_sessions_cannot_be_written(store: Store) -> None:
    """Reading goes on, but nobody can log in: a load balancer must not send anybody here."""
    async with serving(store) as service:
        health = service.client(mount="")
        assert (await health.call("GET", "/readyz"))[0] == 200
        async with _not_written(store):
            service.context.probes._last = None
            status, answer = await health.call("GET", "/readyz")
            assert status == 503
            assert "state" in answer["_detail"]
        service.context.probes._last = None
        assert (await health.call("GET", "/readyz"))[0] == 200


@pytest.fixture
def warnings() -> Iterator[None]:
    """Have warnings written."""
    configure("WARNING")
    yield
    configure("ERROR")


def told(capfd: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    """The entries of a kind that were logged."""
    lines = [line for line in "".join(capfd.readouterr()).splitlines() if event in line]
    return [json.loads(line[line.index("{") :]) for line in lines]


@pytest.mark.usefixtures("warnings")
@pytest.mark.stores("postgresql", "mariadb")
async def test_a_clock_that_is_off_is_told(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """In either direction, with the seconds; one that is right, or nearly, is not."""
    from iredapi.runtime.startup import check_clock

    async with store.connect("state") as connection:
        for ahead in (0, 25, -25, 45, -3600):
            await check_clock("state", connection, lambda: time.time() + ahead)  # noqa: B023
            seconds = [round(entry["seconds"]) for entry in told(capfd, "clock_differs")]
            assert seconds == ([ahead] if abs(ahead) > 30 else [])


@pytest.mark.usefixtures("warnings")
@pytest.mark.stores("sqlite")
async def test_a_proxy_that_is_not_trusted_is_told_once(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of each peer once, with the setting; of a trusted one, or without the header, nothing."""
    async with serving(store, trusted_proxies=["10.0.0.1"]) as service:
        for address, header in (
            ("10.0.0.1", "192.0.2.1"), ("198.51.100.7", ""), ("198.51.100.9", "192.0.2.1"),
            ("198.51.100.9", "192.0.2.2"), ("198.51.100.10", "192.0.2.1"),
        ):  # fmt: skip
            headers = {"X-Forwarded-For": header} if header else {}
            await service.client(address=address).http.get("whoami", headers=headers)
    entries = told(capfd, "IREDAPI_TRUSTED_PROXIES")
    assert [entry["peer"] for entry in entries] == ["198.51.100.9", "198.51.100.10"]
    assert {entry["level"] for entry in entries} == {"warning"}


def test_what_a_deployment_does_not_use_is_not_imported(store: Store) -> None:
    """Each of them costs every worker memory, and every start time."""
    for _ in range(2):  # the first one may have to migrate the state database
        with running_on(
            store, PYTHONPROFILEIMPORTTIME="1", IREDAPI_WORKERS="1", IREDAPI_EVENTS="yes"
        ) as api:
            lines = api.output.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert {"iredapi.app", "sqlalchemy", "fastapi"} <= imported
    drivers = imported & {"aiosqlite", "asyncpg", "aiomysql", "pymysql", "bonsai"}
    mysql = {"aiomysql", "pymysql"}
    assert drivers == {
        "sqlite": {"aiosqlite"}, "postgresql": {"asyncpg"}, "mariadb": mysql,
        "openldap": {*mysql, "bonsai"},
    }[store.name]  # fmt: skip
    seldom = {
        "alembic", "dns.asyncresolver", "httpcore", "httpx", "prometheus_client",
        "opentelemetry.sdk", "yaml", "iredapi.client", "iredapi.doctor", "iredapi.web.openapi",
    }  # fmt: skip
    assert not imported & seldom


@pytest.mark.stores("sqlite")
async def test_a_new_index_is_added_to_an_older_file(store: Store) -> None:
    """Once, and to the service's own tables only."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name"
    before = await store.rows(sql)
    await store.execute("DROP INDEX ix_admin_active")
    assert await store.rows(sql) != before
    for _ in range(2):
        async with store.connect("vmail") as connection:
            assert await create_all(connection, metadata) == []
        assert await store.rows(sql) == before
