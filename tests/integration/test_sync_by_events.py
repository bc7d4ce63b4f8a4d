"""A client that lives on events alone has what a full export has, after random changes.

They are sent to two replicas at once. ``make torture`` sends ``SYNC_CHANGES`` of them (10,000).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.contract import random_calls
from tests.servers.api import add_root, running_on
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import ALL_STORES, Store
from tests.sync_client import SyncClient, different, keyed

CHANGES: Final = int(os.environ.get("SYNC_CHANGES", "300"))
SEED: Final = os.environ.get("SYNC_SEED", "1")
WRITERS: Final = 4
AFRESH: Final = 60
"""After so many calls what the calls are about is made again, if it is gone."""
pytestmark = pytest.mark.stores(*ALL_STORES)


def client_of(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"{address}/api/", timeout=120, trust_env=False)


@asynccontextmanager
async def replicas(store: Store, **given: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two replicas, or the one that SQLite allows; each with a client that is logged in."""
    await add_root(store)
    spool = temporary_directory("spool")
    (spool / "mlmmj").mkdir(mode=0o700)
    settings = {
        "IREDAPI_EVENTS": "yes",
        "IREDAPI_WORKERS": "1",
        "IREDAPI_MLMMJ_SPOOL": f"{spool}/mlmmj",
        "IREDAPI_MLMMJ_SMTP_PORT": "1",
        **given,
    }
    async with AsyncExitStack() as stack:
        stack.callback(remove_directory, spool)
        clients = []
        for _ in range(1 if store.name == "sqlite" else 2):
            api = stack.enter_context(running_on(store, **settings))
            clients.append(await stack.enter_async_context(client_of(api.address)))
            answer = await clients[-1].post("login", data={"username": ROOT, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
        yield clients


def getter(client: httpx.AsyncClient) -> Any:
    async def get(path: str, params: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        headers = {"Accept": "application/json"}
        answer = await client.get(path, params=params, headers=headers)
        return answer.status_code, answer.json()

    return get


async def write(clients: list[httpx.AsyncClient], seed: str, calls: int) -> Counter[int]:
    """Send random changes, each to another replica."""
    done: Counter[int] = Counter()
    for number, (_, step) in enumerate(random_calls.of(seed, calls)):
        client = clients[number % len(clients)]
        if number % AFRESH == 0:
            for made in random_calls.BEFORE:
                await client.request(made.method, made.path, data=made.form or None)
        answer = await client.request(step.method, step.path, data=step.form or None)
        assert answer.status_code < 500 or answer.status_code == 501, (step, answer.text)
        done[answer.status_code] += 1
    return done


async def test_a_copy_by_events(store: Store) -> None:
    async with replicas(store) as clients:
        for made in random_calls.BEFORE:
            await clients[0].request(made.method, made.path, data=made.form or None)
        begun = time.monotonic()
        more = ("alias", "user") if store.name == "openldap" else ("alias",)
        sync = SyncClient(getter(clients[-1]), more)
        await sync.begin()
        assert len(sync.copy) > len(random_calls.BEFORE)
        writers = [
            asyncio.ensure_future(write(clients, f"{SEED} {number}", CHANGES // WRITERS))
            for number in range(WRITERS)
        ]
        try:
            while not all(writer.done() for writer in writers):
                await sync.follow(wait=1)
        finally:
            for writer in writers:
                writer.cancel()
        done = sum((writer.result() for writer in writers), Counter[int]())
        while await sync.follow(wait=2):
            pass
        _, whole = await getter(clients[0])("export", {})
        told = different(sync.copy, keyed(whole["_data"]))
        assert not told, "\n".join(told)
        print(
            f"\n{store.name}: {dict(done)} in {time.monotonic() - begun:.0f} s, "
            f"{len(sync.seen)} events, {len(sync.copy)} records are the same"
        )
        assert len(sync.seen) > CHANGES // 10
        ids = Counter(event["id"] for event in sync.seen)
        assert max(ids.values()) == 1, ids.most_common(3)
