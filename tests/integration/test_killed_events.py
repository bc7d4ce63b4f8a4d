"""Events while replicas and database servers are killed: no acknowledged change is left out.

Each comes under one id, and those of an account in the order in which they were acknowledged.
``make torture`` kills ``EVENT_KILLS`` times on each storage; without it a few times, on one.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from iredapi.domain.passwords import hash_password
from iredapi.runtime.startup import open_state
from tests.clients import PASSWORD, ROOT, settings_for
from tests.integration.test_idempotent_replicas import Replica
from tests.integration.test_torture import storage
from tests.servers.api import add_root
from tests.servers.process import ServerError
from tests.servers.store import ALL_STORES, Store

FULL: Final = "EVENT_KILLS" in os.environ
KILLS: Final = int(os.environ.get("EVENT_KILLS", "3"))
PAUSES: Final = (1.0, 5.0) if FULL else (0.5, 1.5)
"""Seconds between two kills."""
EACH: Final = 3
"""Each of so many kills is one of the database server."""
WRITERS: Final = 6
TIMEOUT: Final = 2
"""Seconds; an event of a dead process is due after twice that and five."""
DUE: Final = 2 * TIMEOUT + 5 + 5
HASH: Final = hash_password(PASSWORD)
GONE: Final = {"POST": "ALREADY_EXISTS", "DELETE": "NO_SUCH_ACCOUNT"}
"""What says that an earlier try was carried out."""


@dataclass
class Writer:
    """Changes accounts of its own one after the other, each through any replica."""

    number: int
    replicas: list[Replica]
    stopped: asyncio.Event
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    """Account and request id, in order."""
    made: list[tuple[str, list[str]]] = field(default_factory=list)
    """Account, and the ids of requests one of which has made a change."""
    tries: int = 0

    async def send(self, kind: str, method: str, name: str, form: Callable[[int], Any]) -> None:
        """Send a change until it is acknowledged; each try has a value and an id of its own."""
        mail, before = f"{name}@w{self.number}.test", list[str]()
        end = time.monotonic() + 180
        while time.monotonic() < end:
            self.tries += 1
            request_id = f"w{self.number}-{self.tries:06}"
            answer = await self.replicas[self.tries % len(self.replicas)].send(
                method,
                f"{kind}/{mail}",
                data=form(self.tries),
                headers={"X-Request-Id": request_id},
            )
            if answer is not None and answer.status_code == 200:
                self.acknowledged.append((mail, request_id))
                return
            if answer is not None and answer.json()["_msg"] == GONE.get(method) and before:
                self.made.append((mail, before))
                return
            if answer is not None and answer.json()["_msg"] != "CHANGED_MEANWHILE":
                assert answer.status_code == 503, (method, mail, answer.text)
            before.append(request_id)
            await asyncio.sleep(0.05)
        raise AssertionError(f"no answer: {method} {mail}")

    async def run(self) -> None:
        lives = 0
        while not self.stopped.is_set():
            lives += 1
            user, alias = f"u{lives}", f"a{lives}"
            await self.send("user", "POST", user, lambda _: {"password_hash": HASH})
            await self.send("alias", "POST", alias, lambda _: {"name": "A"})
            for _ in range(6):
                await self.send("user", "PUT", user, lambda n: {"name": f"N{n}"})
                await self.send("user", "PUT", user, lambda n: {"addForwarding": f"f{n}@far.org"})
                await self.send("alias", "PUT", alias, lambda n: {"addMember": f"m{n}@far.org"})
            await self.send("user", "DELETE", user, lambda _: None)
            await self.send("alias", "DELETE", alias, lambda _: None)


class Consumer:
    """Reads events from any replica that answers."""

    def __init__(self, replicas: list[Replica]) -> None:
        self._replicas = replicas
        self.after = "latest"
        self.events: list[dict[str, Any]] = []
        self._turn = 0

    async def read(self, wait: int = 0) -> int:
        """Read the next events; return how many; -1: there was no answer."""
        self._turn += 1
        answer = await self._replicas[self._turn % len(self._replicas)].send(
            "GET", "events", params={"after": self.after, "wait": str(wait), "limit": "500"}
        )
        if answer is None or answer.status_code == 503:
            await asyncio.sleep(0.1)
            return -1
        assert answer.status_code == 200, answer.text
        found = answer.json()
        self.events += found["_data"]
        self.after = found["_next"]
        return len(found["_data"])

    async def run(self) -> None:
        while True:
            await self.read(wait=2)


async def start(replica: Replica) -> None:
    """Start a replica as a supervisor does: again, if a database was not there."""
    for _ in range(10):
        try:
            await replica.start()
        except ServerError:
            await asyncio.sleep(1)
        else:
            return
    raise AssertionError("It does not start.")


async def torment(replicas: list[Replica], restart: Callable[[], None] | None) -> Counter[str]:
    chance, done = random.Random(1), Counter[str]()
    for kill in range(1, KILLS + 1):
        await asyncio.sleep(chance.uniform(*PAUSES))
        if restart is not None and kill % EACH == 0:
            await asyncio.to_thread(restart)
            done["database"] += 1
            continue
        replica = chance.choice(replicas)
        await replica.kill()
        await start(replica)
        done["service"] += 1
    return done


def check(writers: list[Writer], events: list[dict[str, Any]]) -> str:
    """Compare what was acknowledged with the events; return the figures."""
    of_request: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        of_request.setdefault(event["request_id"], []).append(event)
    for request_id, found in of_request.items():
        if request_id.startswith("w"):
            assert len({event["id"] for event in found}) == 1, found
            assert len({(event["kind"], event["account"]) for event in found}) == 1, found
    number = 0
    for writer in writers:
        missing = [one for one in writer.acknowledged if one[1] not in of_request]
        assert not missing, missing
        for mail, tries in writer.made:
            assert any(request_id in of_request for request_id in tries), (mail, tries)
        first: dict[str, int] = {}
        for place, event in enumerate(events):
            first.setdefault(event["request_id"], place)
        last: dict[str, int] = {}
        for mail, request_id in writer.acknowledged:
            assert first[request_id] > last.get(mail, -1), (mail, request_id)
            assert of_request[request_id][0]["account"] == mail
            last[mail] = first[request_id]
            number += 1
    repeats = len(events) - len({event["id"] for event in events})
    unconfirmed = sum("unconfirmed" in event for event in events)
    return (
        f"{number} acknowledged changes, {len(events)} events, {unconfirmed} of them unconfirmed, "
        f"{repeats} repeated"
    )


@pytest.mark.parametrize("name", ALL_STORES if FULL else ("postgresql",))
async def test_no_acknowledged_change_is_left_out(name: str, tmp_path: Path) -> None:
    async with storage(name) as (store, restart):
        await add_root(store)
        given = {"IREDAPI_EVENTS": "yes", "IREDAPI_REQUEST_TIMEOUT": str(TIMEOUT)}
        number = 1 if name == "sqlite" else 2
        replicas = [Replica(store, tmp_path / f"r{n}", **given) for n in range(number)]
        try:
            await observed(store, replicas, restart)
        finally:
            for replica in replicas:
                if replica.api is not None:
                    replica.api.stop()


async def observed(
    store: Store, replicas: list[Replica], restart: Callable[[], None] | None
) -> None:
    for replica in replicas:
        await replica.start()
    login = await replicas[0].send("POST", "login", data={"username": ROOT, "password": PASSWORD})
    assert login is not None
    for replica in replicas:
        replica.cookies = dict(login.cookies)
    for number in range(WRITERS):
        made = await replicas[0].send("POST", f"domain/w{number}.test")
        assert made is not None
        assert made.status_code == 200, made.text
    consumer, stopped = Consumer(replicas), asyncio.Event()
    while await consumer.read() < 0:
        pass
    writers = [Writer(number, replicas, stopped) for number in range(WRITERS)]
    reading = asyncio.ensure_future(consumer.run())
    writing = [asyncio.ensure_future(writer.run()) for writer in writers]
    try:
        kills = await torment(replicas, restart)
        stopped.set()
        await asyncio.gather(*writing)
    finally:
        reading.cancel()
        for task in writing:
            task.cancel()
    await asyncio.wait([reading])
    end = time.monotonic() + DUE
    while time.monotonic() < end or await consumer.read() != 0:
        await consumer.read(wait=1)
    state = await open_state(settings_for(store))
    try:
        assert await state.events.pending() == (0, 0.0)
    finally:
        await state.close()
    print(f"\n{store.name}: kills {dict(kills)}: {check(writers, consumer.events)}")
