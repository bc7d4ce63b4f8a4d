"""Measure searches of texts in a million mailboxes; on OpenLDAP there are 200,000.

``python -m bench.search [postgresql mariadb sqlite openldap]``
"""

from __future__ import annotations

import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import orjson

from bench import directory, seed
from bench.__main__ import KINDS, databases
from bench.programs import login, service
from bench.seed import Size
from tests.servers import mariadb
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.store import Store

MILLION: Final = Size(domains=1000, users=1_000_000, big=0)
LDAP: Final = Size(domains=1000, users=200_000, big=0)
TEXTS: Final = (
    "u123456@", "no-such-text", "bench.test", "%", "%%", "__", "**", "\\\\", "((", "a*(%_\\",
    "a\0b", "a",
)  # fmt: skip


def _ask(address: str, path: str, cookie: str) -> tuple[float, int, int]:
    """Return seconds, status, and number of results."""
    request = urllib.request.Request(f"{address}{path}", headers={"Cookie": cookie})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    begun = time.perf_counter()
    try:
        with opener.open(request, timeout=600) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    seconds = time.perf_counter() - begun
    return seconds, status, len(orjson.loads(body).get("_data") or ())


def show(store: Store, size: Size) -> None:
    """Print the slower one of two times of each search."""
    print(f"\n{store.name}: {size.users:,} mailboxes", flush=True)
    with service(store, IREDAPI_REQUEST_TIMEOUT="300") as process:
        cookie = login(process.address, seed.ADMIN, seed.PASSWORD)
        for path in ("/api/search?q=", "/api/users?limit=100&search=",
                     "/api/users/d1.bench.test?limit=100&search="):  # fmt: skip
            for text in TEXTS:
                tries = [_ask(process.address, path + quote(text), cookie) for _ in range(2)]
                seconds, status, found = max(tries)
                print(f"{path:45} {text!r:16} {status} {found:4} results {seconds:7.3f} s")
        sys.stdout.flush()


async def main(kinds: Sequence[str]) -> None:
    """Measure these storages, one after the other."""
    for kind in kinds:
        if kind == "openldap":
            beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer()
            try:
                store = await beside.create_store("ldap", server)
                await directory.fill(store, LDAP)
                await asyncio.to_thread(show, store, LDAP)
                await store.close()
            finally:
                server.stop()
                beside.stop()
            continue
        async with databases(kind) as make:
            store = await make("s")
            await seed.fill(store, MILLION)
            await asyncio.to_thread(show, store, MILLION)
            await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or KINDS))
