"""How fast the service is, as a share of what a bare program reaches in the same run.

``make bench`` starts each database and the service as a user would, and beside it a bare ASGI
program on the same databases (``bench/bare``). Both are driven in turn, round by round, so that a
noisy machine is noisy for both. ``docs/performance.md`` explains the figures.

``QUICK=1`` takes less than three minutes and is for a first look, ``FULL=1`` adds a million
mailboxes. It measures; it fails nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import quote

from bench import against, directory, seed
from bench.drive import CONNECTIONS, Failed, Prober, Rate, Request, batch, transfer, wrk
from bench.programs import Memory, bare, login, service
from bench.seed import BIG, Size
from tests.servers import mariadb, openldap, postgresql
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import Store, create_sqlite

MIB = 1024 * 1024
KINDS = ["postgresql", "mariadb", "sqlite", "openldap"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    size: Size
    seconds: int
    rounds: int
    long_rounds: int
    full: bool = False
    against: str = ""
    """A revision to compare with instead of the bare program."""


QUICK = Plan(Size(20, 2_000, 5_000), seconds=1, rounds=1, long_rounds=1)
USUAL = Plan(Size(100, 10_000, 100_000), seconds=2, rounds=5, long_rounds=3)
SMALL = Size(10, 1_000, 1)
MILLION = Size(10_000, 1_000_000, 1)

_FORM = f"username={quote(seed.ADMIN)}&password={seed.PASSWORD}"
_NEW = f"password={seed.PASSWORD}&name=New"
READ_USER = Request("GET", "/user/u#n@d#d.bench.test")
CREATE_USER = Request("POST", "/user/new#i@d#d.bench.test", _NEW)
UPDATE_USER = Request("PUT", "/user/u#n@d#d.bench.test", "name=Name #i")
SMALL_ONES = {
    "read one user": READ_USER,
    "read one domain": Request("GET", "/domain/d#d.bench.test"),
    "create user": CREATE_USER,
    "update one parameter": UPDATE_USER,
    "read a wblist": Request("GET", "/wblist/inbound/whitelist/d7.bench.test"),
    "login": Request("POST", "/login", _FORM),
}
LONG_ONES = {
    "list names": (Request("GET", f"/users/{BIG}?email_only=yes"), f"/names/{BIG}"),
    "list full profiles": (Request("GET", f"/users/{BIG}"), f"/users/{BIG}"),
}


def show(name: str, own: str, limit: str, ratio: float | None, more: str = "") -> None:
    """Print one line of the table."""
    share = "" if ratio is None else f"{ratio:.2f}"
    print(f"  {name:<34}{own:>12}{limit:>12}{share:>8}  {more}", flush=True)


@asynccontextmanager
async def databases(kind: str) -> AsyncIterator[Callable[[str], Awaitable[Store]]]:
    """Start a database server with durable commits; gives what makes a set of databases."""
    if kind == "sqlite":
        directory = temporary_directory("bench-db")

        async def make(suffix: str) -> Store:
            place = directory / suffix
            place.mkdir()
            return await create_sqlite(place)

        try:
            yield make
        finally:
            remove_directory(directory)
        return
    server: PostgresqlServer | MariadbServer
    if kind == "postgresql":
        server = PostgresqlServer(postgresql.DURABLE)
    else:
        server = MariadbServer(mariadb.DURABLE)
    try:
        yield server.create_store
    finally:
        server.stop()


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
    """Measure what takes milliseconds: requests per second over parallel connections."""
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
    """Measure what changes many rows, and how long a small read takes meanwhile."""
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
    """A percentile of values; the largest one when they are few."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def crowded(pair: Pair) -> None:
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


async def on(kind: str, plan: Plan) -> None:
    """Measure everything on one kind of database."""
    async with databases(kind) as make:
        store = await make("a")
        started = time.perf_counter()
        await seed.fill(store, plan.size)
        seconds = time.perf_counter() - started
        users = plan.size.users + plan.size.big
        print(f"\n{kind}: {users:,} users (seeded in {seconds:.0f} s)", flush=True)
        show("", "service", "bare", None)
        with service(store) as process, bare(store) as limit:
            cookie = login(process.address, seed.ADMIN, seed.PASSWORD)
            memory = Memory(process.pid)
            pair = Pair(plan, store, process.address, cookie, limit, memory)
            idle = memory.now()
            for part in (small, long, bulk, crowded):
                try:
                    found = part(pair)
                    if found is not None:
                        await found
                except Failed as error:
                    print(f"  failed: {error}", flush=True)
            show(
                "memory", f"{idle / MIB:.0f} MiB", "", None, f"in the end {memory.now() / MIB:.0f}"
            )
        if kind == "postgresql":
            two_workers(plan, store)
        await store.close()


async def on_openldap(plan: Plan) -> None:
    """Measure reading, creating and listing users in OpenLDAP, with a tenth of the users."""
    size = Size(plan.size.domains, plan.size.users // 10, plan.size.big // 10)
    beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer(sync=True)
    try:
        store = await beside.create_store("ldap", server)
        started = time.perf_counter()
        await directory.fill(store, size)
        seconds = time.perf_counter() - started
        print(
            f"\nopenldap: {size.users + size.big:,} users (seeded in {seconds:.0f} s)", flush=True
        )
        show("", "service", "bare", None)
        with service(store) as process, bare(store) as limit:
            cookie = login(process.address, seed.ADMIN, seed.PASSWORD)
            memory = Memory(process.pid)
            # A write is synchronised to the disk, entry by entry.
            plan = replace(plan, size=size, seconds=plan.seconds + 1)
            pair = Pair(plan, store, process.address, cookie, limit, memory)
            for part in (partial(small, names=("read one user", "create user")), long):
                try:
                    part(pair)
                except Failed as error:
                    print(f"  failed: {error}", flush=True)
        await store.close()
    finally:
        server.stop()
        beside.stop()


def two_workers(plan: Plan, store: Store) -> None:
    """Measure what a second worker adds."""
    with service(store) as one, service(store, workers=2) as two:
        cookie = login(one.address, seed.ADMIN, seed.PASSWORD)  # valid for both
        rounds = [
            [
                wrk(
                    program.address, Request("GET", f"/api{READ_USER.path}"), cookie=cookie,
                    seconds=plan.seconds, users=plan.size.users, domains=plan.size.domains,
                ).per_second
                for program in (two, one)
            ]
            for _ in range(plan.rounds)
        ]  # fmt: skip
    own, top = (statistics.median(column) for column in zip(*rounds, strict=True))
    show("read one user: 2 workers and 1", f"{own:.0f}/s", f"{top:.0f}/s", own / top)


async def million(kind: str, plan: Plan) -> None:
    """Compare the costs with a million mailboxes and with a thousand."""
    async with databases(kind) as make:
        stores = [(await make("m"), MILLION), (await make("k"), SMALL)]
        started = time.perf_counter()
        for store, size in stores:
            await seed.fill(store, size)
        seconds = time.perf_counter() - started
        print(f"\n{kind}: a million mailboxes (seeded in {seconds:.0f} s)", flush=True)
        show("", "1,000,000", "1,000", None, "times the cost")
        with service(stores[0][0]) as many, service(stores[1][0]) as few:
            for name in ("read one user", "create user", "update one parameter"):
                request = SMALL_ONES[name]
                pairs = []
                for number in range(plan.rounds + 1):
                    both = [
                        wrk(
                            program.address,
                            Request(request.method, f"/api{request.path}", request.body),
                            seconds=plan.seconds,
                            cookie=login(program.address, seed.ADMIN, seed.PASSWORD),
                            users=size.users,
                            domains=size.domains,
                        ).per_second
                        for program, (_, size) in zip((many, few), stores, strict=True)
                    ]
                    if number:  # the first round fills caches
                        pairs.append(both)
                own, top = (statistics.median(column) for column in zip(*pairs, strict=True))
                ratio = statistics.median(b / a for a, b in pairs)
                show(name, f"{own:.0f}/s", f"{top:.0f}/s", ratio)
        for store, _ in stores:
            await store.close()


async def on_both(kind: str, plan: Plan, source: str) -> None:
    """Compare two revisions on one kind of storage."""
    size = plan.size
    beside: MariadbServer | None = None
    async with databases("mariadb" if kind == "openldap" else kind) as make:
        if kind == "openldap":
            size = Size(size.domains, size.users // 10, size.big // 10)
            beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer(sync=True)
            store = await beside.create_store("ldap", server)
            await directory.fill(store, size)
        else:
            store = await make("a")
            await seed.fill(store, size)
        spare = await make("b")
        if kind == "sqlite":
            await seed.fill(spare, size)
        print(f"\n{kind}: {size.users + size.big:,} users", flush=True)
        names = ("read one user", "create user") if kind == "openldap" else tuple(SMALL_ONES)
        try:
            await against.compare(
                (store, spare if kind == "sqlite" else store),
                spare.state,
                source,
                size,
                {name: SMALL_ONES[name] for name in names},
                seconds=plan.seconds,
                rounds=plan.rounds,
                long_rounds=plan.long_rounds,
            )
        finally:
            await store.close()
            await spare.close()
            if beside is not None:
                server.stop()
                beside.stop()


async def measure(plan: Plan, kinds: list[str]) -> None:
    """Measure and print all tables."""
    if plan.against:
        started = time.monotonic()
        print(f"{CONNECTIONS} connections, one worker, {os.cpu_count()} cores; this tree and "
              f"{plan.against} in turn")  # fmt: skip
        with against.checked_out(plan.against) as source:
            for kind in kinds:
                await on_both(kind, plan, source)
        print(f"\n{time.monotonic() - started:.0f} s in all")
        return
    missing = {"postgresql": postgresql.missing, "mariadb": mariadb.missing}
    missing["openldap"] = lambda: openldap.missing() or mariadb.missing()
    started = time.monotonic()
    print(f"{CONNECTIONS} connections, one worker, {os.cpu_count()} cores; ratios are service/bare")
    for kind in kinds:
        if kind in missing and (reason := missing[kind]()):
            print(f"\n{kind}: {reason}")
            continue
        if kind == "openldap":
            await on_openldap(plan)
            continue
        await on(kind, plan)
        if plan.full:
            await million(kind, plan)
    print(f"\n{time.monotonic() - started:.0f} s in all")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    parser.add_argument("--full", action="store_true", default=bool(os.environ.get("FULL")))
    parser.add_argument("--against", default="", metavar="REV", help="compare with a revision")
    parser.add_argument("stores", nargs="*", default=KINDS)
    given = parser.parse_args()
    plan = QUICK if given.quick else USUAL
    if given.full:
        plan = Plan(plan.size, plan.seconds, plan.rounds, plan.long_rounds, full=True)
    asyncio.run(measure(replace(plan, against=given.against), given.stores))


if __name__ == "__main__":
    main()
