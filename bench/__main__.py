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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from bench import against, directory, seed
from bench.drive import CONNECTIONS, Failed, Request, wrk
from bench.measurements import Pair, bulk, during_logins, long, small
from bench.plan import MIB, MILLION, QUICK, SMALL, SMALL_ONES, USUAL, Plan, show
from bench.programs import Memory, bare, login, service
from bench.prometheus import size_of, watched
from bench.scaling import scaling
from bench.seed import Size
from tests.servers import mariadb, openldap, postgresql
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import remove_directory, temporary_directory
from tests.servers.store import Store, create_sqlite

KINDS = ["postgresql", "mariadb", "sqlite", "openldap"]


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
            for part in (small, long, bulk, during_logins):
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
            scaling(plan, store)
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


async def scale(plan: Plan, kinds: list[str]) -> None:
    """Compare 1, 2 and 4 worker processes on each kind of SQL server."""
    for kind in kinds:
        if kind in {"postgresql", "mariadb"}:
            async with databases(kind) as make:
                store = await make("a")
                await seed.fill(store, plan.size)
                print(f"\n{kind}: {plan.size.users + plan.size.big:,} users", flush=True)
                show("", "workers", "one worker", None, "ratio")
                scaling(plan, store)
                await store.close()


async def watch(plan: Plan, kinds: list[str]) -> None:
    """Compare what Prometheus counts with the driver, on each kind of SQL server."""
    for kind in kinds:
        if kind in {"postgresql", "mariadb"}:
            async with databases(kind) as make:
                store = await make("a")
                await seed.fill(store, size_of(plan))
                print(f"\n{kind}: {size_of(plan).domains:,} domains")
                watched(plan, store)
                await store.close()


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
    parser.add_argument("--scaling", action="store_true", help="1, 2 and 4 worker processes only")
    parser.add_argument(
        "--prometheus", action="store_true", help="only rates as Prometheus sees two workers"
    )
    parser.add_argument("stores", nargs="*", default=KINDS)
    given = parser.parse_args()
    plan = QUICK if given.quick else USUAL
    if given.full:
        plan = Plan(plan.size, plan.seconds, plan.rounds, plan.long_rounds, full=True)
    plan = replace(plan, against=given.against)
    chosen = watch if given.prometheus else scale if given.scaling else measure
    asyncio.run(chosen(plan, given.stores))


if __name__ == "__main__":
    main()
