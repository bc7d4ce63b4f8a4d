"""Parallel clients that record which changes were acknowledged, and compare the tables with them.

Each client has accounts of its own (bundles); what all of them change is a domain and the members
of an alias in it. A change whose answer is an error of the server, or did not come, may be carried
out or not: the bundle is left as it is after it, and must be as before or as after that change.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx

from tests.clients import PASSWORD, ROOT
from tests.cluster import facts
from tests.cluster.changes import Changes
from tests.cluster.figures import Figures
from tests.cluster.states import (
    BESIDE_LDAP,
    BESIDE_SQL,
    DOMAINS,
    PAUSE,
    Bundle,
    Domain,
    Sent,
    State,
)
from tests.servers.snapshot import Dump, dump
from tests.servers.store import Store

OWN_DOMAIN: Final = 0.1
"""The share of bundles with a domain of their own."""
MOST_SENT: Final = 100
"""Requests about one shared domain that are remembered."""
ONE_VALUE: Final = ("description", "users")


class Values:
    """What many clients change side by side: each value belongs to one of them."""

    def __init__(self) -> None:
        self.present: dict[str, bool] = {}
        self.unsure: set[str] = set()
        self.sent: list[Sent] = []

    def wrong(self, found: set[str], what: str) -> list[str]:
        """Compare with what is stored."""
        wanted = {value for value, present in self.present.items() if present}
        lost, more = (wanted - found) - self.unsure, (found - wanted) - self.unsure
        return [
            facts.told(
                f"{what}: {value} is {'lost' if value in lost else 'not expected'}",
                [each for each in self.sent if each.request.endswith(f"{value!r}}}")],
            )
            for value in sorted(lost | more)
        ]


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
        self._domain_changes: dict[str, list[Sent]] = {domain: [] for domain in DOMAINS}

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
        self,
        client: httpx.AsyncClient,
        kind: str,
        method: str,
        path: str,
        form: dict[str, Any],
        sent: list[Sent],
    ) -> str:
        """Send a change; returns ``ok``, ``refused`` (nothing has happened) or ``unsure``.

        Request and answer are added to ``sent``.
        """
        request = f"{client.base_url.port} {method} {path} {form or ''}"
        moment = time.monotonic() - self.figures.began
        try:
            response = await client.request(method, path, data=form or None)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            sent.append(Sent(moment, request, repr(error)))
            self.figures.answers[type(error).__name__] += 1
            return "unsure"
        status, code = response.status_code, answer.get("_msg", "")
        sent.append(Sent(moment, request, f"{status} {json.dumps(answer)}"))
        if status == 200 and answer["_success"] and "_skipped" not in answer:
            self.figures.answers["200"] += 1
            self.figures.acknowledged[kind] += 1
            return "ok"
        self.figures.answers[f"{status} {code}"] += 1
        if status == 503:
            if "Retry-After" not in response.headers:
                return "unsure"
            # Nothing was changed, and all servers may be asked again.
            await asyncio.sleep(PAUSE)
            return "refused"
        if code == "CHANGED_MEANWHILE":
            self.figures.meanwhile[kind] += 1
            return "refused"
        if self._late and status == 404:
            return "refused"
        self.figures.wrong.append(f"{method} {path} {form}: {status} {answer}")
        return "unsure"

    async def repeat(self) -> None:
        """Send all changes again that had no clear answer: then each must be carried out."""
        async with self.client(0) as client:
            for bundle in self.bundles:
                if bundle.other is None or bundle.request is None:
                    continue
                method, path, form = bundle.request
                response = await client.request(method, path, data=form or None)
                answer = response.json()
                bundle.sent.append(
                    Sent(
                        time.monotonic() - self.figures.began,
                        f"again: {method} {path} {form or ''}",
                        f"{response.status_code} {json.dumps(answer)}",
                    )
                )
                done = response.status_code == 404 or answer.get("_msg") == "ALREADY_EXISTS"
                if response.status_code == 200 or done:
                    bundle.state, bundle.other = bundle.other, None
                else:
                    self.figures.wrong.append(str(bundle.sent[-1]))

    async def deliver(self, mail: str, size: int, sent: list[Sent]) -> str:
        """Write what Dovecot writes about a mailbox; returns ``ok`` or ``unsure``."""
        row = {"username": mail, "bytes": size, "messages": 1}
        moment = time.monotonic() - self.figures.began
        try:
            await self.store.insert("used_quota", row, database=self.store.accounts)
        except Exception as error:  # whatever a server that was killed makes of it
            self.figures.answers[f"Dovecot: {type(error).__name__}"] += 1
            sent.append(Sent(moment, f"Dovecot {row}", repr(error)))
            return "unsure"
        sent.append(Sent(moment, f"Dovecot {row}", "ok"))
        return "ok"

    # -- clients -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let all clients work until ``over``, which is set when enough was acknowledged."""
        self.figures.began = time.monotonic()
        async with AsyncExitStack() as stack:
            tasks = stack.enter_context(_Tasks())
            for number in range(self._clients):
                client = await stack.enter_async_context(self.client(number))
                random_ = random.Random(self._seed + number)
                tasks.start(Changes(self, number, client, random_).run())
            for number, domain in enumerate(DOMAINS):
                # Both values of one row, through different services.
                for step, name in enumerate(ONE_VALUE):
                    client = await stack.enter_async_context(self.client(number + step))
                    tasks.start(self._update_domain(client, domain, name))
            await tasks.finish()
        self.figures.seconds = time.monotonic() - self.figures.began

    async def _update_domain(self, client: httpx.AsyncClient, domain: str, name: str) -> None:
        """Change one value of a domain again and again."""
        number = 0
        sent = {"description": "name", "users": "numberOfUsers"}[name]
        while not self.over.is_set():
            number += 1
            value: Any = f"D{number}" if name == "description" else 1_000_000 + number
            path = f"domain/{domain}"
            log = self._domain_changes[domain]
            outcome = await self.send(client, "domain update", "PUT", path, {sent: value}, log)
            del log[:-MOST_SENT]
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
        path = f"alias/team@{domain}"
        outcome = await self.send(client, "shared members", "PUT", path, form, team.sent)
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
        stored = await facts.read(self.store, self._before)
        found = stored.facts
        shared = {*DOMAINS, *(f"team@{domain}" for domain in DOMAINS)}
        beside = BESIDE_SQL if self.store.openldap is None else BESIDE_LDAP
        wrong = [*stored.odd, *facts.compare(stored, self.bundles, shared, beside)]
        for domain in DOMAINS:
            owner = f"team@{domain}"
            members = {f.values[0] for f in found if (f.kind, f.owner) == ("member", owner)}
            wrong += self._teams[domain].wrong(members, owner)
            rows = [f.values for f in found if (f.kind, f.owner) == ("domain", domain)]
            sure = self._sure[domain]
            if len(rows) != 1 or any(
                value not in sure[name] for name, value in zip(ONE_VALUE, rows[0], strict=True)
            ):
                title = f"{domain} is {rows}, not {sure}"
                wrong.append(facts.told(title, self._domain_changes[domain][-20:]))
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
