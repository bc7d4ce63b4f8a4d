"""One proof for all clusters: acknowledged changes while servers are killed, and what is left.

``CLUSTER_CHANGES`` is how many changes are acknowledged at least, ``CLUSTER_FAULTS`` how often a
server is killed at least; without them a short run. ``make cluster-test`` gives 2,000 and 5.
``CLUSTER_REPORT`` is a file to which each run adds one line of JSON, also one that fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from iredapi.runtime.startup import open_state
from tests.clients import settings_for
from tests.cluster import facts
from tests.cluster.changes import HASH
from tests.cluster.outages import LONGER, Outage, Probes, Writer, through
from tests.cluster.recorder import Recorder
from tests.integration.test_doctor import examine
from tests.servers.api import add_root, found_on_this_host, running, urls_of
from tests.servers.process import temporary_directory
from tests.servers.store import Store

CHANGES: Final = int(os.environ.get("CLUSTER_CHANGES", "200"))
FULL: Final = "CLUSTER_CHANGES" in os.environ
FAULTS: Final = int(os.environ.get("CLUSTER_FAULTS", "2"))
QUIET: Final = (2.0, 8.0)
"""Seconds between the end of one fault and the next."""


class Cluster(Protocol):
    """Servers of which one may be killed at any time."""

    @property
    def store(self) -> Store:
        """The databases, on whichever server answers."""
        ...

    async def kill_one(self, random_: random.Random) -> str:
        """Kill a server; returns what it was. Called when the one before is back."""
        ...

    async def bring_back(self) -> None:
        """Start what was killed, and return when it may be needed."""
        ...

    async def bare_write(self) -> bool:
        """Write with nothing but the driver, on a connection of its own."""
        ...

    async def settle(self) -> list[str]:
        """Wait until all servers have everything; returns where they differ."""
        ...


@dataclass
class Proof:
    """What has happened."""

    recorder: Recorder
    outages: list[Outage] = field(default_factory=list)
    servers: dict[str, Any] = field(default_factory=dict)
    """As ``/readyz?verbose`` shows them before the first fault."""
    wrong: list[str] | None = None
    """What is not as it was acknowledged; None: not compared."""
    doctor: list[str] | None = None
    """What the doctor finds; None: not asked."""
    unsure: int = 0
    """How many bundles ended with an unclear answer."""
    between: list[str] = field(default_factory=list)
    """The kinds of those of which only the policies were changed, until they were repeated."""
    ended: str = "completed"

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        longer = [outage.longer for outage in self.outages]
        wrong = self.wrong or []
        return {
            "test": os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)"),
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
            "ended": self.ended,
            "compared": self.wrong is not None,
            **self.recorder.figures.to_dict(),
            "bundles": len(self.recorder.bundles),
            "ended_unclear": self.unsure,
            "only_policies_changed": self.between,
            "faults": len(self.outages),
            "lost": sum(each.startswith(facts.LOST) for each in wrong),
            "half_made": sum(each.startswith(facts.HALF_MADE) for each in wrong),
            "wrong": len(wrong),
            "wrong_details": wrong[:20],
            "doctor": self.doctor,
            "longer_max": round(max(longer, default=0.0), 2),
            "longer_median": round(statistics.median(longer or [0.0]), 2),
            "longer_over_limit": sum(each > LONGER for each in longer),
            "outages": [asdict(outage) for outage in self.outages],
            "servers": self.servers,
            "load": os.getloadavg(),
            "processors": os.cpu_count(),
        }

    def report(self) -> None:
        """Add a line to the file that ``CLUSTER_REPORT`` names."""
        if name := os.environ.get("CLUSTER_REPORT"):
            with Path(name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.to_dict(), default=str) + "\n")

    def note(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Remember why a run did not come to its end."""
        if error is not None:
            self.ended = repr(error)[:2000]

    def check_outages(self) -> None:
        """Assert that clients did not wait much longer than the engine took.

        In a short run, which shares its processors with other tests, that is the median.
        """
        longer = [outage.longer for outage in self.outages]
        assert statistics.median(longer) <= LONGER, longer
        assert not FULL or max(longer) <= LONGER, longer

    def __str__(self) -> str:
        """Return the figures."""
        return "\n".join(
            [
                str(self.recorder.figures),
                f"{len(self.recorder.bundles)} bundles, {self.unsure} ended with an unclear answer",
                f"only policies were changed, until it was repeated: {self.between}",
                f"{len(self.outages)} faults:",
                *map(str, self.outages),
            ]
        )


async def prove(
    cluster: Cluster,
    *,
    settings: Mapping[str, str] | None = None,
    services: int = 2,
    stores: Sequence[Store] = (),
    late: bool = False,
    seed: int = 1,
) -> Proof:
    """Run services on a cluster, record changes, kill servers, compare everything at the end.

    ``stores``: as each service shall see the databases; without them all see ``cluster.store``.
    """
    store = cluster.store
    await add_root(store)
    async with AsyncExitStack() as stack:
        apis = [
            stack.enter_context(running(_environment(own, settings or {})))
            for own in stores or [store] * services
        ]
        addresses = [api.address for api in apis]
        recorder = Recorder(store, addresses, changes=CHANGES, late=late, seed=seed)
        proof = Proof(recorder)
        stack.callback(proof.report)
        stack.push(proof.note)
        await recorder.prepare()
        proof.servers = await _servers(recorder)
        probes = await _probes(stack, cluster, recorder)
        work = asyncio.create_task(recorder.run())
        lines = asyncio.create_task(recorder.figures.tell(lambda: len(proof.outages)))
        try:
            await _torment(cluster, proof, probes, work, random.Random(seed))
        finally:
            lines.cancel()
            recorder.over.set()
        await work
        await _remove_probes(recorder)
        proof.wrong = await _compared(cluster, recorder)
        proof.unsure = sum(bundle.other is not None for bundle in recorder.bundles)
        proof.between = [each.change for each in recorder.bundles if each.between]
        if not proof.wrong:
            # Now without a doubt.
            await recorder.repeat()
            proof.wrong = await _compared(cluster, recorder)
        proof.doctor, status = await _doctor(store)
        print(f"\n{proof}")
    assert proof.wrong == [], "\n".join(proof.wrong[:20])
    recorder.check_answers()
    assert (proof.doctor, status) == ([], 0)
    return proof


async def _compared(cluster: Cluster, recorder: Recorder) -> list[str]:
    differences = await cluster.settle()
    await nothing_begun(recorder.store)
    return [*differences, *await recorder.faults()]


async def _servers(recorder: Recorder) -> dict[str, Any]:
    """Return which servers there are, by the names of the databases."""
    async with recorder.client(0) as client:
        answer = await client.get(f"{recorder.addresses[0]}/readyz", params={"verbose": "yes"})
        found: dict[str, Any] = answer.json()
        return found


async def _doctor(store: Store) -> tuple[list[str], int]:
    found, result = await examine(store, **found_on_this_host())
    return [f"{each.code} {each.subject} {each.detail}" for each in found], result.status


def _environment(store: Store, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "IREDAPI_DATA_DIR": str(temporary_directory("api")),
        "IREDAPI_WORKERS": "1",
        "IREDAPI_LOGIN_FAILURES": "1000000",
        **urls_of(store),
        **settings,
    }


async def _torment(
    cluster: Cluster,
    proof: Proof,
    probes: Probes,
    work: asyncio.Task[None],
    random_: random.Random,
) -> None:
    """Kill one server after the other until enough has happened, and write beside the clients."""
    writers = (probes.bare, *probes.clients)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(writer.run()) for writer in writers]
        try:
            await _kill(cluster, proof, probes, work, random_)
        finally:
            for writer, task in zip(writers, tasks, strict=True):
                writer.over = True
                task.cancel()


async def _kill(
    cluster: Cluster,
    proof: Proof,
    probes: Probes,
    work: asyncio.Task[None],
    random_: random.Random,
) -> None:
    while len(proof.outages) < FAULTS or not proof.recorder.acknowledged_enough():
        pause = time.monotonic() + random_.uniform(*QUIET)
        while time.monotonic() < pause:
            await asyncio.sleep(0.1)
            if work.done():
                await work
        if len(proof.outages) >= FAULTS and proof.recorder.acknowledged_enough():
            break
        what = await cluster.kill_one(random_)
        moment = time.monotonic()
        back = asyncio.create_task(cluster.bring_back())
        proof.outages.append(await probes.measure(what, moment))
        print(f"after {proof.recorder.figures.total} changes:", proof.outages[-1], flush=True)
        await back


async def _probes(stack: AsyncExitStack, cluster: Cluster, recorder: Recorder) -> Probes:
    """A user for each service, in a domain that nobody else locks, with many names."""
    clients = []
    for number in range(len(recorder.addresses)):
        client = await stack.enter_async_context(recorder.client(number))
        domain = f"probe{number}.test"
        path = f"user/u@{domain}"
        for request, form in ((f"domain/{domain}", {}), (path, {"password_hash": HASH})):
            answer = await client.post(request, data=form)
            assert answer.status_code == 200, answer.text
        clients.append(Writer(f"service {number}", through(client, path)))

    async def bare() -> str:
        return "" if await cluster.bare_write() else "not written"

    return Probes(Writer("driver", bare), clients)


async def _remove_probes(recorder: Recorder) -> None:
    """They are no accounts of the recorder: only their removed mailboxes stay."""
    async with recorder.client(0) as client:
        for number in range(len(recorder.addresses)):
            answer = await client.delete(f"domain/probe{number}.test")
            assert answer.status_code == 200, answer.text
            recorder.allow_removed(f"u@probe{number}.test")


async def nothing_begun(store: Store) -> None:
    """Wait until services have taken back what was cut off: they look every 15 seconds."""
    state = await open_state(settings_for(store))
    try:
        for _ in range(60):
            if not await state.journal.open():
                return
            await asyncio.sleep(1)
        raise AssertionError(await state.journal.open())
    finally:
        await state.connections.close()
