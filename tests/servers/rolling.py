"""Replicas behind nginx that are restarted in turn under load."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess, add_root, running, urls_of
from tests.servers.nginx import Nginx
from tests.servers.process import free_port, remove_directory, temporary_directory
from tests.servers.store import Store

LOGIN: Final = {"username": ROOT, "password": PASSWORD}


class Load:
    """Clients that never stop; every answer that is not a success is kept."""

    def __init__(self, address: str, cookies: httpx.Cookies) -> None:
        self.address, self.cookies = address, cookies
        self.failed: list[str] = []
        self.answered = 0
        self.slowest = 0.0
        self.over = asyncio.Event()
        self.made: list[str] = []

    async def one(self, worker: int) -> None:
        async with httpx.AsyncClient(
            base_url=self.address, cookies=self.cookies, timeout=30, trust_env=False
        ) as client:
            for number in itertools.count():
                if self.over.is_set():
                    return
                name = f"w{worker}n{number}@ex.com"
                # POST is what nginx never sends a second time.
                await self.call(client, "POST", f"/api/alias/{name}")
                self.made.append(name)
                await self.call(client, "GET", "/api/domain/ex.com")
                await self.call(client, "GET", "/api/whoami")

    async def call(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        started = time.monotonic()
        try:
            response = await client.request(method, path)
        except httpx.HTTPError as error:
            self.failed.append(f"{method} {path}: {error!r}")
            return
        self.answered += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
        if response.status_code != 200:
            self.failed.append(f"{method} {path}: {response.status_code} {response.text[:200]}")


async def restarted(stack: ExitStack, replica: ApiProcess, given: dict[str, str]) -> ApiProcess:
    """Stop one as systemd does, and start it again at its port."""
    await asyncio.to_thread(replica.stop)
    return await asyncio.to_thread(stack.enter_context, running(given))


@dataclass(frozen=True)
class Turn:
    """What has happened in a turn of restarts."""

    answered: int
    failed: list[str]
    slowest: float
    """Seconds."""
    errors: str
    """What nginx complained about."""


async def restart_in_turn(
    store: Store, *, replicas: int, workers: str = "1", requests: int = 100
) -> Turn:
    """Restart each replica while clients send at least so many requests to nginx.

    Asserts that all that was acknowledged is there, that the session of before is still good, and
    that its end is one on all replicas.
    """
    await add_root(store)
    places = [free_port() for _ in range(replicas)]
    directory = temporary_directory("replicas")
    with ExitStack() as stack:
        stack.callback(remove_directory, directory)
        given = [
            urls_of(store)
            | {
                "IREDAPI_PORT": str(port),
                "IREDAPI_WORKERS": workers,
                "IREDAPI_DRAIN_SECONDS": "1",
                "IREDAPI_POOL_SIZE": "4",
                "IREDAPI_TRUSTED_PROXIES": "127.0.0.1",
                "IREDAPI_DATA_DIR": str(directory),
            }
            for port in places
        ]
        apis = [stack.enter_context(running(each)) for each in given]
        nginx = Nginx(places)
        stack.callback(nginx.stop)
        async with httpx.AsyncClient(base_url=nginx.address, trust_env=False) as client:
            assert (await client.post("/api/login", data=LOGIN)).status_code == 200
            assert (await client.post("/api/domain/ex.com")).status_code == 200
            load = Load(nginx.address, client.cookies)
            tasks = [asyncio.create_task(load.one(number)) for number in range(4)]
            await asyncio.sleep(1)
            for place in itertools.cycle(range(replicas)):
                apis[place] = await restarted(stack, apis[place], given[place])
                await asyncio.sleep(0.5)
                if place == replicas - 1 and load.answered >= requests:
                    break
            load.over.set()
            await asyncio.gather(*tasks)
            listed = await client.get("/api/aliases/ex.com", params={"email_only": "yes"})
            assert set(load.made) == set(listed.json()["_data"])
            assert (await client.get("/api/whoami")).status_code == 200
        await logout_is_everywhere(apis)
        return Turn(load.answered, load.failed, load.slowest, nginx.errors)


async def logout_is_everywhere(replicas: list[ApiProcess]) -> None:
    """Within the documented second."""
    async with httpx.AsyncClient(trust_env=False) as client:
        addresses = [replica.address for replica in replicas]
        answer = await client.post(f"{addresses[0]}/api/login", data=LOGIN)
        cookies: Any = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
        client.cookies.clear()
        for address in addresses:
            answer = await client.get(f"{address}/api/whoami", headers=cookies)
            assert answer.status_code == 200
        assert (await client.post(f"{addresses[0]}/api/logout", headers=cookies)).status_code == 200
        await asyncio.sleep(1.05)
        for address in addresses:
            answer = await client.get(f"{address}/api/whoami", headers=cookies)
            assert answer.json()["_msg"] == "LOGIN_REQUIRED"
