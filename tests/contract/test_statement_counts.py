"""How many statements an operation sends, and which rows it locks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest
from sqlalchemy import text

from iredapi.backends.sql.user_batches import SqlUserBatches
from iredapi.observability import query_counter
from tests.clients import PASSWORD, Client, Service
from tests.statements import unclocked

pytestmark = pytest.mark.stores("sqlite", "postgresql", "mariadb")


async def _fill(service: Service, domain: str, count: int) -> None:
    """Users with a forwarding each, written past the API."""
    names = [f"u{number}@{domain}" for number in range(count)]
    await service.store.insert(
        "mailbox",
        *({"username": m, "password": "x", "domain": domain, "settings": ""} for m in names),
    )
    await service.store.insert(
        "forwardings",
        *(
            {"address": m, "forwarding": m, "domain": domain, "dest_domain": domain}
            | {"is_forwarding": 1}
            for m in names
        ),
    )


async def counted(service: Service, call: Awaitable[object]) -> Counter[str]:
    await service.context.drain()  # what was asked for ahead of time
    service.context.invalidate_caches()  # or the clock decides whether the caller is read again
    with query_counter.listening() as heard:
        await call
    return Counter(unclocked(heard))


@pytest.mark.parametrize("change", ["language", "accountStatus", "password"])
async def test_a_change_of_all_users_costs_the_same_for_many(
    service: Service, root: Client, change: str
) -> None:
    """The number of statements does not grow with the number of users."""
    value = {"language": "de_DE", "accountStatus": "disabled", "password": PASSWORD}[change]
    costs = []
    for domain, count in (("warm.test", 1), ("few.test", 2), ("many.test", 1500)):
        await root.ok("POST", f"domain/{domain}")
        await _fill(service, domain, count)
        costs.append(await counted(service, root.ok("PUT", f"users/{domain}", **{change: value})))
    few, many = costs[1:]
    assert few.total() == many.total(), (many - few, few - many)


async def test_removing_a_domain_costs_the_same_for_many(service: Service, root: Client) -> None:
    """The number of statements does not grow with the number of users."""
    costs = []
    for domain, count in (("warm.test", 1), ("few.test", 2), ("many.test", 1500)):
        await root.ok("POST", f"domain/{domain}")
        await _fill(service, domain, count)
        costs.append(await counted(service, root.ok("DELETE", f"domain/{domain}")))
    few, many = costs[1:]
    assert few.total() == many.total(), (many - few, few - many)
    async with service.store.connect("vmail") as connection:
        left = await connection.scalar(text("SELECT count(*) FROM forwardings"))
    assert left == 0


async def test_few_statements_for_one_user(service: Service, root: Client) -> None:
    """The hot paths: docs/performance.md names these numbers."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/warm@ex.com", password=PASSWORD)
    await root.ok("PUT", "user/warm@ex.com", name="Warm")
    await root.ok("GET", "user/warm@ex.com")
    costs: dict[str, list[str]] = {}
    for name, method, form in (
        ("create", "POST", {"password": PASSWORD}),
        ("update", "PUT", {"name": "New"}),
        ("read", "GET", {}),
    ):
        await root.ok("GET", "whoami")  # the caller was read a moment ago
        with query_counter.listening() as heard:
            await root.ok(method, "user/new@ex.com", **form)
        costs[name] = unclocked(heard)
    # With one for the log, and of creating one for default lists (there is a list server); BEGIN
    # and COMMIT are not counted.
    most = {"postgresql": (5, 2, 1)}.get(service.store.name, (7, 2, 1))
    assert all(len(costs[name]) <= limit for name, limit in zip(costs, most, strict=True)), costs


@pytest.mark.stores("postgresql")
@pytest.mark.parametrize("other", ["user", "domain"])
async def test_an_optimistic_update_that_lost_is_repeated(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Between the read and the guarded write somebody else changes what was read."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    statement = {
        "user": "UPDATE mailbox SET department = 'theirs' WHERE username = 'u@ex.com'",
        "domain": "UPDATE domain SET description = 'theirs' WHERE domain = 'ex.com'",
    }[other]
    original, late = SqlUserBatches.save_rows, [0]

    async def save_rows(self: SqlUserBatches, pairs: Any) -> frozenset[str]:
        late[0] += 1
        async with service.store.connect("vmail") as connection:
            await connection.execute(text(statement))
        written = await original(self, pairs)
        assert written == frozenset(), "it was written all the same"
        return written

    # What a normal admin may do depends on what is there; a global one needs to know nothing.
    admin = await service.admin_of("ex.com")
    monkeypatch.setattr(SqlUserBatches, "save_rows", save_rows)
    await admin.ok("PUT", "user/u@ex.com", name="Ours")
    assert late[0] == 1
    async with service.store.connect("vmail") as connection:
        row = (
            await connection.execute(
                text("SELECT name, department FROM mailbox WHERE username = 'u@ex.com'")
            )
        ).one()
    assert tuple(row) == ("Ours", "theirs" if other == "user" else "")


@pytest.mark.stores("postgresql")
@pytest.mark.parametrize("held", ["the domain", "the user"])
async def test_no_change_outlives_its_domain(service: Service, root: Client, held: str) -> None:
    """A domain that is being removed takes its users along, whoever comes first."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    remove = text("DELETE FROM mailbox WHERE domain = 'ex.com'")
    async with service.store.admin_engine("vmail").connect() as holder:
        await holder.execute(text("SELECT 1 FROM domain WHERE domain = 'ex.com' FOR UPDATE"))
        if held == "the user":
            await holder.execute(remove)
        change = asyncio.create_task(root.call("PUT", "user/u@ex.com", data={"name": "Late"}))
        await asyncio.sleep(0.3)
        # Whose user is not touched yet does not wait: the removal finds what it has written.
        assert change.done() is (held == "the domain")
        await holder.execute(remove)
        await holder.execute(text("DELETE FROM domain WHERE domain = 'ex.com'"))
        await holder.commit()
        status, answer = await change
    if held == "the user":
        assert (status, answer["_msg"]) == (404, "NO_SUCH_DOMAIN")
    else:
        assert status == 200
    async with service.store.connect("vmail") as connection:
        assert await connection.scalar(text("SELECT count(*) FROM mailbox")) == 0


async def test_a_new_connection_is_not_counted(service: Service, root: Client) -> None:
    """The clock and the load decide when a request needs one."""
    await root.ok("POST", "domain/ex.com")
    known = await counted(service, root.ok("GET", "domain/ex.com"))
    service.context.databases["vmail"]._pool.drop_idle()
    assert await counted(service, root.ok("GET", "domain/ex.com")) == known
