"""The LDAP client under cancellations, failed writes, restarts, and with dead servers."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from iredapi.backends.ldap.client import Change, Directory, Op, Scope
from iredapi.backends.ldap.errors import LdapError, Unavailable
from tests.ldap.conftest import Heartbeat, freeze, opened, options_for
from tests.servers.openldap import BASE, OpenldapServer

OPERATIONS = 10_000
AT_ONCE = 32
RESTARTS = 6
DOMAIN = {"objectClass": ["mailDomain"], "domainName": ["endurance.invalid"]}
PARENT = f"domainName=endurance.invalid,{BASE}"


def _sockets() -> int:
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed in between
            count += str(path.readlink()).startswith("socket:")
    return count


async def _until(condition: Callable[[], bool], patience: float = 5) -> None:
    deadline = time.monotonic() + patience
    for _ in iter(condition, True):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def _operate(client: Directory, choice: random.Random) -> None:
    number = choice.randrange(300)
    dn = f"ou=n{number},{PARENT}"
    unit = {"objectClass": ["organizationalUnit"], "ou": [f"n{number}"]}
    match choice.randrange(9):
        case 0 | 1:
            await client.add(dn, unit)  # every second one exists already
        case 2:
            await client.add(PARENT, DOMAIN)
        case 3:
            values = tuple(f"{choice.random()}" for _ in range(5))
            await client.modify(dn, [Change(Op.REPLACE, "description", values)])
        case 4:
            await client.modify(
                dn, [Change(Op.ADD, "description", ("1",)), Change(Op.DELETE, "street", ("x",))]
            )
        case 5:
            await client.delete(dn)
        case 6:
            await client.get(dn)
        case 7:
            await client.search(PARENT, Scope.ONE, f"(ou=n{number % 10}*)")
        case 8:
            async with aclosing(client.pages(PARENT, Scope.ONE, "(ou=*)", size=20)) as pages:
                async for _ in pages:
                    if choice.random() < 0.5:
                        break


async def test_endures_cancellations_failures_and_restarts(own_server: OpenldapServer) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choice = random.Random(seed)
    sockets, threads = _sockets(), threading.active_count()
    outcomes: Counter[str] = Counter()
    left = OPERATIONS

    async def work(client: Directory) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            patience = choice.choice([0, 0.0005, 0.002, 0.01]) if choice.random() < 0.3 else None
            try:
                async with asyncio.timeout(patience):
                    await _operate(client, choice)
                outcomes["done"] += 1
            except TimeoutError:
                outcomes["cancelled"] += 1
            except Unavailable:
                outcomes["Unavailable"] += 1
                left += 1  # one more that meets a server
                await asyncio.sleep(0.02)
            except LdapError as error:
                outcomes[type(error).__name__] += 1

    async def restart() -> None:
        for number in range(RESTARTS):
            limit = OPERATIONS * (1 - (number + 1) / (RESTARTS + 1))
            await _until(lambda: left <= limit, 120)  # noqa: B023
            await asyncio.to_thread(own_server.restart)
            outcomes["restart"] += 1

    async with opened(options_for(own_server)) as client:
        await client.add(PARENT, DOMAIN)
        async with asyncio.timeout(240), asyncio.TaskGroup() as group:
            group.create_task(restart())
            for _ in range(AT_ONCE):
                group.create_task(work(client))
        print(dict(outcomes))
        assert outcomes["restart"] == RESTARTS
        assert outcomes["cancelled"] > 300
        assert outcomes["EntryExists"] > 300
        assert outcomes["NoSuchValue"] > 100
        assert outcomes["done"] > OPERATIONS / 3
        assert outcomes["Unavailable"] > 0
        # All slots are free, and the pool works.
        got = await asyncio.gather(*(client.get(PARENT) for _ in range(64)))
        assert all(got)
        await _until(lambda: client.open_connections == client.idle_connections)
        assert client.open_connections <= 8
        assert _sockets() <= sockets + 8
        assert threading.active_count() <= threads + 9 + 1
        before = time.process_time()
        await asyncio.sleep(1)
        assert time.process_time() - before < 0.1
    await _until(lambda: threading.active_count() <= threads + 1)
    assert _sockets() <= sockets


async def _longest_stall(client: Directory, requests: int = 12) -> float:
    """Call a server that cannot be reached; return how long the event loop was blocked."""
    async with Heartbeat() as heart:
        answers = await asyncio.gather(
            *(client.get(PARENT) for _ in range(requests)), return_exceptions=True
        )
    assert all(isinstance(answer, Unavailable) for answer in answers), answers
    return heart.longest


@pytest.mark.parametrize("kind", ["silent", "dropped", "refused"])
async def test_unreachable_server_does_not_stall_the_loop(
    kind: str, own_server: OpenldapServer, request: pytest.FixtureRequest
) -> None:
    port = 1 if kind == "refused" else request.getfixturevalue(f"{kind}_port")
    options = options_for(
        own_server, uris=(f"ldap://127.0.0.1:{port}",), connect_timeout=0.6, pool_timeout=5.0
    )
    sockets = _sockets()
    stalls = []
    for _ in range(3):  # other processes may take the processors for a moment
        async with opened(options) as client:
            started = time.monotonic()
            stalls.append(await _longest_stall(client))
            assert time.monotonic() - started < 5
            assert client.open_connections == 0
        assert _sockets() <= sockets
        if stalls[-1] < 0.1:
            return
    raise AssertionError(stalls)


async def test_frozen_server_neither_stalls_nor_burns(own_server: OpenldapServer) -> None:
    options = options_for(own_server, timeout=1.0, connect_timeout=1.0)
    stalls = []
    async with opened(options) as client:
        for _ in range(3):  # as above
            assert await client.get(BASE)
            await freeze(own_server)
            try:
                before, started = time.process_time(), time.monotonic()
                stalls.append(await _longest_stall(client))
                waited = time.monotonic() - started
                burnt = time.process_time() - before
            finally:
                own_server.thaw()
            assert waited < 12
            # A thread that polls would use all of it; slow machines use 0.3.
            assert burnt / waited < 0.5, (burnt, waited)
            assert await client.get(BASE)
            if stalls[-1] < 0.1:
                return
    raise AssertionError(stalls)


async def test_timed_out_write_is_uncertain(own_server: OpenldapServer) -> None:
    unit = {"objectClass": ["organizationalUnit"], "ou": ["x"]}
    async with opened(replace(options_for(own_server), timeout=0.5, connect_timeout=0.5)) as client:
        assert await client.get(BASE)
        await freeze(own_server)
        try:
            with pytest.raises(Unavailable) as sent:
                await client.add(f"ou=x,{BASE}", unit)
            with pytest.raises(Unavailable) as never_sent:
                await client.add(f"ou=x,{BASE}", unit)
        finally:
            own_server.thaw()
        assert sent.value.uncertain
        assert not never_sent.value.uncertain
        assert client.open_connections == 0
        # The server had it in its queue all the same.
        assert await client.get(f"ou=x,{BASE}")
