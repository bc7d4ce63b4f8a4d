"""Parallel clients that record which changes were acknowledged, and compare the tables with them.

Each client has accounts of its own (bundles); what all of them change is a domain and the members
of an alias in it. A change whose answer is an error of the server, or did not come, may be carried
out or not: the bundle is left as it is after it, and must be as before or as after that change.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT
from tests.cluster import facts
from tests.cluster.states import BESIDE_LDAP, BESIDE_SQL, Alias, Bundle, Domain, State, User
from tests.servers.snapshot import Dump, dump
from tests.servers.store import Store

HASH: Final = hash_password(PASSWORD)
"""Sent instead of a password: hashing is not what is tested."""
DOMAINS: Final = ("shared0.test", "shared1.test", "shared2.test")
OWN_DOMAIN: Final = 0.1
"""The share of bundles with a domain of their own."""
PAUSE: Final = 0.4
"""Seconds that a client waits after an answer that is no clear one."""
ONE_VALUE: Final = ("description", "users")


@dataclass
class Figures:
    """What was answered, and how often."""

    acknowledged: Counter[str] = field(default_factory=Counter)
    """By the kind of the change."""
    answers: Counter[str] = field(default_factory=Counter)
    """By ``STATUS _msg``; 200 for what was acknowledged."""
    meanwhile: Counter[str] = field(default_factory=Counter)
    """409 CHANGED_MEANWHILE, by the kind of the change."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no cluster excuses."""
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """How many changes were acknowledged."""
        return self.acknowledged.total()

    @property
    def meanwhile_share(self) -> float:
        """The share of CHANGED_MEANWHILE among all answers."""
        return self.meanwhile.total() / max(self.answers.total(), 1)

    def __str__(self) -> str:
        """Return a few lines."""
        return (
            f"{self.total} changes acknowledged in {self.seconds:.0f} s: "
            f"{dict(self.acknowledged)}\nanswers: {dict(self.answers)}\n"
            f"CHANGED_MEANWHILE: {self.meanwhile_share:.3%} {dict(self.meanwhile)}\n"
            f"wrong answers: {self.wrong[:5]}"
        )


class Values:
    """What many clients change side by side: each value belongs to one of them."""

    def __init__(self) -> None:
        self.present: dict[str, bool] = {}
        self.unsure: set[str] = set()

    def wrong(self, found: set[str], what: str) -> list[str]:
        """Compare with what is stored."""
        wanted = {value for value, present in self.present.items() if present}
        lost, more = (wanted - found) - self.unsure, (found - wanted) - self.unsure
        return [f"{what}: lost {sorted(lost)}, not expected {sorted(more)}"] if lost | more else []


class Recorder:
    """Changes accounts through services until enough was acknowledged.

    ``late`` allows 404 for what was acknowledged: the servers replicate asynchronously.
    """

    def __init__(
        self,
        store: Store,
        addresses: Sequence[str],
        *,
        changes: int,
        clients: int = 8,
        late: bool = False,
        seed: int = 1,
    ) -> None:
        self.store, self.addresses, self.changes = store, addresses, changes
        self.figures = Figures()
        self.over = asyncio.Event()
        self.bundles: list[Bundle] = []
        self.cookies: dict[str, str] = {}
        self._clients, self._late, self._seed = clients, late, seed
        self._numbers = 0
        self._before: Dump = {}
        self._teams = {domain: Values() for domain in DOMAINS}
        self._sure: dict[str, dict[str, set[Any]]] = {
            domain: {name: {getattr(Domain(domain, ""), name)} for name in ONE_VALUE}
            for domain in DOMAINS
        }

    # -- requests ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def client(self, number: int) -> AsyncIterator[httpx.AsyncClient]:
        """A client of one of the services, logged in as the global admin."""
        async with httpx.AsyncClient(
            base_url=f"{self.addresses[number % len(self.addresses)]}/api/",
            cookies=self.cookies,
            timeout=90,
            trust_env=False,
        ) as client:
            yield client

    async def prepare(self) -> None:
        """Log in, and make what is shared; nothing is killed yet."""
        self._before = await dump(self.store)
        async with self.client(0) as client:
            answer = await client.post("login", data={"username": ROOT, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            self.cookies = dict(answer.cookies)
            for domain in DOMAINS:
                for path in (f"domain/{domain}", f"alias/team@{domain}"):
                    answer = await client.post(path)
                    assert answer.status_code == 200, answer.text

    async def send(
        self, client: httpx.AsyncClient, kind: str, method: str, path: str, form: dict[str, Any]
    ) -> str:
        """Send a change; returns ``ok``, ``refused`` (nothing has happened) or ``unsure``."""
        try:
            response = await client.request(method, path, data=form or None)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            self.figures.answers[type(error).__name__] += 1
            return "unsure"
        status, code = response.status_code, answer.get("_msg", "")
        if status == 200 and answer["_success"] and "_skipped" not in answer:
            self.figures.answers["200"] += 1
            self.figures.acknowledged[kind] += 1
            return "ok"
        self.figures.answers[f"{status} {code}"] += 1
        if status == 503:
            return "unsure"
        if code == "CHANGED_MEANWHILE":
            self.figures.meanwhile[kind] += 1
            return "refused"
        if self._late and status == 404:
            return "refused"
        self.figures.wrong.append(f"{method} {path} {form}: {status} {answer}")
        return "unsure"

    async def deliver(self, mail: str, size: int) -> str:
        """Write what Dovecot writes about a mailbox; returns ``ok`` or ``unsure``."""
        row = {"username": mail, "bytes": size, "messages": 1}
        try:
            await self.store.insert("used_quota", row, database=self.store.accounts)
        except Exception as error:  # whatever a server that was killed makes of it
            self.figures.answers[f"Dovecot: {type(error).__name__}"] += 1
            return "unsure"
        return "ok"

    # -- clients -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let all clients work until ``over``, which is set when enough was acknowledged."""
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            tasks = stack.enter_context(_Tasks())
            for number in range(self._clients):
                client = await stack.enter_async_context(self.client(number))
                tasks.start(_Client(self, number, client, random.Random(self._seed + number)).run())
            for number, domain in enumerate(DOMAINS):
                # Both values of one row, through different services.
                for step, name in enumerate(ONE_VALUE):
                    client = await stack.enter_async_context(self.client(number + step))
                    tasks.start(self._update_domain(client, domain, name))
            await tasks.finish()
        self.figures.seconds = time.monotonic() - began

    async def _update_domain(self, client: httpx.AsyncClient, domain: str, name: str) -> None:
        """Change one value of a domain again and again."""
        number = 0
        sent = {"description": "name", "users": "numberOfUsers"}[name]
        while not self.over.is_set():
            number += 1
            value: Any = f"D{number}" if name == "description" else 1_000_000 + number
            path = f"domain/{domain}"
            outcome = await self.send(client, "domain update", "PUT", path, {sent: value})
            values = self._sure[domain][name]
            if outcome == "ok":
                values.clear()
            if outcome != "refused":
                values.add(value)
            await asyncio.sleep(PAUSE if outcome == "unsure" else 0.15)

    def acknowledged_enough(self) -> bool:
        """Whether enough was acknowledged."""
        return self.figures.total >= self.changes

    def new_bundle(self, random_: random.Random) -> Bundle:
        """Return accounts that nobody else has."""
        self._numbers += 1
        own = random_.random() < OWN_DOMAIN
        domain = f"d{self._numbers}.test" if own else random_.choice(DOMAINS)
        bundle = Bundle(self._numbers, domain)
        if own:
            bundle.names.add(domain)
        self.bundles.append(bundle)
        return bundle

    async def change_team(
        self, client: httpx.AsyncClient, who: int, random_: random.Random
    ) -> None:
        """Add a member to an alias that all clients change, or remove one of the own ones."""
        domain = random_.choice(DOMAINS)
        team = self._teams[domain]
        mine = [mail for mail, there in team.present.items()
                if there and mail not in team.unsure and mail.startswith(f"c{who}-")]  # fmt: skip
        adding = len(mine) < 5
        value = f"c{who}-{len(team.present)}@far.test" if adding else random_.choice(mine)
        form = {"addMember" if adding else "removeMember": value}
        team.present.setdefault(value, False)
        outcome = await self.send(client, "shared members", "PUT", f"alias/team@{domain}", form)
        if outcome == "ok":
            team.present[value] = adding
        elif outcome == "unsure":
            team.unsure.add(value)
            await asyncio.sleep(PAUSE)

    def allow_removed(self, mail: str) -> None:
        """Expect the mailbox of a user who was made and removed elsewhere."""
        bundle = Bundle(0, mail.partition("@")[2], State(removed=frozenset({mail})))
        bundle.names.add(mail)
        self.bundles.append(bundle)

    # -- comparing ---------------------------------------------------------------------------------

    async def faults(self) -> list[str]:
        """Read all tables and return everything that is not as it was acknowledged."""
        found, wrong = await facts.read(self.store, self._before)
        shared = {*DOMAINS, *(f"team@{domain}" for domain in DOMAINS)}
        beside = BESIDE_SQL if self.store.openldap is None else BESIDE_LDAP
        wrong += facts.compare(found, self.bundles, shared, beside)
        for domain in DOMAINS:
            owner = f"team@{domain}"
            members = {f.values[0] for f in found if (f.kind, f.owner) == ("member", owner)}
            wrong += self._teams[domain].wrong(members, owner)
            rows = [f.values for f in found if (f.kind, f.owner) == ("domain", domain)]
            sure = self._sure[domain]
            if len(rows) != 1 or any(
                value not in sure[name] for name, value in zip(ONE_VALUE, rows[0], strict=True)
            ):
                wrong.append(f"{domain} is {rows}, not {sure}")
        return wrong

    def check_answers(self, most_meanwhile: float = 0.005) -> None:
        """Assert that all answers were right ones."""
        assert self.figures.wrong == [], self.figures.wrong[:20]
        assert self.figures.meanwhile_share < most_meanwhile, str(self.figures)


class _Tasks:
    """Tasks that are cancelled at the end."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> _Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()

    def start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def finish(self) -> None:
        await asyncio.gather(*self._tasks)


class _Client:
    """One client with bundles of its own."""

    MOST: Final = 12
    """Bundles at a time."""

    def __init__(
        self, recorder: Recorder, number: int, client: httpx.AsyncClient, random_: random.Random
    ) -> None:
        self._recorder, self._number, self._http, self._random = recorder, number, client, random_
        self._bundles: list[Bundle] = []
        self._names = 0

    async def run(self) -> None:
        while not self._recorder.over.is_set():
            if self._random.random() < 0.08:
                await self._recorder.change_team(self._http, self._number, self._random)
            else:
                await self._change_a_bundle()

    async def _change_a_bundle(self) -> None:
        if len(self._bundles) < self.MOST:
            self._bundles.append(self._recorder.new_bundle(self._random))
        bundle = self._random.choice(self._bundles)
        if await self._change(bundle):
            return
        self._bundles.remove(bundle)

    def _name(self, bundle: Bundle, kind: str) -> str:
        self._names += 1
        name = f"{kind}{self._number}-{self._names}@{bundle.domain}"
        bundle.names.add(name)
        return name

    async def _do(
        self, bundle: Bundle, kind: str, request: tuple[str, str], new: State, **form: Any
    ) -> bool:
        """Send a change that leaves ``new``; returns whether more changes may follow."""
        outcome = await self._recorder.send(self._http, kind, *request, form)
        if outcome == "ok":
            bundle.state = new
        elif outcome == "unsure":
            bundle.other, bundle.change = new, kind
            await asyncio.sleep(PAUSE)
            return False
        return True

    async def _change(self, bundle: Bundle) -> bool:
        """Make one change; returns False when the bundle is at its end."""
        state, own = bundle.state, bundle.domain not in DOMAINS
        if own and state.domain is None:
            if state.removed:
                return False
            new = replace(state, domain=Domain(bundle.domain, "N"))
            return await self._do(
                bundle, "create domain", ("POST", f"domain/{bundle.domain}"), new, name="N"
            )
        changes: list[Callable[[Bundle], Awaitable[bool]]] = []
        if state.user is not None:
            changes += [self._update, self._update, self._readdress, self._switch, self._throttle]
            changes += [self._rename, self._remove_user]
            changes += [self._deliver] if state.user.used is None else []
            changes += [self._create_alias] * 2 if state.alias is None else []
        if state.alias is not None:
            changes += [self._set_members, self._remove_alias]
        if state.domain is not None:
            changes += [self._alias_domain]
            if state.user is not None:
                changes += [self._remove_domain]
        if state.user is None:
            if state.alias is None and len(state.removed) > 1:
                return False
            changes += [self._create_user] * 4
        return await self._random.choice(changes)(bundle)

    async def _create_user(self, bundle: Bundle) -> bool:
        user = User(self._name(bundle, "u"), "N", self._random.randrange(1, 99))
        request = ("POST", f"user/{user.mail}")
        new = replace(bundle.state, user=user)
        return await self._do(
            bundle, "create user", request, new, password_hash=HASH, name="N", quota=user.quota
        )

    def _user(self, bundle: Bundle) -> User:
        assert bundle.state.user is not None
        return bundle.state.user

    async def _put(self, bundle: Bundle, kind: str, user: User, **form: Any) -> bool:
        new = replace(bundle.state, user=user)
        return await self._do(bundle, kind, ("PUT", f"user/{user.mail}"), new, **form)

    async def _update(self, bundle: Bundle) -> bool:
        user = replace(
            self._user(bundle),
            name=f"N{self._random.random()}",
            quota=self._random.randrange(1, 99),
        )
        return await self._put(bundle, "update user", user, name=user.name, quota=user.quota)

    async def _readdress(self, bundle: Bundle) -> bool:
        """Change rows of several tables at once."""
        user = self._user(bundle)
        others = {f"x{n}@far.test" for n in range(self._random.randrange(1, 4))}
        aliases = {self._name(bundle, "a") for _ in range(self._random.randrange(3))}
        user = replace(
            user, name=f"R{self._random.random()}", forwarding=frozenset({user.mail, *others}),
            aliases=frozenset(aliases),
        )  # fmt: skip
        return await self._put(
            bundle, "update addresses", user, name=user.name,
            forwarding=",".join(sorted(user.forwarding)), aliases=",".join(sorted(aliases)),
        )  # fmt: skip

    async def _switch(self, bundle: Bundle) -> bool:
        user = replace(self._user(bundle), active=not self._user(bundle).active)
        word = "active" if user.active else "disabled"
        return await self._put(bundle, "enable, disable", user, accountStatus=word)

    async def _throttle(self, bundle: Bundle) -> bool:
        user = replace(self._user(bundle), throttle=self._random.randrange(1, 999))
        new = replace(bundle.state, user=user)
        request = ("POST", f"throttle/{user.mail}/outbound")
        return await self._do(bundle, "throttle", request, new, period=60, max_msgs=user.throttle)

    async def _deliver(self, bundle: Bundle) -> bool:
        """Let the user have a row that a rename moves and a removal removes."""
        user = replace(self._user(bundle), used=self._random.randrange(1, 999))
        assert user.used is not None
        new = replace(bundle.state, user=user)
        if await self._recorder.deliver(user.mail, user.used) == "ok":
            bundle.state = new
            return True
        bundle.other, bundle.change = new, "deliver"
        return False

    async def _rename(self, bundle: Bundle) -> bool:
        user, mail = self._user(bundle), self._name(bundle, "r")

        def renamed(mails: frozenset[str]) -> frozenset[str]:
            return frozenset(mail if each == user.mail else each for each in mails)

        alias = bundle.state.alias
        new = replace(
            bundle.state,
            user=replace(user, mail=mail, forwarding=renamed(user.forwarding)),
            alias=alias and replace(alias, members=renamed(alias.members)),
        )
        request = ("POST", f"user/{user.mail}/change_email/{mail}")
        return await self._do(bundle, "rename user", request, new)

    async def _remove_user(self, bundle: Bundle) -> bool:
        user, alias = self._user(bundle), bundle.state.alias
        new = replace(
            bundle.state,
            user=None,
            alias=alias and replace(alias, members=alias.members - {user.mail}),
            removed=bundle.state.removed | {user.mail},
        )
        return await self._do(bundle, "remove user", ("DELETE", f"user/{user.mail}"), new)

    async def _create_alias(self, bundle: Bundle) -> bool:
        members = frozenset({self._user(bundle).mail, "z@far.test"})
        alias = Alias(self._name(bundle, "l"), "L", members)
        new = replace(bundle.state, alias=alias)
        return await self._do(
            bundle, "create alias", ("POST", f"alias/{alias.address}"), new,
            name="L", members=",".join(sorted(members)),
        )  # fmt: skip

    async def _set_members(self, bundle: Bundle) -> bool:
        alias, user = bundle.state.alias, bundle.state.user
        assert alias is not None
        members = {f"m{n}@far.test" for n in range(self._random.randrange(1, 5))}
        members |= {user.mail} if user is not None else set()
        new = replace(bundle.state, alias=replace(alias, members=frozenset(members)))
        request = ("PUT", f"alias/{alias.address}")
        return await self._do(
            bundle, "set members", request, new, members=",".join(sorted(members))
        )

    async def _remove_alias(self, bundle: Bundle) -> bool:
        alias = bundle.state.alias
        assert alias is not None
        new = replace(bundle.state, alias=None)
        return await self._do(bundle, "remove alias", ("DELETE", f"alias/{alias.address}"), new)

    async def _alias_domain(self, bundle: Bundle) -> bool:
        domain = bundle.state.domain
        assert domain is not None
        self._names += 1
        name = f"al{self._number}-{self._names}.test"
        new = replace(
            bundle.state, domain=replace(domain, alias_domains=domain.alias_domains | {name})
        )
        request = ("PUT", f"domain/{domain.name}")
        return await self._do(bundle, "add alias domain", request, new, addAliasDomain=name)

    async def _remove_domain(self, bundle: Bundle) -> bool:
        new = State(removed=bundle.state.removed | {self._user(bundle).mail})
        request = ("DELETE", f"domain/{bundle.domain}")
        return await self._do(bundle, "remove domain", request, new)
