"""Several servers: read-only replicas, and servers that restart with old data."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pytest

from iredapi.auth.login import find_principal
from iredapi.backends.ldap import write_plan
from iredapi.backends.ldap.client import Directory
from iredapi.backends.ldap.directories import LdapUnit
from iredapi.domain.actors import SYSTEM
from tests.clients import Client, Service, serving
from tests.conftest import need
from tests.integration.test_doctor import examine
from tests.ldap.test_undo import HASH, mailbox_path
from tests.servers.openldap import OpenldapServer, account_dn, domain_dn
from tests.servers.replication import PROVIDER, consumer, has, mirror_of_two, wait_for
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
U = account_dn("u@ex.com")


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    """Stops servers that are pushed onto it."""
    need("openldap")
    with ExitStack() as stack:
        yield stack


def started(servers: ExitStack, server: OpenldapServer) -> OpenldapServer:
    servers.callback(server.stop)
    return server


@asynccontextmanager
async def using(store: Store, *chosen: OpenldapServer) -> AsyncIterator[tuple[Service, Client]]:
    """The application on some servers, in this order, and a global admin."""
    uris = ",".join(server.uri for server in chosen)
    async with serving(store, ldap_uri=uris, ldap_bind_password=chosen[0].password) as service:
        yield service, await service.root()


async def ready(service: Service) -> dict[str, object]:
    service.context.probes._last = None  # what was seen half a second ago does not count
    status, answer = await service.client(mount="").call("GET", "/readyz?verbose")
    assert status == 200, answer
    found: dict[str, object] = answer["_data"]
    return found


async def soon(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, condition)


@pytest.mark.parametrize("refers", [True, False], ids=["referral", "unwilling"])
async def test_a_replica_only_reads(store: Store, servers: ExitStack, refers: bool) -> None:
    """Writes have an error code of their own; the referral to the provider is not followed."""
    provider = started(servers, OpenldapServer(lines=PROVIDER))
    async with using(store, provider) as (_, root):
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        await root.ok("POST", "throttle/u@ex.com/inbound", period="60", max_msgs="7")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.3)
        update = f"updateref ldap://127.0.0.1:{stranger.getsockname()[1]}"
        replica = started(servers, consumer(provider, *([update] if refers else [])))
        before = replica.dump()
        async with using(store, replica) as (service, root):
            assert await root.ok("GET", "users/ex.com", email_only="yes") == ["u@ex.com"]
            for method, path, form in (
                ("POST", "user/new@ex.com", {"password_hash": HASH}),
                ("PUT", "user/u@ex.com", {"name": "New", "quota": "7"}),
                ("PUT", "users/ex.com", {"language": "de_DE"}),
                ("POST", "user/u@ex.com/change_email/v@ex.com", {}),
                ("DELETE", "user/u@ex.com", {}),
                ("DELETE", "domain/ex.com", {}),
            ):
                refused = await root.http.request(method, path, data=form or None)
                answer = (refused.status_code, refused.json()["_msg"])
                assert answer == (503, "DIRECTORY_READ_ONLY"), path
                assert refused.headers["Retry-After"] == "2", path  # slapd's results 10 and 53
            # Nor are rows in SQL databases removed of accounts that were not removed.
            assert (await root.ok("GET", "throttle/u@ex.com/inbound"))["max_msgs"] == 7
            assert not await service.context.state.journal.open()
            found = await ready(service)
            assert (found["status"], found["reads_only"]) == ("reads only", ["ldap"])
        with pytest.raises(TimeoutError):
            stranger.accept()
        assert replica.dump() == before
        report, result = await examine(
            store, ldap_uri=replica.uri, ldap_bind_password=replica.password
        )
        assert "DIRECTORY_READS_ONLY" in {item.code for item in report}
        assert "SERVER_AWAY" not in {item.code for item in report}
        assert result.status == 1


async def test_a_server_that_stops_before_a_commit(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rows in SQL databases are removed of accounts that cannot be removed any more."""
    check, server = LdapUnit._check_writable, started(servers, OpenldapServer())

    async def after_a_stop(unit: LdapUnit) -> None:
        server.halt()
        await check(unit)

    async with using(store, server) as (_, root):
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        await root.ok("POST", "throttle/u@ex.com/inbound", period="60", max_msgs="7")
        with monkeypatch.context() as patched:
            patched.setattr(LdapUnit, "_check_writable", after_a_stop)
            assert (await root.refused("DELETE", "user/u@ex.com"))[0] == 503
        server.resume()
        assert (await root.ok("GET", "throttle/u@ex.com/inbound"))["max_msgs"] == 7
        assert server.entry(U) is not None
        await root.ok("DELETE", "user/u@ex.com")


async def test_a_write_finds_the_provider(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is second in the list, or down: reads work, and writes once it is up."""
    monkeypatch.setattr("iredapi.backends.ldap.server_selection._DOWN", 0.2)
    provider = started(servers, OpenldapServer(lines=PROVIDER))
    replica = started(servers, consumer(provider))
    async with using(store, replica, provider) as (service, root):
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        assert provider.entry(U) is not None
        # What was written is read at once, whatever the replica has.
        await root.ok("GET", "user/u@ex.com")
        assert (await ready(service))["status"] == "ready"
        await soon(has(replica, U))
        provider.halt()
        await root.ok("GET", "user/u@ex.com")
        refused = await root.refused("PUT", "user/u@ex.com", name="New")
        assert refused[:2] == (503, "DIRECTORY_READ_ONLY")
        assert (await ready(service))["status"] == "reads only"
        provider.resume()
        for _ in range(100):
            await asyncio.sleep(0.05)
            status, answer = await root.call("PUT", "user/u@ex.com", data={"name": "New"})
            if status == 200:
                break
            assert (status, answer["_msg"]) == (503, "DIRECTORY_READ_ONLY")
        else:
            raise AssertionError("the provider is not used again")
        entry = provider.entry(U)
        assert entry is not None
        assert entry["cn"] == ["New"]


async def test_a_server_that_becomes_a_replica(store: Store, servers: ExitStack) -> None:
    """Its refusal is detected, and the write is repeated on a server that accepts it."""
    first = started(servers, OpenldapServer(lines=["serverID 1", *PROVIDER]))
    second = started(servers, OpenldapServer(like=first, lines=["serverID 2", *PROVIDER]))
    async with using(store, first, second) as (service, root):
        await root.ok("POST", "domain/ex.com")
        assert second.entry(domain_dn("ex.com")) is None
        first.configure("serverID 1", *PROVIDER, "readonly on")
        second.halt()
        second.take_data_of(first)
        second.resume()
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        assert second.entry(U) is not None
        assert await service.context.read(SYSTEM, find_principal, "nobody@ex.com") is None


async def test_an_outdated_server_is_not_used(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarted server with old data is used only when it has caught up with the other."""
    monkeypatch.setattr("iredapi.backends.ldap.server_selection._DOWN", 0.2)
    monkeypatch.setattr("iredapi.backends.ldap.server_selection._PAUSE", 0.0)
    first = started(servers, OpenldapServer(lines=["serverID 1", *PROVIDER]))
    async with using(store, first) as (_, root):
        await root.ok("POST", "domain/ex.com")
    second = started(servers, OpenldapServer(like=first, lines=["serverID 2", *PROVIDER]))
    async with using(store, first, second) as (service, root):
        directory = mailbox_path(service).directory
        first.halt()
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        first.resume()
        assert first.entry(U) is None
        for _ in range(8):
            await asyncio.sleep(0.1)
            await root.ok("GET", "user/u@ex.com")
        # Nor by a process that starts now, or by one whose connections were cut.
        async with using(store, first, second) as (_, other):
            await other.ok("GET", "user/u@ex.com")
        second.restart()
        await root.ok("GET", "user/u@ex.com")
        first.halt()
        first.take_data_of(second)
        first.resume()
        first.add(account_dn("w@ex.com"), {"objectClass": ["inetOrgPerson", "mailUser"],
                  "mail": "w@ex.com", "uid": "w", "cn": "w", "sn": "w"})  # fmt: skip
        for _ in range(100):
            await asyncio.sleep(0.05)
            if await directory.get(account_dn("w@ex.com")):
                break
        else:
            raise AssertionError("the first server is not used again")
        await root.ok("GET", "user/u@ex.com")


async def test_mirror_mode(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirror mode: one server is killed and restarted, and no write is lost."""
    monkeypatch.setattr("iredapi.backends.ldap.server_selection._DOWN", 0.2)
    first, second = (started(servers, server) for server in mirror_of_two())
    async with using(store, first, second) as (_, root):
        await root.ok("POST", "domain/ex.com")
        await soon(has(second, domain_dn("ex.com")))
        first.halt()
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        first.resume()
        for number in range(20):
            await root.ok("PUT", "user/u@ex.com", name=f"Name {number}")
            await asyncio.sleep(0.05)
            assert (await root.ok("GET", "user/u@ex.com"))["cn"] == [f"Name {number}"]
        await soon(lambda: first.dump() == second.dump())


async def test_a_write_is_acknowledged_when_both_servers_have_it(
    store: Store, servers: ExitStack
) -> None:
    """Mirror mode: the server in use may stop the moment after the answer."""
    pair = mirror_of_two(asks=True)
    first, second = (started(servers, server) for server in pair)
    async with using(store, first, second) as (_, root):
        await root.ok("POST", "domain/ex.com")
        for number in range(2):
            await root.ok("PUT", "domain/ex.com", name=f"N{number}")
            there = second.entry(domain_dn("ex.com"))
            assert there is not None
            assert there["cn"] == [f"N{number}"]
        # One that does not answer is left out.
        second.freeze()
        async with asyncio.timeout(15):
            await root.ok("PUT", "domain/ex.com", name="Frozen")
        second.thaw()


async def test_processes_that_use_different_servers(store: Store, servers: ExitStack) -> None:
    """After a failover one process may be back on the first server, and another one not yet."""
    first, second = (started(servers, server) for server in mirror_of_two(asks=True))
    async with AsyncExitStack() as services:
        _, one = await services.enter_async_context(using(store, first))
        await one.ok("POST", "domain/ex.com", numberOfUsers=5)
        await soon(lambda: first.replicated() == second.replicated())
        _, other = await services.enter_async_context(using(store, second, first))
        for number in range(2):
            await one.ok("POST", f"user/a{number}@ex.com", password_hash=HASH)
            await other.ok("POST", f"user/b{number}@ex.com", password_hash=HASH)
            assert (await other.refused("POST", f"alias/a{number}@ex.com"))[0] == 409
        await one.ok("POST", "user/c@ex.com", password_hash=HASH)
        assert (await other.refused("POST", "user/d@ex.com", password_hash=HASH))[0] == 409
        await soon(lambda: first.replicated() == second.replicated())
        for server in (first, second):
            domain = server.entry(domain_dn("ex.com"))
            assert domain is not None
            assert domain["domainCurrentUserNumber"] == ["5"]


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_server_that_stops_within_a_write(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The write is carried out on the other one; what the first one brings along is older."""
    pair = mirror_of_two(sync=True, asks=True)
    first, second = (started(servers, server) for server in pair)
    steps = 0

    def stops_at(method: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def stopping(*args: Any) -> None:
            nonlocal steps
            await method(*args)
            steps += 1
            if steps == step + 1:
                first.kill()

        return stopping

    async with using(store, first, second) as (service, root):
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        await root.ok("POST", "alias/l@ex.com", members="u@ex.com")
        with monkeypatch.context() as patched:
            for name in ("add", "modify", "delete", "rename"):
                method = getattr(Directory, name)
                patched.setattr(Directory, name, stops_at(method))
            await root.ok("POST", "user/u@ex.com/change_email/r@ex.com")
        assert steps > step
        assert await root.ok("GET", "users/ex.com", email_only="yes") == ["r@ex.com"]
        # Of two changes of an entry the newer one wins, with the whole entry.
        for path in ("user/r@ex.com", "alias/l@ex.com", "domain/ex.com"):
            await root.ok("PUT", path, name="New")
        first.resume()
        await soon(lambda: first.replicated() == second.replicated())
        await soon(lambda: first.dump() == second.dump())
        domain = first.entry(domain_dn("ex.com"))
        alias = first.entry(account_dn("l@ex.com", "Aliases"))
        assert domain is not None
        assert alias is not None
        assert domain["domainCurrentUserNumber"] == ["1"]
        assert alias["mailForwardingAddress"] == ["r@ex.com"]
        assert first.entry(U) is None
        assert first.entry(account_dn("r@ex.com")) is not None
        assert not await service.context.state.journal.open()


@pytest.mark.parametrize("when", ["after undoing", "while repeating"])
async def test_a_step_of_a_stopped_server_arrives_late(
    store: Store, servers: ExitStack, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The next step goes to the other server, which gets the first step only after that."""
    first, second = (started(servers, server) for server in mirror_of_two(sync=True, asks=True))
    renamed = account_dn("r@ex.com")
    rename, undo_done = Directory.rename, write_plan.undo_done
    calls = 0

    async def arrive() -> None:
        first.resume()
        await soon(has(second, renamed))

    async def renaming(directory: Directory, dn: str, new_dn: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 and when == "while repeating":
            await arrive()
        await rename(directory, dn, new_dn)
        if calls == 1:
            first.kill()

    async def undoing(*args: Any) -> None:
        await undo_done(*args)
        await arrive()

    async with using(store, first, second) as (service, root):
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", password_hash=HASH)
        await root.ok("PUT", "user/u@ex.com", forwarding="u@ex.com,x@far.com")
        await soon(lambda: first.replicated() == second.replicated())
        with monkeypatch.context() as patched:
            patched.setattr(Directory, "rename", renaming)
            patched.setattr(write_plan, "undo_done", undoing)
            await root.ok("POST", "user/u@ex.com/change_email/r@ex.com")
        assert calls == 2
        assert await root.ok("GET", "users/ex.com", email_only="yes") == ["r@ex.com"]
        if when == "after undoing":
            first.resume()
        await soon(lambda: first.replicated() == second.replicated())
        for server in (first, second):
            entry = server.entry(renamed)
            assert entry is not None
            assert entry["mailForwardingAddress"] == ["r@ex.com", "x@far.com"]
            assert entry["uid"] == ["r"]
        assert not await service.context.state.journal.open()
