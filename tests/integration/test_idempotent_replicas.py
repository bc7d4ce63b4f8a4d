"""Creations with a key, each sent three times at once to replicas that are killed meanwhile.

``make torture`` makes ``IDEMPOTENT_WRITES`` on every storage; without it a few, on two.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess, add_root, urls_of
from tests.servers.store import ALL_STORES, Store

FULL: Final = "IDEMPOTENT_WRITES" in os.environ
WRITES: Final = int(os.environ.get("IDEMPOTENT_WRITES", "24"))
KILLS: Final = max(1, WRITES // 25)
COPIES: Final = 3
AT_ONCE: Final = 8
HASH: Final = hash_password(PASSWORD)


class Replica:
    """A process that is started again on another port."""

    def __init__(self, store: Store, directory: Path, **given: str) -> None:
        directory.mkdir()
        self._given = {"IREDAPI_DATA_DIR": str(directory), **urls_of(store), **given}
        self._directory = directory
        self.cookies: dict[str, str] = {}
        self.api: ApiProcess | None = None

    async def start(self) -> None:
        self.api = await asyncio.to_thread(ApiProcess, self._given, directory=self._directory)

    async def kill(self) -> None:
        assert self.api is not None
        pid, self.api = self.api.pid, None
        os.killpg(pid, signal.SIGKILL)
        await asyncio.sleep(0.1)

    async def send(self, method: str, path: str, **sent: Any) -> httpx.Response | None:
        """Send a request; None: there is no answer."""
        if self.api is None:
            await asyncio.sleep(0.05)
            return None
        try:
            async with httpx.AsyncClient(
                base_url=f"{self.api.address}/api/",
                cookies=self.cookies,
                timeout=60,
                trust_env=False,
                verify=False,  # noqa: S501 (it speaks no TLS, and setting that up takes time)
            ) as client:
                return await client.request(method, path, **sent)
        except httpx.HTTPError:
            return None


async def first_answer(replicas: list[Replica], number: int, copy: int) -> str:
    """Send a creation until it is answered, as a client does."""
    end = time.monotonic() + 120
    headers = {"Idempotency-Key": f"user-{number}"}
    form = {"password_hash": HASH, "name": f"User {number}", "quota": "5000"}
    turn = number + copy
    while time.monotonic() < end:
        turn += 1
        replica = replicas[turn % len(replicas)]
        answer = await replica.send("POST", f"user/u{number}@ex.com", data=form, headers=headers)
        if answer is not None and answer.status_code < 500 and "Retry-After" not in answer.headers:
            return f"{answer.status_code} {answer.text}"
        await asyncio.sleep(0.05)
    raise AssertionError("no answer")


async def time_passes(store: Store) -> None:
    """What a killed process held is free; so is what a living one holds, as if it stood still."""
    await store.execute("UPDATE idempotency_keys SET lease = 0", "state")
    if store.name == "openldap":
        await store.execute("UPDATE locks SET expires = 0", "state")


@pytest.mark.stores(*(ALL_STORES if FULL else ("postgresql", "openldap")))
async def test_each_is_carried_out_once(store: Store, tmp_path: Path) -> None:
    """Two replicas, but one on SQLite, which allows no more, and on OpenLDAP, whose locks last."""
    await add_root(store)
    alone = store.name in {"sqlite", "openldap"}
    replicas = [Replica(store, tmp_path / f"r{n}") for n in range(1 if alone else 2)]
    try:
        for replica in replicas:
            await replica.start()
        form = {"username": ROOT, "password": PASSWORD}
        login = await replicas[0].send("POST", "login", data=form)
        assert login is not None
        for replica in replicas:
            replica.cookies = dict(login.cookies)
        made = await replicas[0].send("POST", "domain/ex.com", data={"maxUserQuota": "100"})
        assert made is not None
        assert made.status_code == 200
        places, answers = asyncio.Semaphore(AT_ONCE), {}
        due = [asyncio.Event() for _ in range(KILLS)]

        async def create(number: int) -> None:
            async with places:
                answers[number] = await asyncio.gather(
                    *(first_answer(replicas, number, copy) for copy in range(COPIES))
                )
                for kill in range(min(len(answers) * (KILLS + 1) // WRITES, KILLS)):
                    due[kill].set()

        async def torment() -> None:
            for kill in range(KILLS):
                await due[kill].wait()
                replica = replicas[kill % len(replicas)]
                await replica.kill()
                await time_passes(store)
                await replica.start()

        await asyncio.gather(torment(), *map(create, range(WRITES)))
        different = {n: found for n, found in answers.items() if len(set(found)) > 1}
        assert different == {}
        every = Counter(found[0] for found in answers.values())
        adjusted = '[{"param":"quota","asked":5000,"stored":100,"why":"MAX_USER_QUOTA"}]'
        assert every == {f'200 {{"_success":true,"_adjusted":{adjusted}}}': WRITES}
        listed = await replicas[0].send("GET", "users/ex.com", params={"email_only": "yes"})
        assert listed is not None
        assert listed.json()["_data"] == sorted(f"u{n}@ex.com" for n in range(WRITES))
        rows = await store.rows("SELECT username FROM log WHERE event = 'create'", "iredadmin")
        assert max(Counter(row["username"] for row in rows).values()) == 1
    finally:
        for replica in replicas:
            if replica.api is not None:
                replica.api.stop()
