"""Measure the tables of usage: 1,000 domains with 100,000 users, on each kind of storage.

Beside them one request for each account, over one connection and over 16: a sample (the best of
three), and how long all accounts would take.

``python -m bench.usage [postgresql mariadb sqlite openldap]``
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from bench import directory, seed
from bench.__main__ import KINDS, databases
from bench.drive import CONNECTIONS, Request, transfer, wrk
from bench.programs import Memory, login, service
from bench.seed import Size
from tests.servers import mariadb
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.store import Store

SIZE: Final = Size(domains=1000, users=100_000, big=0)
MIB: Final = 1 << 20


async def fill(store: Store) -> None:
    """Put in domains, users, sizes and last logins."""
    if store.name == "openldap":
        await directory.fill(store, SIZE)
        numbers = f"(SELECT seq AS n FROM seq_0_to_{SIZE.users - 1}) AS t"
        mail = "CONCAT('u', n, '@d', n % 1000, '.bench.test')"
        domain = "CONCAT('d', n % 1000, '.bench.test')"
        for table, values in (("used_quota", "1000, 5"), ("last_login", "1767323045, 1")):
            columns = "bytes, messages" if table == "used_quota" else "imap, pop3"
            await store.execute(
                f"INSERT INTO {table} (username, domain, {columns})"
                f" SELECT {mail}, {domain}, {values} FROM {numbers}",
                "iredadmin",
            )
        return
    await seed.fill(store, SIZE)
    await store.execute(
        "INSERT INTO last_login (username, domain, imap, pop3)"
        " SELECT username, domain, 1767323045, 1 FROM mailbox"
    )
    await seed.analyse(store)


def show(store: Store) -> None:
    """Print what each table costs."""
    with service(store, IREDAPI_LOG_LEVEL="INFO") as process:
        cookie = login(process.address, seed.ADMIN, seed.PASSWORD)
        memory = Memory(process.pid)
        seconds = {}
        for path in ("/api/usage/d1.bench.test", "/api/usage"):
            transfer(process.address, Request("GET", path), cookie)  # warm
            best = None
            for _ in range(3):
                time.sleep(4)  # cursors of the run before are closed
                before = memory.now()
                memory.forget_peak()
                found = transfer(process.address, Request("GET", path), cookie)
                grown = (memory.peak() - before) / MIB
                if best is None or found.first < best[0].first:
                    best = (found, grown)
            assert best is not None
            found, grown = best
            seconds[path] = found.total
            trips = re.findall(rf'"path": ?"{path}".*"round_trips": ?(\d+)', process.output)
            print(
                f"{store.name:11} {path:26} first byte {found.first * 1000:6.0f} ms,"
                f" whole {found.total:5.2f} s, {found.size:,} bytes, memory +{grown:.1f} MiB,"
                f" {trips[-1]} round trips",
                flush=True,
            )
        single = Request("GET", "/api/user/u#n@d#d.bench.test?with=usage")
        for connections in (1, CONNECTIONS):
            rate = max(
                (
                    wrk(
                        process.address, single, seconds=4, cookie=cookie, users=SIZE.users,
                        domains=SIZE.domains, connections=connections,
                    )
                    for _ in range(3)
                ),
                key=lambda one: one.per_second,
            )  # fmt: skip
            whole = SIZE.users / rate.per_second
            print(
                f"{store.name:11} one by one over {connections} connections: {rate.requests:,} of"
                f" {SIZE.users:,} accounts, {rate.per_second:.0f}/s, all of them {whole:.0f} s,"
                f" {whole / seconds['/api/usage']:.0f} times as long",
                flush=True,
            )


async def main(kinds: Sequence[str]) -> None:
    """Measure these storages, one after the other."""
    for kind in kinds:
        if kind == "openldap":
            beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer()
            try:
                store = await beside.create_store("ldap", server)
                await fill(store)
                await asyncio.to_thread(show, store)
                await store.close()
            finally:
                server.stop()
                beside.stop()
            continue
        async with databases(kind) as make:
            store = await make("u")
            await fill(store)
            await asyncio.to_thread(show, store)
            await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or KINDS))
