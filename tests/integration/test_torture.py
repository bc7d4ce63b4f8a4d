"""Thousands of mixed writes while the service is killed and the database is restarted.

Each writer has a domain of its own and remembers what was acknowledged. When an answer does not
come, it sends the same request again until there is one, as a client does. At the end all that was
acknowledged is there and nothing else, and the doctor finds nothing. ``make torture`` sends
``TORTURE_WRITES`` (default 4000) on each storage; without it a short run.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from iredapi.runtime.startup import open_state
from tests.clients import PASSWORD, ROOT, settings_for
from tests.conftest import need
from tests.integration.test_doctor import examine
from tests.servers import mariadb, postgresql
from tests.servers.api import ApiProcess, add_root, found_on_this_host, urls_of
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import ServerError, remove_directory, temporary_directory
from tests.servers.store import ALL_STORES, Store, create_sqlite

WRITES: Final = int(os.environ.get("TORTURE_WRITES", "160"))
WRITERS: Final = 6
FULL: Final = "TORTURE_WRITES" in os.environ
KILLS: Final = (0.3, 6.0) if FULL else (0.3, 1.5)
MOST_KILLS: Final = 100_000 if FULL else 3
"""Seconds between a start of the service and its end."""
STARTS: Final = 5
EACH: Final = 2
"""After so many kills the database is restarted too."""


@dataclass
class Account:
    """What a user or alias must be."""

    fields: dict[str, Any] = field(default_factory=dict)
    throttle: int | None = None
    blacklist: set[str] = field(default_factory=set)
    policies_sure: bool = True
    """Whether no answer was missed that may have left policies behind at the old address."""


@dataclass
class Figures:
    """What happened."""

    done: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    applied_without_answer: int = 0
    kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    policies_lost: int = 0

    def __str__(self) -> str:
        """Return one line."""
        total = self.done.total()
        return (
            f"{total} acknowledged writes in {self.seconds:.0f} s, {self.kills} SIGKILLs, "
            f"{self.restarts} restarts of the database, {self.repeated} requests sent again, "
            f"{self.applied_without_answer} of them had been carried out, "
            f"{self.policies_lost} policies lost in renames; {dict(self.done)}"
        )


class Target:
    """The service, killed and started again in the background."""

    def __init__(self, store: Store, restart: Callable[[], None] | None, figures: Figures) -> None:
        self._given = urls_of(store) | {"IREDAPI_LOGIN_FAILURES": "1000000"}
        self._restart = restart
        self._figures = figures
        self.directory = temporary_directory("torture")
        self._given["IREDAPI_DATA_DIR"] = str(self.directory)
        self.api: ApiProcess | None = None
        self.up = asyncio.Event()
        self.cookies: dict[str, str] = {}
        self.trouble = ""

    async def start(self) -> None:
        """Start the service; the session of before is still good."""
        for attempt in range(STARTS):
            try:
                self.api = await asyncio.to_thread(
                    ApiProcess, self._given, directory=self.directory
                )
                break
            except ServerError:
                # A database that was restarted may not be ready: a supervisor tries again.
                if attempt == STARTS - 1:
                    raise
                await asyncio.sleep(1)
        while not self.cookies:
            async with self.client() as client:
                answer = await client.post("login", data={"username": ROOT, "password": PASSWORD})
                self.cookies = dict(answer.cookies)
        self.up.set()

    async def torment(self, random_: random.Random) -> None:
        """Kill and start until cancelled."""
        while self._figures.kills < MOST_KILLS:
            try:
                await self._torment_once(random_)
            except Exception as error:
                self.trouble = repr(error)
                raise

    async def _torment_once(self, random_: random.Random) -> None:
        await asyncio.sleep(random_.uniform(*KILLS))
        self.up.clear()
        assert self.api is not None
        os.killpg(self.api.pid, signal.SIGKILL)
        self._figures.kills += 1
        await self.start_again()

    async def start_again(self) -> None:
        """Start after a kill, now and then with a database that goes away a moment later."""
        await self.start()
        if self._restart is not None and self._figures.kills % EACH == 0:
            await asyncio.sleep(0.3)
            await asyncio.to_thread(self._restart)
            self._figures.restarts += 1

    def client(self) -> httpx.AsyncClient:
        """A client of the service as it is now."""
        assert self.api is not None
        return httpx.AsyncClient(
            base_url=f"{self.api.address}/api/", cookies=self.cookies, timeout=60, trust_env=False
        )

    def log(self) -> str:
        """What the service has logged since its last start."""
        return "" if self.api is None else self.api.output

    def close(self) -> None:
        """Stop the service."""
        if self.api is not None:
            self.api.stop()
        remove_directory(self.directory)


class Writer:
    """One client with a domain of its own."""

    def __init__(self, number: int, target: Target, figures: Figures) -> None:
        self.domain = f"w{number}.test"
        self.random = random.Random(number)
        self.target = target
        self.figures = figures
        self.users: dict[str, Account] = {}
        self.aliases: dict[str, Account] = {}
        self.domains: set[str] = set()
        self.admins: set[str] = set()
        self._next = 0
        self._client: httpx.AsyncClient | None = None
        self._address = ""

    async def send(self, method: str, path: str, **form: Any) -> tuple[int, dict[str, Any], bool]:
        """Send until there is an answer; returns it, and whether it is not the first try's."""
        again = False
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline, f"no answer: {method} {path}: {self.target.trouble}"
            try:
                async with asyncio.timeout(60):
                    await self.target.up.wait()
                client = await self._current()
                response = await client.request(method, path, data=form or None)
                answer = response.json()
            except (httpx.HTTPError, ValueError, TimeoutError):
                again = True
                self.figures.repeated += method != "GET"
                await asyncio.sleep(0.02)
                continue
            if response.status_code in {429, 503} or answer.get("_msg") == "CHANGED_MEANWHILE":
                # Perhaps nothing was changed, perhaps it was.
                again = True
                self.figures.repeated += method != "GET"
                await asyncio.sleep(0.05)
                continue
            assert response.status_code != 500, self.target.log()[-6000:]
            return response.status_code, answer, again

    async def _current(self) -> httpx.AsyncClient:
        api = self.target.api
        assert api is not None
        if self._client is None or self._address != api.address:
            if self._client is not None:
                await self._client.aclose()
            self._client = self.target.client()
            self._address = api.address
        return self._client

    async def write(
        self, kind: str, method: str, path: str, applied: str = "", **form: Any
    ) -> bool:
        """Send a write that must succeed; returns whether it was sent more than once.

        ``applied`` is the code that says that an earlier try was carried out.
        """
        status, answer, again = await self.send(method, path, **form)
        if again and applied and answer.get("_msg") == applied:
            self.figures.applied_without_answer += 1
        else:
            assert (status, answer["_success"]) == (200, True), (method, path, form, again, answer)
        self.figures.done[kind] += 1
        return again

    async def read(self, path: str) -> Any:
        """Return ``_data``, or None for what does not exist."""
        status, answer, _ = await self.send("GET", path)
        if status == 404:
            return None
        assert status == 200, answer
        return answer.get("_data")

    def _name(self, kind: str) -> str:
        self._next += 1
        return f"{kind}{self._next}@{self.domain}"

    # -- writes ------------------------------------------------------------------------------------

    async def one(self) -> None:
        """Make one write of some kind."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.add_user, self.add_user, self.add_alias, self.add_or_remove_domain,
        ]  # fmt: skip
        if self.users:
            kinds += [
                self.change_user, self.change_user, self.forward, self.alias_address,
                self.set_throttle, self.add_to_blacklist, self.rename, self.remove_user,
                self.switch, self.promote,
            ]  # fmt: skip
        if self.aliases:
            kinds += [self.change_members, self.remove_alias]
        await self.random.choice(kinds)()

    def _user(self) -> str:
        return self.random.choice(sorted(self.users))

    async def add_user(self) -> None:
        mail = self._name("u")
        await self.write(
            "create user", "POST", f"user/{mail}", "ALREADY_EXISTS",
            password=PASSWORD, name="N", quota="5",
        )  # fmt: skip
        self.users[mail] = Account(
            {"name": "N", "quota": 5, "forwardings": [mail], "aliases": [], "active": 1}
        )

    async def change_user(self) -> None:
        mail, name, quota = self._user(), f"N{self.random.random()}", self.random.randrange(1, 99)
        await self.write("change user", "PUT", f"user/{mail}", name=name, quota=str(quota))
        self.users[mail].fields |= {"name": name, "quota": quota}

    async def switch(self) -> None:
        mail = self._user()
        active = self.random.randrange(2)
        word = "active" if active else "disabled"
        await self.write("enable, disable", "PUT", f"user/{mail}", accountStatus=word)
        self.users[mail].fields["active"] = active

    async def promote(self) -> None:
        mail = self._user()
        yes = self.random.randrange(2)
        change = {"addAdmin": mail} if yes else {"removeAdmin": mail}
        await self.write("change admins", "PUT", f"domain/admins/{self.domain}", **change)
        self.admins = self.admins | {mail} if yes else self.admins - {mail}

    async def forward(self) -> None:
        mail = self._user()
        others = [f"x{n}@gmail.com" for n in range(self.random.randrange(1, 4))]
        await self.write(
            "set forwardings", "PUT", f"user/{mail}", forwarding=",".join([mail, *others])
        )
        self.users[mail].fields["forwardings"] = sorted([mail, *others])

    async def alias_address(self) -> None:
        mail, alias = self._user(), self._name("a")
        await self.write("set alias addresses", "PUT", f"user/{mail}", aliases=alias)
        self.users[mail].fields["aliases"] = [alias]

    async def set_throttle(self) -> None:
        mail, number = self._user(), self.random.randrange(1, 999)
        await self.write(
            "set throttle", "POST", f"throttle/{mail}/outbound", period="60", max_msgs=str(number)
        )
        self.users[mail].throttle = number

    async def add_to_blacklist(self) -> None:
        mail, remote = self._user(), f"spam{self.random.randrange(9)}@far.org"
        await self.write("blacklist", "POST", f"wblist/inbound/blacklist/{mail}", addresses=remote)
        self.users[mail].blacklist.add(remote)

    async def rename(self) -> None:
        old, new = self._user(), self._name("r")
        again = await self.write(
            "rename", "POST", f"user/{old}/change_email/{new}", "NO_SUCH_ACCOUNT"
        )
        account = self.users.pop(old)
        account.policies_sure = account.policies_sure and not again
        mails = account.fields["forwardings"]
        account.fields["forwardings"] = sorted(new if mail == old else mail for mail in mails)
        self.users[new] = account
        self.admins = {new if mail == old else mail for mail in self.admins}
        for alias in self.aliases.values():
            members = alias.fields["members"]
            alias.fields["members"] = sorted(new if mail == old else mail for mail in members)

    async def remove_user(self) -> None:
        mail = self._user()
        await self.write("delete user", "DELETE", f"user/{mail}", "NO_SUCH_ACCOUNT")
        del self.users[mail]
        self.admins.discard(mail)
        for alias in self.aliases.values():
            members = alias.fields["members"]
            alias.fields["members"] = [member for member in members if member != mail]

    async def add_alias(self) -> None:
        address = self._name("l")
        await self.write("create alias", "POST", f"alias/{address}", "ALREADY_EXISTS", name="L")
        self.aliases[address] = Account({"name": "L", "members": []})

    async def change_members(self) -> None:
        address = self.random.choice(sorted(self.aliases))
        members = ["z@gmail.com", *self.random.sample(sorted(self.users), min(2, len(self.users)))]
        await self.write("set members", "PUT", f"alias/{address}", members=",".join(members))
        self.aliases[address].fields["members"] = sorted(members)

    async def remove_alias(self) -> None:
        address = self.random.choice(sorted(self.aliases))
        await self.write("delete alias", "DELETE", f"alias/{address}", "NO_SUCH_ACCOUNT")
        del self.aliases[address]

    async def add_or_remove_domain(self) -> None:
        if self.domains:
            domain = self.domains.pop()
            await self.write("delete domain", "DELETE", f"domain/{domain}", "NO_SUCH_DOMAIN")
            return
        self._next += 1
        domain = f"d{self._next}.{self.domain}"
        await self.write("create domain", "POST", f"domain/{domain}", "ALREADY_EXISTS")
        self.domains.add(domain)
        await self.write(
            "create user", "POST", f"user/u@{domain}", "ALREADY_EXISTS", password=PASSWORD
        )

    # -- reading again -----------------------------------------------------------------------------

    async def verify(self) -> None:
        """Compare everything that is there with what was acknowledged."""
        assert sorted(await self.read(f"users/{self.domain}?email_only=yes")) == sorted(self.users)
        found = await self.read(f"aliases/{self.domain}?email_only=yes")
        assert sorted(found) == sorted(self.aliases)
        profile = await self.read(f"domain/{self.domain}?view=canonical")
        assert set(profile["admins"]) == self.admins
        for path, accounts in (("user", self.users), ("alias", self.aliases)):
            for mail, account in accounts.items():
                profile = await self.read(f"{path}/{mail}?view=canonical")
                shown = {name: _plain(profile, name) for name in account.fields}
                assert shown == account.fields, mail
        for mail, account in self.users.items():
            throttle = (await self.read(f"throttle/{mail}/outbound")).get("max_msgs")
            blacklist = set(await self.read(f"wblist/inbound/blacklist/{mail}"))
            if not account.policies_sure and (throttle, blacklist) == (None, set()):
                self.figures.policies_lost += bool(account.throttle or account.blacklist)
                continue
            assert (throttle, blacklist) == (account.throttle, account.blacklist), mail


def _plain(profile: dict[str, Any], name: str) -> Any:
    names = {"forwardings": "forwarding", "active": "accountStatus"}
    value = profile[name] if name in profile else profile[names[name]]
    if name == "active":
        return int(value in (1, "active"))
    return sorted(value) if isinstance(value, list) else value


@asynccontextmanager
async def storage(name: str) -> AsyncIterator[tuple[Store, Callable[[], None] | None]]:
    """A storage of its own, whose server keeps what it has committed when it is killed."""
    if name != "sqlite":
        need(name)
    async with AsyncExitStack() as stack:
        suffix = f"torture_{os.getpid()}"
        restart: Callable[[], None] | None = None
        if name == "sqlite":
            directory = temporary_directory("sqlite")
            stack.callback(remove_directory, directory)
            store = await create_sqlite(directory)
        elif name == "postgresql":
            pg = PostgresqlServer({**postgresql.SETTINGS, **postgresql.KEEPS_COMMITS})
            stack.callback(pg.stop)
            store, restart = await pg.create_store(suffix), pg.restart
        else:
            maria = MariadbServer([*mariadb.SETTINGS, *mariadb.KEEPS_COMMITS])
            stack.callback(maria.stop)
            restart = maria.restart
            ldap = None
            if name == "openldap":
                ldap = OpenldapServer(sync=True)
                stack.callback(ldap.stop)
                restart = ldap.crash
            store = await maria.create_store(suffix, ldap)
        stack.push_async_callback(store.close)
        await store.reset()
        yield store, restart


async def nothing_begun(store: Store) -> None:
    """Wait until the service has taken back what was cut off: it looks every 15 seconds."""
    state = await open_state(settings_for(store))
    try:
        for _ in range(60):
            if not await state.journal.open():
                return
            await asyncio.sleep(1)
        raise AssertionError(await state.journal.open())
    finally:
        await state.connections.close()


@pytest.mark.parametrize("name", ALL_STORES)
async def test_nothing_acknowledged_is_lost(name: str, tmp_path: Path) -> None:
    """And nothing is half made."""
    figures = Figures()
    async with storage(name) as (store, restart):
        await add_root(store)
        target = Target(store, restart, figures)
        try:
            await target.start()
            writers = [Writer(number, target, figures) for number in range(WRITERS)]
            for writer in writers:
                await writer.write("create domain", "POST", f"domain/{writer.domain}")
            began = time.monotonic()
            torment = asyncio.create_task(target.torment(random.Random(1)))

            async def work(writer: Writer) -> None:
                for _ in range(WRITES // WRITERS):
                    assert not target.trouble, target.trouble
                    await writer.one()

            try:
                await asyncio.gather(*(work(writer) for writer in writers))
            finally:
                torment.cancel()
                with suppress(asyncio.CancelledError):
                    await torment
            figures.seconds = time.monotonic() - began
            if not target.up.is_set():
                await target.start()
            await nothing_begun(store)
            for writer in writers:
                await writer.verify()
        finally:
            target.close()
        print(f"\n{name}: {figures}")
        assert figures.kills > 0
        found, result = await examine(store, **found_on_this_host())
        assert (found, result.status) == ([], 0)
