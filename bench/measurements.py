"""The measurements of one storage: the service and the bare program in turn, round by round."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from bench import seed
from bench.drive import Prober, Rate, Request, batch, transfer, wrk
from bench.plan import LONG_ONES, MIB, READ_USER, SMALL_ONES, Plan, show
from bench.programs import Memory
from tests.servers.store import Store


@dataclass(slots=True)
class Pair:
    """The two programs on one store."""

    plan: Plan
    store: Store
    address: str
    cookie: str
    bare: str
    memory: Memory

    def rate(self, request: Request, *, own: bool, seconds: int = 0) -> Rate:
        """Drive one of the two for some seconds."""
        size = self.plan.size
        path = request.path
        if not own and path.startswith("/wblist"):
            path = path.replace("/inbound/whitelist", "")
        if not own:
            path = path.replace("/new#", "/bare#")  # both create at the same time
        return wrk(
            self.address if own else self.bare,
            Request(request.method, f"/api{path}" if own else path, request.body),
            seconds=seconds or self.plan.seconds,
            cookie=self.cookie if own else "",
            users=size.users,
            domains=size.domains,
        )


def small(pair: Pair, names: Collection[str] = tuple(SMALL_ONES)) -> None:
    """Measure short requests: requests per second over parallel connections."""
    for name in names:
        request = SMALL_ONES[name]
        with ThreadPoolExecutor() as both:  # pools and caches fill
            for warm in [
                both.submit(pair.rate, request, own=own, seconds=1) for own in (True, False)
            ]:
                warm.result()
        rounds = [
            (pair.rate(request, own=True), pair.rate(request, own=False))
            for _ in range(pair.plan.rounds)
        ]
        mine = statistics.median(own.per_second for own, _ in rounds)
        top = statistics.median(limit.per_second for _, limit in rounds)
        ratio = statistics.median(own.per_second / limit.per_second for own, limit in rounds)
        show(name, f"{mine:.0f}/s", f"{top:.0f}/s", ratio)


def long(pair: Pair) -> None:
    """Measure the lists: seconds to the end, to the first byte, and memory meanwhile."""
    for name, (request, path) in LONG_ONES.items():
        mine = Request(request.method, f"/api{request.path}")
        theirs = Request("GET", path)
        transfer(pair.address, mine, pair.cookie)
        idle = pair.memory.now()
        pair.memory.forget_peak()
        rounds = [
            (transfer(pair.address, mine, pair.cookie), transfer(pair.bare, theirs))
            for _ in range(pair.plan.long_rounds)
        ]
        own = statistics.median(a.total for a, _ in rounds)
        top = statistics.median(b.total for _, b in rounds)
        ratio = statistics.median(b.total / a.total for a, b in rounds)
        first = max(a.first for a, _ in rounds)
        grown = (pair.memory.peak() - idle) / MIB
        size = rounds[0][0].size / MIB
        show(
            f"{name} ({pair.plan.size.big:,})", f"{own:.2f} s", f"{top:.2f} s", ratio,
            f"first byte {first * 1000:.0f} ms, {size:.0f} MiB, peak memory +{grown:.0f} MiB",
        )  # fmt: skip


async def bulk(pair: Pair) -> None:
    """Measure requests that change many rows, and the latency of reads meanwhile."""
    size = pair.plan.size
    probe = f"/api/user/{size.mail(1)}"
    for name, request in {
        "bulk update": Request("PUT", "/users/#", "language=de_DE"),
        "delete a domain": Request("DELETE", "/domain/#"),
    }.items():
        seconds: dict[bool, list[float]] = {True: [], False: []}
        delays: list[float] = []
        pair.memory.forget_peak()
        idle = pair.memory.now()
        for number in range(pair.plan.long_rounds):
            for own in (True, False):
                domain = f"bulk{number}-{'ours' if own else 'theirs'}.test"
                if request.method == "PUT":
                    await seed.big(pair.store, domain, size.big)
                prober = Prober(pair.address, probe, pair.cookie) if own else None
                if prober:
                    prober.start()
                prefix = "/api" if own else ""
                one = Request(
                    request.method, prefix + request.path.replace("#", domain), request.body
                )
                done = await asyncio.to_thread(
                    transfer, pair.address if own else pair.bare, one, pair.cookie
                )
                seconds[own].append(done.total)
                if prober:
                    delays += prober.stop()
        own_median, top = (statistics.median(seconds[own]) for own in (True, False))
        worst = f"reads meanwhile: p99 {percentile(delays):.0f} ms"
        grown = (pair.memory.peak() - idle) / MIB
        show(
            f"{name} ({size.big:,})", f"{own_median:.2f} s", f"{top:.2f} s", top / own_median,
            f"{worst}, peak memory +{grown:.0f} MiB",
        )  # fmt: skip


def percentile(values: list[float], share: float = 0.99) -> float:
    """Return a percentile of values; of few values the largest one."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def during_logins(pair: Pair) -> None:
    """Measure reads while 50 clients log in with BCRYPT."""
    request = Request("GET", f"/api{READ_USER.path}")

    def p99() -> float:
        return wrk(
            pair.address, request, seconds=max(pair.plan.seconds, 2), cookie=pair.cookie,
            users=pair.plan.size.users, domains=pair.plan.size.domains, connections=4,
        ).p99  # fmt: skip

    form = f"username={quote(seed.SLOW_ADMIN)}&password={seed.PASSWORD}"
    quiet, busy = [], []
    for _ in range(min(pair.plan.rounds, 3)):
        quiet.append(p99())
        with batch(pair.address, Request("POST", "/api/login", form), 50):
            busy.append(p99())
        time.sleep(1)
    own, top = statistics.median(busy), statistics.median(quiet)
    show("p99 of reads, 50 logins (BCRYPT)", f"{own:.1f} ms", f"{top:.1f} ms", own / top,
         "times the quiet value")  # fmt: skip
