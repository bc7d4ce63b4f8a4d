"""One client that changes accounts of its own, one random change after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import httpx

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD
from tests.cluster.states import DOMAINS, PAUSE, Alias, Bundle, Domain, State, User

if TYPE_CHECKING:
    from tests.cluster.recorder import Recorder

HASH: Final = hash_password(PASSWORD)
"""Sent instead of a password: hashing is not what is tested."""


class Changes:
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
        """Make changes until the recorder is at its end."""
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
        outcome = await self._recorder.send(self._http, kind, *request, form, bundle.sent)
        if outcome == "ok":
            bundle.state = new
        elif outcome == "unsure":
            bundle.other, bundle.change, bundle.request = new, kind, (*request, form)
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
        if await self._recorder.deliver(user.mail, user.used, bundle.sent) == "ok":
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
