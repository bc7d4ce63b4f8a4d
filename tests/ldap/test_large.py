"""Listing 20,000 users: in pages, in the memory of one page, without delaying other requests.

A service of its own on a slapd of its own, asked over HTTP. Between the two stands a relay that
counts entries in answers; the service's memory is what the kernel says it was at most.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest_asyncio

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT
from tests.conftest import need
from tests.servers.api import ApiProcess, add_root, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer, account_dn, domain_dn

SMALL, LARGE = "small.test", "large.test"
SERVICES: Final = ("mail", "deliver", "forward", "smtp", "imap", "lda", "lmtp", "shadowaddress")
"""A part of them: slapadd needs long to index them."""
USERS: Final = {SMALL: 2_000, LARGE: 20_000}
PAGE: Final = 1000
"""Names that an answer of slapd may have at most; whole entries come 500 at a time."""
WORTH: Final = 6 * 1024 * 1024
"""Bytes that a page of 500 users takes as Python's objects (4 MB), and 18,000 more names (2 MB).

Whether memory that was free before serves for these names differs from run to run. All entries
would take a hundred MB."""
LEAST: Final = 20
"""Small requests that are measured."""
MEGABYTE: Final = 1024 * 1024
_ENTRY, _DONE = 0x64, 0x65
"""Tags of SearchResultEntry and SearchResultDone (RFC 4511)."""


def ldif() -> Iterator[str]:
    """Return what slapadd reads: two domains full of users, each with some twenty attributes."""
    hashed = hash_password(PASSWORD)
    services = "".join(f"enabledService: {name}\n" for name in SERVICES)
    for domain, number in USERS.items():
        yield (
            f"dn: {domain_dn(domain)}\nobjectClass: mailDomain\ndomainName: {domain}\n"
            "accountStatus: active\nmtaTransport: dovecot\nenabledService: mail\n\n"
        )
        for name in ("Users", "Groups", "Aliases", "Externals"):
            dn = f"ou={name},{domain_dn(domain)}"
            yield f"dn: {dn}\nobjectClass: organizationalUnit\nou: {name}\n\n"
        for place in range(number):
            # Neither sorted nor in the order of their making.
            local = f"u{place * 7919 % number:05d}"
            mail = f"{local}@{domain}"
            yield (
                f"dn: {account_dn(mail)}\nobjectClass: inetOrgPerson\nobjectClass: mailUser\n"
                "objectClass: shadowAccount\nobjectClass: amavisAccount\n"
                f"mail: {mail}\nuid: {local}\ncn: {local}\nsn: {local}\namavisLocal: TRUE\n"
                f"userPassword: {hashed}\nhomeDirectory: /var/vmail/vmail1/{domain}/{local}/\n"
                f"accountStatus: active\nmailQuota: 104857600\n{services}\n"
            )


@dataclass
class Relay:
    """Passes bytes on, and counts the entries of each answer that slapd gives."""

    target: int
    answers: list[int] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, in both directions."""
        back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass(reader, forth))
                group.create_task(self._count(back, writer))
        except* OSError:
            pass
        finally:
            forth.close()
            writer.close()

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on; of each message in them only the tag of what it holds is looked at."""
        entries, rest = 0, b""
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
            tags, rest = _tags(rest + data)
            for tag in tags:
                entries += tag == _ENTRY
                if tag == _DONE:
                    self.answers.append(entries)
                    entries = 0


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _tags(data: bytes) -> tuple[list[int], bytes]:
    """Return the tags of the operations of whole LDAPMessages, and what follows the last one."""
    tags, start = [], 0
    while start + 6 <= len(data):
        size, head = data[start + 1], start + 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[start + 2 : head])
        if head + size > len(data):
            break
        # After the number of the message.
        tags.append(data[head + 2 + data[head + 1]])
        start = head + size
    return tags, data[start:]


@asynccontextmanager
async def relayed(target: int) -> AsyncIterator[Relay]:
    relay = Relay(target)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    async with server:
        relay.port = server.sockets[0].getsockname()[1]
        yield relay


@dataclass
class Running:
    """The service, and a client that is logged in."""

    api: ApiProcess
    relay: Relay
    client: httpx.AsyncClient

    def _memory(self, name: str) -> int:
        """Return VmRSS or VmHWM (the most since ``_forget_peak``) of the whole service."""
        found = 0
        for pid in family(self.api.pid):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{name}:"):
                    found += int(line.split()[1]) * 1024
        return found

    def _forget_peak(self) -> None:
        for pid in family(self.api.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    async def list_users(self, domain: str) -> tuple[int, int]:
        """Read a listing to its end; returns how many users it has, and by what memory grew."""
        self._forget_peak()
        before = self._memory("VmRSS")
        users, rest = 0, b""
        async with self.client.stream("GET", f"users/{domain}") as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                rest += part
                users += rest.count(b'"homeDirectory":')
                rest = rest[-16:] if not rest.endswith(b'"homeDirectory":') else b""
        assert rest.endswith(b'"_success":true}'), rest
        return users, self._memory("VmHWM") - before


def family(pid: int) -> list[int]:
    """Return a process and those below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in family(int(child)))]


@pytest_asyncio.fixture(loop_scope="session")
async def service(mariadb_server: MariadbServer, tmp_path: Path) -> AsyncIterator[Running]:
    """A service whose directory holds both domains, with one worker."""
    need("openldap")
    server = OpenldapServer()
    store = await mariadb_server.create_store(f"large_{os.getpid()}", server)
    try:
        await store.reset()
        await add_root(store)
        server.load(ldif())
        async with relayed(server.port) as relay:
            given = urls_of(store) | {
                "IREDAPI_LDAP_URI": f"ldap://127.0.0.1:{relay.port}",
                "IREDAPI_DATA_DIR": str(tmp_path),
                "IREDAPI_WORKERS": "1",
            }
            api = await asyncio.to_thread(ApiProcess, given, directory=tmp_path)
            try:
                async with httpx.AsyncClient(
                    base_url=f"{api.address}/api/", timeout=60, trust_env=False
                ) as client:
                    answer = await client.post(
                        "login", data={"username": ROOT, "password": PASSWORD}
                    )
                    assert answer.json()["_success"] is True, answer.text
                    yield Running(api, relay, client)
            finally:
                await asyncio.to_thread(api.stop)
    finally:
        await store.close()
        server.stop()


async def latencies(client: httpx.AsyncClient, until: asyncio.Event) -> list[float]:
    """Read one user repeatedly; return the duration of each response in seconds."""
    found: list[float] = []
    while not until.is_set() or len(found) < LEAST:
        began = time.monotonic()
        answer = await client.get(f"user/u00001@{SMALL}")
        found.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
        assert answer.json()["_success"] is True, answer.text
    return found


async def listed(service: Running, domain: str) -> tuple[int, list[float]]:
    """List a domain while others ask; returns what memory it took, and the others' times."""
    done = asyncio.Event()
    asking = asyncio.create_task(latencies(service.client, done))
    try:
        users, grown = await service.list_users(domain)
    finally:
        done.set()
        found = await asking
    assert users == USERS[domain]
    return grown, found


async def test_a_large_domain(service: Running) -> None:
    """Ten times as many users need the memory of one page, and do not delay other requests."""
    await listed(service, SMALL)  # what is loaded, learned and kept for good
    few, _ = await listed(service, SMALL)
    service.relay.answers.clear()
    many, times = await listed(service, LARGE)
    print(
        f"\n{USERS[SMALL]} users: {few / MEGABYTE:.1f} MB, {USERS[LARGE]}: {many / MEGABYTE:.1f} MB"
        f" in {len(service.relay.answers)} answers of at most {max(service.relay.answers)} entries;"
        f" {len(times)} other requests meanwhile: median {statistics.median(times) * 1000:.0f} ms,"
        f" longest {max(times) * 1000:.0f} ms"
    )
    assert sum(service.relay.answers) > USERS[LARGE]
    assert max(service.relay.answers) <= PAGE
    assert many - few < WORTH
    assert statistics.median(times) < 0.5
    assert max(times) < 3
