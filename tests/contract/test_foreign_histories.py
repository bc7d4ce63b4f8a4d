"""Random rows of other programs, and their end through the API: Postfix answers none of it.

``make fuzz`` tries ``FOREIGN_HISTORIES`` of them on each storage; else a few, always the same.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Any, Final

import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.clients import PASSWORD, Client, Service
from tests.conftest import need
from tests.servers.foreign import Foreign, folded, maps_of
from tests.servers.postfix import PostfixMaps

FULL: Final = "FOREIGN_HISTORIES" in os.environ
HISTORIES: Final = int(os.environ.get("FOREIGN_HISTORIES", "4"))
FAR: Final = (
    "boss@far.org", "bob.@docomo.ne.jp", "a..b@far.org", "root@localhost", "devnull",
    "sla/sh@far.org", "user@[192.0.2.1]", '"quo ted"@far.org', "-dash@far.org",
    "josé@far.org", "x+tag@far.org",
)  # fmt: skip
NEAR: Final = "v@{domain}"
KINDS: Final = ("forwarding", "member", "alias", "admin", "sender", "recipient", "catch_all")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Spelling:
    """Which letters are capitals, and what stands around."""

    capitals: int
    before: str
    after: str

    def of(self, text: str) -> str:
        letters = (c.upper() if self.capitals >> n & 1 else c for n, c in enumerate(text))
        return f"{self.before}{''.join(letters)}{self.after}"

    def plainly(self, text: str) -> str:
        """The same without blanks, as it is sent in a path."""
        return self.of(text).strip()


SPELLINGS = st.builds(
    Spelling,
    st.integers(0, 2**24 - 1),
    st.sampled_from(["", "", " ", "\t"]),
    st.sampled_from(["", "", " ", "\t "]),
)


@dataclass(frozen=True)
class Route:
    """One row, and how it ends."""

    kind: str
    target: str
    stored: Spelling
    named: Spelling
    whole: bool
    """Whether the whole list is emptied, instead of one that is named."""


ROUTES = st.builds(
    Route,
    st.sampled_from(KINDS),
    st.sampled_from([*FAR, NEAR, NEAR, NEAR]),
    SPELLINGS,
    SPELLINGS,
    st.booleans(),
)


@dataclass(frozen=True)
class History:
    """What somebody wrote, and whether the target's account goes before its routes do."""

    routes: list[Route]
    gone: bool
    named: Spelling


HISTORIES_ = st.builds(History, st.lists(ROUTES, min_size=1, max_size=6), st.booleans(), SPELLINGS)


@dataclass
class World:
    """The API, another program, and Postfix, on one store."""

    root: Client
    foreign: Foreign
    maps: Any


@pytest_asyncio.fixture(loop_scope="session")
async def world(service: Service, root: Client, _postfix_maps: dict[str, PostfixMaps]) -> World:
    if service.store.name != "sqlite":
        need("postmap")
    return World(root, Foreign(service.store), maps_of(service.store, _postfix_maps))


class Play:
    """One history in a domain of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.domain = f"h{next(_numbers)}.test"
        self.user, self.near, self.list = (f"{n}@{self.domain}" for n in ("u", "v", "list"))

    async def play(self, history: History) -> None:
        root, foreign = self.world.root, self.world.foreign
        await root.ok("POST", f"domain/{self.domain}")
        for mail in (self.user, self.near):
            await root.ok("POST", f"user/{mail}", password=PASSWORD)
        await root.ok("POST", f"alias/{self.list}")
        await foreign.forwarding(self.user, self.user)
        routes = [route for route in history.routes if self._fits(route)]
        for number, route in enumerate(routes):
            await self._write(number, route)
        await self._read(routes)
        if history.gone:
            await root.ok("DELETE", f"user/{history.named.plainly(self.near)}")
            left = [r for r in routes if self._target(r) != self.near or r.kind == "catch_all"]
            assert self.near not in await self._answers()
            routes = [r for r in left if r.kind != "alias"]
        for number, route in enumerate(routes):
            await self._end(number, route)
        assert await self._answers() <= {self.user}
        await root.ok("DELETE", f"domain/{history.named.plainly(self.domain)}")
        for parameter in ("virtual_mailbox_domains", "relay_domains", "virtual_mailbox_maps"):
            assert await self._found(parameter, self.user, self.near, self.domain) == set()
        assert await self._answers() == await foreign.admins(self.domain) == set()

    def _fits(self, route: Route) -> bool:
        if self.world.foreign.ldap:
            # One value, ASCII, and a catch-all is an account.
            return route.target.isascii() and route.kind != "catch_all"
        return route.kind != "admin" or self._target(route).isascii()

    def _target(self, route: Route) -> str:
        if route.kind in {"alias", "admin"}:
            return self.near
        return route.target.format(domain=self.domain)

    async def _write(self, number: int, route: Route) -> None:
        foreign, text = self.world.foreign, route.stored.of(self._target(route))
        if foreign.ldap:
            text = text.replace("\t", " ")  # slapd takes a tab for a letter
        if route.kind == "forwarding":
            await foreign.forwarding(self.user, text)
        elif route.kind == "member":
            await foreign.member(self.list, text)
        elif route.kind == "alias":
            await foreign.alias(f"a{number}@{self.domain}", self.near, text)
        elif route.kind == "admin":
            await foreign.admin(text, route.named.plainly(self.domain))
        elif route.kind == "catch_all":
            await foreign.catch_all(self.domain, text)
        else:
            await foreign.bcc(route.kind, self.user, text)

    async def _read(self, routes: list[Route]) -> None:
        """Everything that lists show is there, and profiles show what is obeyed."""
        root = self.world.root
        for many, one in (("users", "user"), ("aliases", "alias")):
            for form in ({"email_only": "yes"}, {}, {"view": "canonical"}):
                assert await root.ok("GET", f"{many}/{self.domain}", **form)
            for mail in await root.ok("GET", f"{many}/{self.domain}", email_only="yes"):
                await root.ok("GET", f"{one}/{mail}")
        await root.ok("GET", f"domain/{self.domain}")
        for kind, path in (("forwarding", f"user/{self.user}"), ("member", f"alias/{self.list}")):
            shown = await root.ok("GET", path, view="canonical")
            found = folded(set(shown["forwarding" if kind == "forwarding" else "members"]))
            assert found >= {self._target(route) for route in routes if route.kind == kind}

    async def _end(self, number: int, route: Route) -> None:
        name = route.named.plainly(self._target(route))
        address = f"a{number}@{self.domain}"
        path, remove, reset = {
            "forwarding": (f"user/{self.user}", {"removeForwarding": name}, {"forwarding": ""}),
            "member": (f"alias/{self.list}", {"removeMember": name}, {"members": ""}),
            "alias": (f"user/{self.near}", {"removeAlias": route.named.plainly(address)},
                      {"aliases": ""}),
            "admin": (f"domain/admins/{self.domain}", {"removeAdmin": name},
                      {"removeAllAdmins": "yes"}),
            "catch_all": (f"domain/{self.domain}", {"catchall": ""}, {"catchall": ""}),
            "sender": (f"user/{self.user}", {"senderBcc": ""}, {"senderBcc": ""}),
            "recipient": (f"user/{self.user}", {"recipientBcc": ""}, {"recipientBcc": ""}),
        }[route.kind]  # fmt: skip
        status, answer = await self.world.root.call(
            "PUT", path, data=reset if route.whole else remove
        )
        # What an earlier step has taken away is no error, unless it is no address at all.
        assert status == 200 or answer["_msg"] == "INVALID_MAIL", answer
        if route.kind == "admin":
            assert name.lower() not in await self.world.foreign.admins(self.domain)

    async def _answers(self) -> set[str]:
        """Where anything of the domain is sent to, one step far."""
        names = ("u", "list", "nobody", *(f"a{number}" for number in range(6)))
        keys = [f"{name}@{self.domain}" for name in names]
        found = await self._found("virtual_alias_maps", *keys)
        for side in ("sender", "recipient"):
            found |= await self._found(f"{side}_bcc_maps", self.user)
        return found

    async def _found(self, parameter: str, *keys: str) -> set[str]:
        maps = self.world.maps
        return folded(
            set().union(*[await maps.query_many(n, keys) for n in maps.parameters[parameter]])
        )


@settings(
    max_examples=HISTORIES,
    derandomize=not FULL,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(history=HISTORIES_)
async def test_postfix_answers_nothing_that_was_removed(world: World, history: History) -> None:
    await Play(world).play(history)
