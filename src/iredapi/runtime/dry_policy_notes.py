"""What the methods that write would change of policies, told by what they get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from iredapi.domain import spam
from iredapi.domain.addresses import fold
from iredapi.domain.throttles import INHERIT, LIMITS
from iredapi.domain.wblists import Kind
from iredapi.runtime.dry_run import DryRun, View

_PAGE: Final = 200


class PolicyNotes:
    """The notes of policies; their names are those of roles and methods."""

    def __init__(self, roles: Any, dry: DryRun) -> None:
        """``roles``: those of the unit, as they are without notes."""
        self._unit = roles
        self._dry = dry

    async def _spam_policies_add(self, policy: Any) -> None:
        self._dry.note("spampolicy", policy.account, None, spam.described(policy.columns))

    async def _spam_policies_save(self, before: Any, after: Any) -> None:
        old, new = spam.described(before.columns), spam.described(after.columns)
        self._dry.note("spampolicy", before.account, old, new)

    async def _spam_policies_remove(self, scope: Any) -> None:
        found = await self._unit.spam_policies.get(scope)
        if found is not None:
            self._dry.note("spampolicy", found.account, spam.described(found.columns), None)

    async def _throttles_save(self, before: Any, after: Any) -> None:
        old, new = _throttle(before), _throttle(after)
        self._dry.note(f"throttle {before.direction}", before.account, old, new)

    async def _throttles_remove(self, account: str, direction: str) -> None:
        found = await self._unit.throttles.get(account, direction)
        if found is not None:
            self._dry.note(f"throttle {direction}", account, _throttle(found), None)

    async def _wblists_add(
        self, scope: Any, direction: Any, kind: Any, addresses: Mapping[str, int]
    ) -> None:
        other = Kind.BLACKLIST if kind is Kind.WHITELIST else Kind.WHITELIST
        there = await self._unit.wblists.stored(scope, direction, kind, addresses, exact=True)
        moved = await self._unit.wblists.stored(scope, direction, other, addresses)
        new = {address: kind.value for address in sorted(addresses) if address not in there}
        old = {address: other.value for address in new if address in moved}
        self._dry.note(f"wblist {direction}", scope.account, old, new)

    async def _wblists_remove(
        self, scope: Any, direction: Any, kind: Any, addresses: Collection[str]
    ) -> None:
        old = dict.fromkeys(sorted(addresses), kind.value)
        self._dry.note(f"wblist {direction}", scope.account, old, {})

    async def _wblists_clear(self, scope: Any, direction: Any, kind: Any) -> None:
        after = ""
        while not self._dry.more:
            page = await self._unit.wblists.page(scope, direction, kind, after, _PAGE)
            old = dict.fromkeys(page, kind.value)
            self._dry.note(f"wblist {direction}", scope.account, old, {})
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def _greylists_save(self, account: str, priority: int, *, active: bool) -> None:
        found = await self._unit.greylists.get(account)
        old = None if found is None else _greylisting(found.priority, active=found.active)
        self._dry.note("greylisting", account, old, _greylisting(priority, active=active))

    async def _greylists_remove(self, account: str) -> None:
        found = await self._unit.greylists.get(account)
        if found is not None:
            old = _greylisting(found.priority, active=found.active)
            self._dry.note("greylisting", account, old, None)

    async def _greylists_add_senders(self, account: str, senders: Iterable[str]) -> None:
        there = await self._senders(account)
        self._note_items("greylisting senders", account, set(senders) - there, ())

    async def _greylists_remove_senders(self, account: str, texts: Iterable[str]) -> None:
        gone = {fold(text) for text in texts}
        there = await self._senders(account)
        found = {sender for sender in there if fold(sender) in gone}
        self._note_items("greylisting senders", account, (), found)

    async def _greylists_replace_senders(self, account: str, senders: Iterable[str]) -> None:
        there, wanted = await self._senders(account), set(senders)
        self._note_items("greylisting senders", account, wanted - there, there - wanted)

    async def _greylists_add_domains(self, domains: Iterable[str]) -> None:
        there = await self._domains()
        self._note_items("greylisting domains", "global", set(domains) - there, ())

    async def _greylists_remove_domains(self, texts: Iterable[str]) -> None:
        gone = {fold(text) for text in texts}
        found = {name for name in await self._domains() if fold(name) in gone}
        self._note_items("greylisting domains", "global", (), found)

    async def _greylists_replace_domains(self, domains: Iterable[str]) -> None:
        there, wanted = await self._domains(), set(domains)
        self._note_items("greylisting domains", "global", wanted - there, there - wanted)

    async def _greylists_save_derived(
        self, networks: Mapping[str, Iterable[str]], *, complete: Collection[str]
    ) -> None:
        del complete
        # They are written in any case, and nobody can read which were stored.
        for domain, found in sorted(networks.items()):
            self._dry.note("greylisting networks", domain, None, {"networks": sorted(found)})

    # What they need

    async def _senders(self, account: str) -> set[str]:
        return await _all(lambda after: self._unit.greylists.senders([account], after, _PAGE))

    async def _domains(self) -> set[str]:
        return await _all(lambda after: self._unit.greylists.domains(after, _PAGE))

    def _note_items(
        self, kind: str, account: str, added: Iterable[str], removed: Iterable[str]
    ) -> None:
        self._dry.note(kind, account, {}, dict.fromkeys(sorted(added), "listed"))
        self._dry.note(kind, account, dict.fromkeys(sorted(removed), "listed"), {})


async def _all(read: Callable[[str], Awaitable[list[str]]]) -> set[str]:
    found: set[str] = set()
    after = ""
    while page := await read(after):
        found.update(page)
        if len(page) < _PAGE:
            break
        after = page[-1]
    return found


def _greylisting(priority: int, *, active: bool) -> View:
    return {"status": "enable" if active else "disable", "priority": priority}


def _throttle(found: Any) -> View:
    if not found.period and all(found.limit(name) == INHERIT for name in LIMITS):
        return {}  # a row without any limit is like none
    values = asdict(found)
    for name in ("account", "direction", "priority"):
        del values[name]
    return values
