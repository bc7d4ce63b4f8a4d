"""PgBouncer between the service and PostgreSQL: what each way of pooling needs."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import httpx
import pytest
from sqlalchemy import Integer, MetaData, bindparam, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.database import Database
from iredapi.database.errors import translated
from iredapi.errors import ApiError
from iredapi.observability.health_checks import NotUsable
from tests.clients import PASSWORD, ROOT
from tests.servers import pgbouncer
from tests.servers.api import add_root, running, urls_of
from tests.servers.pgbouncer import PgBouncer
from tests.servers.store import Store

LOGIN = {"username": ROOT, "password": PASSWORD}
pytestmark = [
    pytest.mark.stores("postgresql"),
    pytest.mark.skipif(bool(pgbouncer.missing()), reason=str(pgbouncer.missing())),
]


def through(store: Store, port: int, **options: str) -> dict[str, str]:
    """The settings of a service whose databases are all behind PgBouncer."""
    urls = {
        name: make_url(url).set(port=port).update_query_dict(options)
        for name, url in urls_of(store).items()
        if name.endswith("_URL")
    }
    return urls_of(store) | {
        name: url.render_as_string(hide_password=False) for name, url in urls.items()
    }


async def _works(address: str) -> list[str]:
    """Reads, writes, batches, lists and logins of many requests at once; the answers that fail."""
    failed: list[str] = []
    async with httpx.AsyncClient(
        base_url=address, timeout=60, trust_env=False, headers={"Connection": "close"}
    ) as client:
        await client.post("/api/login", data=LOGIN)
        await client.post("/api/domain/ex.com")
        for _ in range(4):
            calls = [
                client.post(f"/api/user/u{n}@ex.com", data={"password": PASSWORD}) for n in range(8)
            ]
            calls += [client.get("/api/domain/ex.com") for _ in range(8)]
            calls += [client.put("/api/domain/ex.com", data={"name": f"N{n}"}) for n in range(4)]
            calls += [client.get("/api/users/ex.com") for _ in range(4)]
            calls += [client.post("/api/login", data=LOGIN) for _ in range(2)]
            answers = await asyncio.gather(*calls)
            failed += [answer.text for answer in answers if answer.status_code not in {200, 409}]
            calls = [client.put(f"/api/user/u{n}@ex.com", data={"name": "x"}) for n in range(8)]
            calls += [client.get(f"/api/user/u{n}@ex.com") for n in range(8)]
            calls += [
                client.post(
                    f"/api/throttle/u{n}@ex.com/inbound", data={"period": "60", "max_msgs": "7"}
                )
                for n in range(2)
            ]
            answers = await asyncio.gather(*calls)
            failed += [answer.text for answer in answers if answer.status_code != 200]
    return failed


async def _runs(store: Store, bouncer: PgBouncer, **options: str) -> None:
    with running(through(store, bouncer.port, **options)) as api:
        assert await _works(api.address) == []
        assert "Traceback" not in api.output
        assert "prepared_statement_lost" not in api.output


async def test_session_pooling_works_with_every_version(store: Store) -> None:
    await add_root(store)
    bouncer = PgBouncer(store, "session", default_pool_size="20")
    try:
        await _runs(store, bouncer)
    finally:
        bouncer.stop()


async def test_transaction_pooling(store: Store) -> None:
    """From 1.21 on it works as it is, and every one with an option."""
    await add_root(store)
    bouncer = PgBouncer(store, "transaction")
    try:
        if pgbouncer.version() >= (1, 21):
            await _runs(store, bouncer)
        await _runs(store, bouncer, statement_cache_size="0")
    finally:
        bouncer.stop()


@pytest.mark.skipif(
    not pgbouncer.missing() and pgbouncer.version() >= (1, 21), reason="this one keeps statements"
)
async def test_an_older_one_that_pools_transactions_is_told(store: Store) -> None:
    """Without the option statements fail with 26000; none is run with another one's text."""
    bouncer = PgBouncer(store, "transaction", default_pool_size="3")
    through_it = make_url(store.vmail).set(port=bouncer.port)
    try:
        right = await _many_statements(through_it.update_query_dict({"statement_cache_size": "0"}))
        assert right == Counter(right=160)
        found = await _many_statements(through_it)
        assert found["DATABASE lost"] == 1
        assert found["SERVER_DOWN"] > 0
        assert set(found) <= {"right", "SERVER_DOWN", "DATABASE lost"}
    finally:
        bouncer.stop()


async def _many_statements(url: URL) -> Counter[str]:
    """Run different statements on several connections at once; count what came of them."""
    database = Database("vmail", url.render_as_string(hide_password=False), MetaData())
    found: Counter[str] = Counter()

    async def client(number: int) -> None:
        asked = CompiledStatement.of(
            select(bindparam("v", type_=Integer) + number * 1000), database.engine.dialect
        )
        for turn in range(20):
            try:
                async with database.using(writing=turn % 3 == 0) as pooled:
                    answer = (await pooled.fetch(asked, {"v": turn}))[0][0]
                found["right" if answer == turn + number * 1000 else "wrong"] += 1
            except DBAPIError as error:
                told = translated(error)
                found[told.code if isinstance(told, ApiError) else "unexpected"] += 1

    try:
        await asyncio.gather(*(client(number) for number in range(8)))
        with suppress(NotUsable):
            await database.ping()
            return found
        found["DATABASE lost"] += 1
        return found
    finally:
        await database.close()
