"""Galera: what was answered with success is there as a whole, and every node sees it at once.

Nodes end transactions that conflict with one of another node, at any statement and at COMMIT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
from sqlalchemy import MetaData

from iredapi.database.database import Database
from iredapi.state import State
from tests.cluster.conftest import Nodes
from tests.cluster.test_galera_guards import HASH, ROUNDS, at_once, counted

pytestmark = pytest.mark.xdist_group("galera")  # one cluster, whatever the number of workers
CREATIONS: Final = 60 * ROUNDS


async def test_users_of_a_domain_that_other_nodes_change(nodes: Nodes) -> None:
    """A user has both rows or none, and nobody is told of somebody else's conflict."""
    roots = await nodes.clients()
    await roots[0].ok("POST", "domain/ex.test", quota=0)
    running = True

    async def change_domain() -> int:
        number = 0
        while running:
            number += 1
            await roots[0].ok("PUT", "domain/ex.test", cn=f"Name {number}")
        return number

    changes = asyncio.create_task(change_domain())
    answers = []
    for start in range(0, CREATIONS, 12):
        answers += await at_once(
            roots[1 + n % 2].call("POST", f"user/u{n}@ex.test", data={"password_hash": HASH})
            for n in range(start, start + 12)
        )
    running = False
    assert await changes > 0
    assert counted(answers) == {"ok": CREATIONS}
    made = {f"u{n}@ex.test" for n in range(CREATIONS)}
    for store in nodes.stores:
        mailboxes = await store.rows("SELECT username FROM mailbox")
        routes = await store.rows("SELECT address FROM forwardings WHERE is_forwarding = 1")
        assert {row["username"] for row in mailboxes} == made
        assert {row["address"] for row in routes} == made


async def test_changes_of_one_user_on_all_nodes(nodes: Nodes) -> None:
    """Each is answered with success, whichever fails at COMMIT first; the last one stays."""
    roots = await nodes.clients()
    await roots[0].ok("POST", "domain/ex.test")
    await roots[0].ok("POST", "user/u@ex.test", password_hash=HASH)
    for turn in range(ROUNDS):
        names = [f"N{turn}-{number}" for number in range(12)]
        answers = await at_once(
            roots[number % 3].call("PUT", "user/u@ex.test", data={"name": name})
            for number, name in enumerate(names)
        )
        assert counted(answers) == {"ok": 12}
        shown = {(await root.ok("GET", "user/u@ex.test"))["name"] for root in roots}
        assert len(shown) == 1
        assert shown <= set(names)


async def test_other_nodes_see_what_was_written(nodes: Nodes) -> None:
    """Sessions and accounts: read on another node that is late, right after the answer."""
    root = await nodes.client(0)
    await root.ok("POST", "domain/ex.test")
    late = await nodes.client(1)
    for turn in range(ROUNDS):
        mail = f"u{turn}@ex.test"
        async with nodes.stores[1].connect("vmail") as connection:
            # Until it is unlocked, this node applies nothing that others commit.
            await connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
            try:
                here = await nodes.client(0)
                await here.ok("POST", f"user/{mail}", password_hash=HASH)
                late.http.cookies = here.http.cookies
                answer = asyncio.create_task(late.ok("GET", f"user/{mail}"))
                await asyncio.sleep(0.5)
            finally:
                await connection.exec_driver_sql("UNLOCK TABLES")
        assert (await answer)["username"] == mail


async def test_all_nodes_are_one_server_for_writers(nodes: Nodes) -> None:
    """The doctor does not warn when replicas write to several nodes."""
    told = []
    for store in nodes.stores:
        database = Database("vmail", store.vmail, MetaData())
        told.append(await database.topology())
        await database.close()
    assert len({each.node for each in told if each is not None}) == 3
    (writer,) = {each.writer for each in told if each is not None}
    assert writer.startswith("galera ")


async def test_guards_leave_nothing_behind(nodes: Nodes) -> None:
    """Rows that were locked, and not changed by the request, are as before."""
    roots = await nodes.clients()
    await roots[0].ok("POST", "domain/ex.test")
    await roots[0].ok("POST", "user/u@ex.test", password_hash=HASH)
    tables = ("domain", "mailbox", "alias", "admin", "domain_admins")
    before = [await nodes.store.rows(f"SELECT * FROM {name}") for name in tables]
    await roots[1].ok("POST", "alias/a@ex.test")
    await roots[2].ok("DELETE", "alias/a@ex.test")
    await roots[0].ok("PUT", "user/u@ex.test", addForwarding="x@far.test")
    await roots[1].ok("PUT", "user/u@ex.test", removeForwarding="x@far.test")
    after = [await nodes.store.rows(f"SELECT * FROM {name}") for name in tables]
    for rows in (*before, *after):
        for row in rows:
            row.pop("modified", None)
    assert after == before


@asynccontextmanager
async def _states(nodes: Nodes) -> AsyncIterator[list[State]]:
    """The state database as a service on each node sees it."""
    async with AsyncExitStack() as stack:
        states = []
        for store in nodes.stores:
            state = await State.open(store.state, throttle_limit=10)
            stack.push_async_callback(state.close)
            states.append(state)
        yield states


async def test_login_attempts_are_counted_over_all_nodes(nodes: Nodes) -> None:
    """However many guesses arrive at all nodes at once, ten are verified."""
    async with _states(nodes) as states:
        for turn in range(ROUNDS):
            attempts = await asyncio.gather(
                *(states[n % 3].attempts.begin([f"account{turn}"], f"{n}") for n in range(30))
            )
            assert sum(not attempt.wait for attempt in attempts) == 10


async def test_leased_locks_exclude_each_other_on_all_nodes(nodes: Nodes) -> None:
    async with _states(nodes) as states:
        inside: list[int] = []

        async def work(number: int) -> None:
            async with states[number % 3].locks.hold("one", wait=60):
                inside.append(number)
                await asyncio.sleep(0.01)
                assert inside == [number]
                inside.clear()

        await asyncio.gather(*(work(number) for number in range(4 * ROUNDS)))
