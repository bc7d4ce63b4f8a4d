"""Recovery of interrupted writes: undone without changing what other writers did since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iredapi.backends.ldap.directories import RECOVERY_SECONDS
from iredapi.state import StateUnavailable
from tests.clients import Client, Service, serving
from tests.ldap.test_undo import HASH, Cutter, mailbox_path, populate, send
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")


async def broken_off(
    service: Service, client: Client, at: int, method: str, path: str, **form: str
) -> None:
    """Send a request whose process is killed before one of its writes."""
    cutter = Cutter(mailbox_path(service).directory)
    cutter.arm(at, "killed")
    assert await send(client, (method, path, form)) == 0
    cutter.arm(-1, "")
    assert await service.context.state.journal.open()


async def recovered(service: Service) -> None:
    await mailbox_path(service).recover()
    assert not await service.context.state.journal.open()


async def test_a_single_value_that_was_changed_since(store: Store) -> None:
    """A single-valued attribute that was changed since keeps its present value."""
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        await broken_off(service, root, 1, "PUT", "user/a@ex.com", quota="9", addAlias="x@ex.com")
        store.directory.modify(account_dn("a@ex.com"), replace={"mailQuota": "7340032"})
        await recovered(service)
        entry = store.directory.entry(account_dn("a@ex.com"))
        assert entry is not None
        assert entry["mailQuota"] == ["7340032"]
        assert "x@ex.com" not in entry["shadowAddress"]
        await root.ok("PUT", "user/a@ex.com", quota="9")


async def test_an_undone_domain_with_an_account_of_others(store: Store) -> None:
    """An incomplete domain with an account of another program is not deleted."""
    async with serving(store) as service:
        root = await service.root()
        await broken_off(service, root, 3, "POST", "domain/new.com")
        store.directory.add(
            account_dn("u@new.com"),
            {
                "objectClass": ["inetOrgPerson", "mailUser"],
                "mail": "u@new.com", "uid": "u", "cn": "u", "sn": "u",
            },
        )  # fmt: skip
        await recovered(service)
        assert store.directory.entry(account_dn("u@new.com")) is not None
        assert (await root.refused("POST", "domain/new.com"))[:2] == (409, "ALREADY_EXISTS")


async def test_a_missing_parent(store: Store) -> None:
    """A deleted account is not restored if its domain does not exist any more."""
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        cutter = Cutter(mailbox_path(service).directory)
        cutter.arm(-1, "")
        assert await send(root, ("DELETE", "alias/up@two.com", {})) == 200
        steps = cutter.count
        await root.ok("POST", "alias/up@two.com", members="all@ex.com,a@ex.com")
        await broken_off(service, root, steps - 1, "DELETE", "alias/up@two.com")
        store.directory.delete(domain_dn("two.com"))
        await recovered(service)
        await root.ok("POST", "domain/two.com")


@pytest.mark.parametrize("fault", ["refused", "done", "lost"])
async def test_an_existing_mailbox_is_not_queued(store: Store, fault: str) -> None:
    """The row in ``deleted_mailboxes`` is deleted if its account was not removed."""
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        cutter = Cutter(mailbox_path(service).directory)
        cutter.arm(1, fault)
        assert await send(root, ("DELETE", "user/a@ex.com/keep_mailbox_days/3", {})) >= 500
        cutter.arm(-1, "")
        assert store.directory.entry(account_dn("a@ex.com")) is not None
        assert await store.rows("SELECT * FROM deleted_mailboxes", "iredadmin") == []
        await root.ok("DELETE", "user/a@ex.com/keep_mailbox_days/3")
        (row,) = await store.rows("SELECT * FROM deleted_mailboxes", "iredadmin")
        assert row["delete_date"] is not None


@pytest.mark.parametrize("fault", ["refused", "done", "killed"])
async def test_a_mailbox_that_was_not_given_back(store: Store, fault: str) -> None:
    """Its row in ``deleted_mailboxes`` is there until its account is: it can be asked for again."""
    queued = "SELECT * FROM deleted_mailboxes"
    form = {"password_hash": HASH, "restore": "yes"}
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        entry = store.directory.entry(account_dn("b@ex.com"))
        await root.ok("DELETE", "user/b@ex.com/keep_mailbox_days/3")
        (before,) = await store.rows(queued, "iredadmin")
        if fault == "killed":
            await broken_off(service, root, 1, "POST", "user/b@ex.com", **form)
            await recovered(service)
            # Somebody may have used the directory: it is not removed before somebody decides.
            before |= {"delete_date": None}
        else:
            cutter = Cutter(mailbox_path(service).directory)
            cutter.arm(1, fault)
            assert await send(root, ("POST", "user/b@ex.com", form)) >= 500
            cutter.arm(-1, "")
        assert store.directory.entry(account_dn("b@ex.com")) is None
        assert await store.rows(queued, "iredadmin") == [before]
        await root.ok("POST", "user/b@ex.com", **form)
        again = store.directory.entry(account_dn("b@ex.com"))
        assert entry is not None
        assert again is not None
        assert again["homeDirectory"] == entry["homeDirectory"]
        assert await store.rows(queued, "iredadmin") == []


async def test_the_state_database_is_down_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A complete write is not undone if its journal record cannot be erased at once."""
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        journal, clock = service.context.state.journal, Clock()
        erase, failures = journal.erase, 3

        async def away(record_id: str) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                clock.ahead = 0.0 if failures < 3 else 60.0
                raise StateUnavailable
            await erase(record_id)

        monkeypatch.setattr(journal, "erase", away)
        await root.ok("POST", "user/new@ex.com", password_hash=HASH, quota="1")
        await recovered(service)
        await root.ok("GET", "user/new@ex.com")
        # It waits until its locks expire: then other requests may start.
        monkeypatch.setattr(service.context.state.locks, "_clock", clock)
        failures = 1000
        refused = await root.refused("POST", "user/more@ex.com", password_hash=HASH, quota="1")
        assert refused[:2] == (503, "SERVER_DOWN")


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def at_operation(service: Service, at: int, work: Callable[[], Awaitable[None]]) -> None:
    """Call ``work`` right after one of the next writes of a service."""
    directory: Any = mailbox_path(service).directory
    count = 0

    def wrapped(real: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def write(*args: Any) -> None:
            nonlocal count
            number, count = count, count + 1
            await real(*args)
            if number == at:
                await work()

        return write

    for name in ("add", "modify", "delete", "rename"):
        setattr(directory, name, wrapped(getattr(directory, name)))


REQUESTS = [
    ("PUT", "maillist/team@ex.com", {"members": "c@two.com,new@x.org"}),
    ("PUT", "domain/ex.com", {"addAliasDomain": "new.com", "name": "Slow"}),
    ("DELETE", "domain/ex.com", {}),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request[1].partition("/")[0])
async def test_a_process_without_its_locks_stops_writing(
    store: Store, monkeypatch: pytest.MonkeyPatch, request_: tuple[str, str, dict[str, str]]
) -> None:
    """A process stood still for longer than its lease: another one has locked the domain."""
    async with serving(store) as slow, serving(store) as quick:
        root = await slow.root()
        await populate(root)
        other = await quick.root()
        clock = Clock()
        for service in (slow, quick):
            monkeypatch.setattr(service.context.state.locks, "_clock", clock)
        after: dict[str, Any] = {}

        async def overtake() -> None:
            clock.ahead = 60.0
            await other.ok("PUT", "maillist/team@ex.com", members="b@ex.com,only@x.org")
            await other.ok("POST", "user/new@ex.com", password_hash=HASH, quota="1")
            after.update(store.directory.dump())

        at_operation(slow, 1, overtake)
        assert await send(root, request_) == 503
        assert after
        assert store.directory.dump() == after
        assert not await slow.context.state.journal.open()


async def test_closing_ends_the_recovery(store: Store) -> None:
    """At any time: a short command must not wait for the next interval."""
    for turn in range(40):
        async with asyncio.timeout(RECOVERY_SECONDS):
            async with serving(store) as service:
                await service.context.state.tokens.list()
                await asyncio.sleep(turn % 8 / 1000)
