"""Webhooks while services, database servers and a receiver that fails at random are killed.

Every acknowledged change arrives, none under two ids, and those of one account in their order.
``make torture`` kills ``WEBHOOK_KILLS`` times on every storage; without it a few times, on one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.integration.test_idempotent_replicas import Replica
from tests.integration.test_torture import storage
from tests.servers.api import add_root
from tests.servers.process import ServerError, free_port
from tests.servers.store import ALL_STORES
from tests.servers.webhook_receiver import ReceiverProcess

FULL: Final = "WEBHOOK_KILLS" in os.environ
KILLS: Final = int(os.environ.get("WEBHOOK_KILLS", "3"))
PAUSE: Final = (1.0, 8.0) if FULL else (0.5, 1.0)
"""Seconds between two kills: some are longer than the lease of the process that sends."""
PEOPLE: Final = 12
FAILURES: Final = 0.3 if FULL else 0.15
INTERVAL: Final = 0.5 if FULL else 0.3
"""Seconds between two changes of one of them. A receiver that fails is slow."""
ARRIVAL: Final = 900.0
"""Seconds after the last kill until everything has arrived, with leases and delays.

It is usually two minutes. The delays double, and nine failures of one event take six minutes.
"""
SETTINGS: Final = {
    "IREDAPI_EVENTS": "yes", "IREDAPI_WEBHOOK_HTTP": "yes", "IREDAPI_WEBHOOK_TIMEOUT": "1",
    "IREDAPI_WEBHOOK_NETWORKS": "127.0.0.1", "IREDAPI_REQUEST_TIMEOUT": "3",
}  # fmt: skip


class Person:
    """Somebody whose account is changed again and again, and now and then renamed.

    ``acknowledged`` has a list for each account: ids of requests, in order.
    """

    def __init__(self, number: int, replicas: list[Replica]) -> None:
        self._replicas = itertools.cycle(replicas)
        self._random = random.Random(number)
        self._number = number
        self._names = 0
        self._mail = self._new_name()
        self._there = False
        self.acknowledged: list[list[str]] = [[]]
        self.unanswered = 0

    def _new_name(self) -> str:
        self._names += 1
        return f"p{self._number}-{self._names}@ex.com"

    async def _send(self, method: str, path: str, **form: str) -> httpx.Response | None:
        """Return an answer that tells what has happened; None: there is none."""
        answer = await next(self._replicas).send(method, path, data=form or None)
        if answer is None or answer.status_code in {429, 503}:
            self.unanswered += 1
            await asyncio.sleep(0.1)
            return None
        assert answer.status_code != 500, answer.text
        if answer.status_code == 200:
            self.acknowledged[-1].append(answer.headers["x-request-id"])
        return answer

    async def change(self) -> None:
        """Make one change."""
        chance = self._random.random()
        if not self._there:
            answer = await self._send("POST", f"user/{self._mail}", password=PASSWORD)
            # An earlier request without an answer may have made it.
            self._there = answer is not None and answer.status_code in {200, 409}
        elif chance < 0.1:
            answer = await self._send("DELETE", f"user/{self._mail}")
            self._there = answer is None
        elif chance < 0.2:
            new = self._new_name()
            answer = await self._send("POST", f"user/{self._mail}/change_email/{new}")
            if answer is not None and answer.status_code == 200:
                self._mail = new
            else:
                # It is at one of both addresses: another account goes on.
                self._mail, self._there = self._new_name(), False
                self.acknowledged.append([])
        else:
            answer = await self._send("PUT", f"user/{self._mail}", name=f"N{chance}")
            if answer is not None and answer.status_code == 404:
                self._there = False


class Torment:
    """Kills in turn: a replica, the receiver, the database, the other replica."""

    def __init__(
        self,
        replicas: list[Replica],
        receiver: ReceiverProcess,
        restart: Callable[[], None] | None,
    ) -> None:
        self._replicas = itertools.cycle(replicas)
        self._receiver = receiver
        self._restart = restart
        self._random = random.Random(1)
        self.kills = {"service": 0, "receiver": 0, "database": 0}

    async def run(self) -> None:
        steps = [self._service, self._receiver_]
        steps += [self._database, self._service] if self._restart is not None else []
        for _, step in zip(range(KILLS), itertools.cycle(steps), strict=False):
            await asyncio.sleep(self._random.uniform(*PAUSE))
            await step()

    async def _service(self) -> None:
        replica = next(self._replicas)
        await replica.kill()
        self.kills["service"] += 1
        for attempt in range(5):
            try:
                await replica.start()
                return
            except ServerError:
                # A database that was restarted may not be ready: a supervisor tries again.
                if attempt == 4:
                    raise
                await asyncio.sleep(1)

    async def _receiver_(self) -> None:
        self._receiver.kill()
        self.kills["receiver"] += 1
        await asyncio.sleep(self._random.uniform(0.1, 1.5))
        self._receiver.start()

    async def _database(self) -> None:
        assert self._restart is not None
        await asyncio.to_thread(self._restart)
        self.kills["database"] += 1


def check(received: list[dict[str, Any]], people: list[Person]) -> None:
    """Nothing is missing, twice, or out of order; repeats have the first one's id."""
    ids: dict[tuple[str, str, str], set[str]] = {}
    place: dict[str, int] = {}
    for number, event in enumerate(received):
        change = (event["request_id"], event["kind"], event["account"])
        ids.setdefault(change, set()).add(event["id"])
        place.setdefault(event["request_id"], number)
    assert {change: found for change, found in ids.items() if len(found) > 1} == {}
    for acknowledged in (some for person in people for some in person.acknowledged):
        assert [one for one in acknowledged if one not in place] == []
        places = [place[one] for one in acknowledged]
        assert places == sorted(places), (acknowledged, received)


@pytest.mark.parametrize("name", ALL_STORES if FULL else ("postgresql",))
async def test_every_change_arrives(name: str, tmp_path: Path) -> None:
    """Two replicas, but one on SQLite, which allows no more, and on OpenLDAP, whose locks last."""
    async with storage(name) as (store, restart):
        await add_root(store)
        receiver = ReceiverProcess(free_port(), tmp_path, seed=1, failures=FAILURES)
        given = {**SETTINGS, "IREDAPI_WEBHOOK_PORTS": str(receiver.port)}
        count = 1 if name in {"sqlite", "openldap"} else 2
        replicas = [Replica(store, tmp_path / f"r{n}", **given) for n in range(count)]
        try:
            receiver.start()
            await asyncio.gather(*(replica.start() for replica in replicas))
            form = {"username": ROOT, "password": PASSWORD}
            login = await replicas[0].send("POST", "login", data=form)
            assert login is not None
            for replica in replicas:
                replica.cookies = dict(login.cookies)
            for path, sent in (
                ("domain/ex.com", {}),
                ("webhooks", {"label": "x", "url": receiver.url, "kinds": KINDS}),
            ):
                answer = await replicas[0].send("POST", path, data=sent)
                assert answer is not None
                assert answer.status_code == 200, answer.text
            people = [Person(number, replicas) for number in range(PEOPLE)]
            torment = Torment(replicas, receiver, restart)
            over = asyncio.create_task(torment.run())

            async def work(person: Person) -> None:
                while not over.done():
                    await person.change()
                    await asyncio.sleep(INTERVAL)

            await asyncio.gather(*map(work, people))
            await over
            begun = time.monotonic()
            wanted = {one for person in people for some in person.acknowledged for one in some}
            while not wanted <= {event["request_id"] for event in receiver.received()}:
                assert time.monotonic() < begun + ARRIVAL, "not everything has arrived"
                await asyncio.sleep(0.5)
            received = receiver.received()
            check(received, people)
            different = {event["id"] for event in received}
            print(
                f"\n{name}: {len(wanted)} acknowledged changes, {len(received)} deliveries of "
                f"{len(different)} events, {sum(p.unanswered for p in people)} without an answer, "
                f"killed {torment.kills}, the last arrived {time.monotonic() - begun:.0f} s after"
            )
            assert len(wanted) > 10 * KILLS
        finally:
            receiver.kill()
            for replica in replicas:
                if replica.api is not None:
                    replica.api.stop()


KINDS: Final = "user.created,user.updated,user.deleted,user.renamed"


def test_the_check_finds_what_is_wrong() -> None:
    """Missing, twice under two ids, and out of order."""

    def event(request: str, event_id: str) -> dict[str, Any]:
        return {"request_id": request, "kind": "k", "account": "a", "id": event_id}

    person = Person(0, [])
    person.acknowledged = [["r1", "r2"]]
    good = [event("r1", "1"), event("r2", "2"), event("r1", "1")]
    check(good, [person])
    for wrong in (good[:1], [good[1], good[0]], [*good, event("r1", "3")]):
        with pytest.raises(AssertionError):
            check(wrong, [person])
