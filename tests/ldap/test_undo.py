"""Every write of several steps, cut before and after each: the tree is as before, or complete.

The faults are put in where our client hands an operation to slapd; slapd itself, the state database
and everything above are real. "Killed" is what SIGKILL leaves: nothing runs after it, and another
process finds the journal.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from iredapi.backends.ldap.backend import LdapBackend
from iredapi.backends.ldap.client import Directory
from iredapi.backends.ldap.directories import Directories
from iredapi.backends.ldap.errors import LdapError, Unavailable
from tests.clients import Client, Service, serving
from tests.servers.openldap import BASE, OpenldapServer, Tree
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")

HASH = "{SSHA}bfxqKqOOKODJw/bGqMo54f9Q/iOvQoftOQrqWA=="
WRITES = ("add", "modify", "delete", "rename")
FAULTS = ("refused", "lost", "done", "gone", "killed", "killed after")

Request = tuple[str, str, dict[str, str]]


@dataclass(frozen=True)
class Case:
    name: str
    request: Request
    repeated: Request | None = None
    """The request that completes an interrupted one; None: the same request."""


CASES = [
    Case("domain", ("POST", "domain/new.com", {"name": "New", "quota": "10"})),
    Case("alias domain", ("PUT", "domain/ex.com", {"addAliasDomain": "new.com", "name": "Other"})),
    Case("alias domains gone", ("PUT", "domain/ex.com", {"aliasDomains": "", "catchall": ""})),
    Case("domain off", ("PUT", "domain/ex.com", {"accountStatus": "disabled"})),
    Case("catch-all", ("PUT", "domain/ex.com", {"catchall": "b@ex.com", "senderBcc": "c@x.org"})),
    Case("domain admins", ("PUT", "domain/admins/two.com", {"addAdmin": "a@ex.com,b@ex.com"})),
    Case("admins gone", ("PUT", "domain/admins/two.com", {"removeAllAdmins": "yes"})),
    Case("domain gone", ("DELETE", "domain/ex.com", {})),
    Case("admin gone", ("DELETE", "admin/boss@admins.test", {})),
    Case("user", ("POST", "user/new@ex.com", {"password_hash": HASH, "quota": "7"})),
    Case("user's quota", ("PUT", "user/a@ex.com", {"quota": "9", "addAlias": "x@ex.com"})),
    Case("user renamed", ("POST", "user/a@ex.com/change_email/z@ex.com", {})),
    Case("user gone", ("DELETE", "user/a@ex.com", {})),
    Case("all users", ("PUT", "users/ex.com", {"language": "de_DE", "accountStatus": "disabled"})),
    Case("alias", ("POST", "alias/new@ex.com", {"members": "a@ex.com,far@x.org"})),
    Case("alias renamed", ("POST", "alias/all@ex.com/change_email/any@ex.com", {})),
    Case("alias gone", ("DELETE", "alias/all@ex.com", {})),
    Case("list", ("POST", "maillist/new@ex.com", {"members": "a@ex.com,all@ex.com,far@x.org"})),
    Case("list's members", ("PUT", "maillist/team@ex.com", {"members": "b@ex.com,new@x.org"})),
    Case("list gone", ("DELETE", "maillist/team@ex.com", {})),
]  # fmt: skip


class Killed(BaseException):
    """The process was killed."""


class Cutter:
    """A directory of which one write fails, by its number."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.count = 0
        self.at = -1
        self.fault = ""
        self.reached = asyncio.Event()
        for name in WRITES:
            setattr(directory, name, self._wrapped(getattr(directory, name)))

    def arm(self, at: int, fault: str) -> None:
        self.count, self.at, self.fault = 0, at, fault
        self.reached.clear()

    def _wrapped(self, real: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def write(*args: Any) -> None:
            number, self.count = self.count, self.count + 1
            if number == self.at:
                self.reached.set()
            if self.fault == "gone" and 0 <= self.at <= number:
                raise Unavailable("no server", uncertain=True)
            if number != self.at:
                await real(*args)
                return
            match self.fault:
                case "":
                    await real(*args)
                    return
                case "refused":
                    raise LdapError(80)
                case "lost":
                    raise Unavailable("lost before it arrived", uncertain=True)
                case "killed":
                    raise Killed
            await real(*args)
            if self.fault == "killed after":
                raise Killed
            raise Unavailable("the answer was lost", uncertain=True)

        return write


def mailbox_path(service: Service) -> Directories:
    storage = service.context.backend
    assert isinstance(storage, LdapBackend)
    return storage.directories


async def populate(root: Client) -> None:
    """Accounts with all kinds of references to each other."""
    await root.ok("POST", "domain/ex.com", quota="1000")
    await root.ok("POST", "domain/two.com")
    await root.ok("POST", "admin/boss@admins.test", password="Corr3ct-Horse")
    for mail in ("a@ex.com", "b@ex.com", "c@two.com"):
        await root.ok("POST", f"user/{mail}", password_hash=HASH, quota="5")
    await root.ok("PUT", "domain/ex.com", aliasDomains="ex.net", catchall="a@ex.com,b@ex.com")
    await root.ok("POST", "alias/all@ex.com", members="a@ex.com,b@ex.com,far@x.org")
    await root.ok("POST", "maillist/team@ex.com", members="a@ex.com,b@ex.com,far@x.org,c@two.com")
    await root.ok("POST", "alias/up@two.com", members="all@ex.com,a@ex.com")
    await root.ok("PUT", "user/b@ex.com", addForwarding="a@ex.com", aliases="bb@ex.com")
    await root.ok("PUT", "user/a@ex.com", forwarding="a@ex.com,all@ex.com", aliases="aa@ex.com")
    await root.ok("PUT", "user/c@two.com", senderBcc="a@ex.com", recipientBcc="all@ex.com")
    await root.ok("PUT", "domain/two.com", recipientBcc="a@ex.com")
    await root.ok("PUT", "domain/admins/two.com", addAdmin="a@ex.com,boss@admins.test")


def put_back(server: OpenldapServer, tree: Tree) -> None:
    server.reset()
    there = server.dump()
    for dn in sorted(tree, key=lambda dn: len(dn.split(","))):
        if dn not in there:
            server.add(dn, tree[dn])


async def send(client: Client, request: Request) -> int:
    method, path, form = request
    try:
        status, _ = await client.call(method, path, data=form)
    except Killed:
        return 0
    return status


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_cut(store: Store, case: Case) -> None:
    server = store.directory
    async with serving(store, maildir_append_timestamp=False) as service:
        root = await service.root()
        await populate(root)
        before = server.dump()
        home = mailbox_path(service)
        cutter = Cutter(home.directory)
        cutter.arm(-1, "")
        assert await send(root, case.request) == 200
        steps, after = cutter.count, server.dump()
        assert steps
        assert after != before
        seen = set()
        for fault in FAULTS:
            for at in range(steps):
                put_back(server, before)
                cutter.arm(at, fault)
                status = await send(root, case.request)
                assert status != 200, (fault, at)
                cutter.arm(-1, "")
                # What another process does at its start, or before it touches the domain.
                await home.recover()
                assert not await service.context.state.journal.open()
                found = server.dump()
                if found not in (before, after):
                    seen.add("repeated")
                    assert await send(root, case.repeated or case.request) == 200, (fault, at)
                    assert server.dump() == after, (fault, at)
                else:
                    seen.add("as before" if found == before else "as after")
        assert seen


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_cancelled(store: Store, case: Case) -> None:
    """If the client disconnects during a write, the write is completed."""
    server = store.directory
    async with serving(store, maildir_append_timestamp=False) as service:
        root = await service.root()
        await populate(root)
        before = server.dump()
        cutter = Cutter(mailbox_path(service).directory)
        assert await send(root, case.request) == 200
        steps, after = cutter.count, server.dump()
        for at in range(steps):
            put_back(server, before)
            # An admin whose entry was made anew is another one: its session has ended.
            root = await service.root()
            cutter.arm(at, "")
            task = asyncio.ensure_future(send(root, case.request))
            async with asyncio.timeout(30):
                await cutter.reached.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # The unit continues without its request; it releases its locks at the end.
            async with service.context.state.locks.hold("ldap ex.com"):
                assert not await service.context.state.journal.open()
                assert server.dump() == after, at


async def test_a_killed_writer_does_not_block_others(store: Store) -> None:
    """The next write to the same domain first undoes the unfinished one."""
    async with serving(store, maildir_append_timestamp=False) as service:
        root = await service.root()
        await populate(root)
        cutter = Cutter(mailbox_path(service).directory)
        cutter.arm(1, "killed after")
        await send(root, ("POST", "user/a@ex.com/change_email/z@ex.com", {}))
        cutter.arm(-1, "")
        assert await service.context.state.journal.open()
        await root.ok("PUT", "user/b@ex.com", name="Bea")
        assert not await service.context.state.journal.open()
        assert store.directory.entry(f"mail=a@ex.com,ou=Users,domainName=ex.com,{BASE}")
        status, message, _ = await root.refused("GET", "user/z@ex.com")
        assert (status, message) == (404, "NO_SUCH_ACCOUNT")


IMPORTED = [f"{name}@{domain}" for domain in ("ex.com", "two.com") for name in ("n1", "n2", "n3")]
_MOMENT = re.compile(r"-\d{4}(\.\d\d){5}")


async def imports(client: Client) -> list[str]:
    """Import users of two domains; return the result of each line, none if it was cut."""
    lines = (
        json.dumps({"type": "user", "mail": mail, "password_hash": HASH, "quota": 3})
        for mail in IMPORTED
    )
    try:
        response = await client.http.post(
            "import", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
        )
    except Killed:
        return []
    found = [json.loads(line) for line in response.text.splitlines()]
    return [line["result"] for line in found if "result" in line]


def without_moments(tree: Tree) -> Tree:
    """The mailboxes of batched users have the second of their creation in their paths."""
    return {
        dn: {name: [_MOMENT.sub("", value) for value in values] for name, values in entry.items()}
        for dn, entry in tree.items()
    }


async def test_an_import_is_cut(store: Store) -> None:
    """Of each domain's group of new users there are all, or none; sending it again completes it."""
    server = store.directory
    async with serving(store) as service:
        root = await service.root()
        await populate(root)
        before = server.dump()
        home = mailbox_path(service)
        cutter = Cutter(home.directory)
        cutter.arm(-1, "")
        assert await imports(root) == ["done"] * len(IMPORTED)
        steps, after = cutter.count, without_moments(server.dump())
        assert steps == len(IMPORTED) + 2, "the counters of each domain are written once"
        undone = 0
        for fault in FAULTS:
            for at in range(steps):
                put_back(server, before)
                root = await service.root()
                cutter.arm(at, fault)
                await imports(root)
                cutter.arm(-1, "")
                await home.recover()
                assert not await service.context.state.journal.open()
                there = server.dump()
                for domain in ("ex.com", "two.com"):
                    new = [dn for dn in there if re.search(rf"mail=n\d@{domain},", dn)]
                    assert len(new) in (0, 3), (fault, at, new)
                    undone += not new
                again = await imports(root)
                assert set(again) <= {"done", "unchanged"}, (fault, at, again)
                assert without_moments(server.dump()) == after, (fault, at)
        assert undone
