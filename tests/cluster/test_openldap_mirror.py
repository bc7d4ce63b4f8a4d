"""Two OpenLDAP servers in mirror mode: one at a time is killed, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Final

import pytest_asyncio

from tests.cluster.proof import prove
from tests.conftest import need
from tests.servers.mariadb import KEEPS_COMMITS, SETTINGS, MariadbServer
from tests.servers.openldap import ROOT_DN, SUFFIX, OpenldapServer
from tests.servers.replication import mirror_of_two
from tests.servers.store import Store

PROBE: Final = f"cn=probe,{SUFFIX}"


class Mirror:
    """Two servers, and one MariaDB for everything else."""

    def __init__(self, servers: tuple[OpenldapServer, OpenldapServer], store: Store) -> None:
        self.servers, self.store = servers, store
        self._gone, self._other = servers
        self._pause = 0.0
        self._written = 0

    async def kill_one(self, random_: random.Random) -> str:
        """Kill either."""
        number = random_.randrange(2)
        self._gone, self._other = self.servers[number], self.servers[1 - number]
        self._pause = random_.uniform(0, 3)
        await asyncio.to_thread(self._gone.kill)
        return f"slapd {number + 1} killed, back after {self._pause:.1f} s"

    async def bring_back(self) -> None:
        """Start it again, and wait until both have what they had at the start."""
        await asyncio.sleep(self._pause)
        wanted = await asyncio.to_thread(self._other.replicated)
        await asyncio.to_thread(self._gone.resume)
        wanted |= {
            number: max(wanted.get(number, ""), last)
            for number, last in (await asyncio.to_thread(self._gone.replicated)).items()
        }
        for server in self.servers:
            await asyncio.to_thread(_wait_until, server, wanted)

    async def bare_write(self) -> bool:
        """Change an entry on the first server that answers."""
        self._written += 1
        return await asyncio.to_thread(self._write, str(self._written))

    def _write(self, value: str) -> bool:
        for server in self.servers:
            try:
                with server.connect(ROOT_DN) as connection:
                    entry = connection.search(PROBE, 0)[0]
                    entry["description"] = value
                    entry.modify()
            except Exception:  # noqa: S112 - whatever a server that was killed makes of it
                continue
            return True
        return False

    async def settle(self) -> list[str]:
        """Wait until both have all changes; return in which entries they differ."""
        first, second = self.servers
        for _ in range(200):
            if first.replicated() == second.replicated():
                break
            await asyncio.sleep(0.1)
        one, two = first.dump(), second.dump()
        wrong = [
            f"{dn}: {one.get(dn)} here, {two.get(dn)} there"
            for dn in sorted(one.keys() | two.keys())
            if one.get(dn) != two.get(dn)
        ]
        if first.replicated() != second.replicated():
            wrong.append(f"contextCSN: {first.replicated()}, {second.replicated()}")
        return wrong


def _wait_until(server: OpenldapServer, wanted: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while any(server.replicated().get(n, "") < last for n, last in wanted.items()):
        assert time.monotonic() < deadline, (server.replicated(), wanted)
        time.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session")
async def mirror() -> AsyncIterator[Mirror]:
    """Two servers with the same tree, and the databases beside them."""
    need("openldap")
    need("mariadb")
    with ExitStack() as stack:
        first, second = mirror_of_two(sync=True)
        stack.callback(first.stop)
        stack.callback(second.stop)
        maria = MariadbServer([*SETTINGS, *KEEPS_COMMITS])
        stack.callback(maria.stop)
        store = await maria.create_store("mirror", first)
        await store.reset()
        first.add(PROBE, {"objectClass": "device", "cn": "probe"})
        yield Mirror((first, second), store)
        await store.close()


async def test_nothing_acknowledged_is_lost(mirror: Mirror) -> None:
    uris = ",".join(server.uri for server in mirror.servers)
    proof = await prove(mirror, settings={"IREDAPI_LDAP_URI": uris}, late=True)
    proof.check_outages()
