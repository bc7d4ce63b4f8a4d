"""Mail alias accounts in LDAP, and the one namespace of all addresses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from iredapi.backends.ldap import references
from iredapi.backends.ldap.admins import LdapAdmins
from iredapi.backends.ldap.changes import Modify, Rename
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.domains import LdapDomains, count
from iredapi.backends.ldap.edits import Edit
from iredapi.backends.ldap.profiles import shown
from iredapi.backends.ldap.session import Session, chunks, flag, full_page, words
from iredapi.backends.ldap.tree import ACCOUNTS, ALIASES, both, either, equal
from iredapi.backends.ldap.twins import twins
from iredapi.backends.protocols import Profile, Vacancy
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.aliases import Alias

_ALIAS = "(objectClass=mailAlias)"


def record(entry: Entry) -> Alias:
    """Return the neutral record of an alias; who may send to it is nothing that LDAP keeps."""
    return Alias(
        entry.value("mail").lower(),
        name=entry.value("cn"),
        active=flag(entry, "accountStatus", "active"),
        members=words(entry, "mailForwardingAddress"),
    )


def profile_of(entry: Entry) -> Profile:
    """Return what GET shows: the entry, and its members under the name that SQL has for them."""
    return shown(entry) | {"members": sorted(words(entry, "mailForwardingAddress"))}


class LdapAliases:
    """See ``protocols.Aliases``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    async def get(self, address: str) -> Alias | None:
        entry = await self._session.entry(self._tree.alias(address))
        return None if entry is None else record(entry)

    async def claim(self, address: str) -> Alias | None:
        await self._session.lock(domain_of(address))
        return await self.get(address)

    async def profile(self, address: str) -> Profile | None:
        entry = await self._session.entry(self._tree.alias(address))
        return None if entry is None else profile_of(entry)

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Entry]:
        async def read(names: list[str]) -> dict[str, Entry]:
            place = self._tree.container(ALIASES, domain)
            found = await self._session.holders(place, Scope.ONE, _ALIAS, "mail", names)
            return {entry.value("mail").lower(): entry for entry in found}

        listed = partial(self.addresses, domain, disabled_only=disabled_only)
        return await full_page(listed, read, after, limit)

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        entries = await self._page(domain, after, limit, disabled_only=disabled_only)
        return [profile_of(entry) for entry in entries]

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Alias]:
        entries = await self._page(domain, after, limit, disabled_only=disabled_only)
        return [record(entry) for entry in entries]

    async def addresses(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[str]:
        kind = both(_ALIAS, "(!(accountStatus=active))") if disabled_only else _ALIAS

        async def read() -> list[str]:
            found = self._session.pages(
                self._tree.container(ALIASES, domain), Scope.ONE, kind, ("mail",)
            )
            return [entry.value("mail").lower() async for page in found for entry in page]

        key = ("aliases", domain, disabled_only)
        return await self._session.listings.page(key, after, limit, read)

    async def add(self, alias: Alias) -> None:
        name = domain_of(alias.address)
        domain = await self._session.entry(self._tree.domain(name))
        aliases = frozenset() if domain is None else words(domain, "domainAliasName")
        disabled = domain is not None and not flag(domain, "accountStatus", "active")
        self._session.add(
            self._tree.alias(alias.address),
            {
                "objectClass": ["mailAlias"],
                "mail": [alias.address],
                "cn": [alias.name or local_part_of(alias.address)],
                "accountStatus": ["active" if alias.active else "disabled"],
                "enabledService": ["mail", "deliver"],
                "mailForwardingAddress": sorted(alias.members),
                "shadowAddress": sorted(twins([alias.address], name, aliases)),
                "domainStatus": ["disabled"] if disabled else [],
            },
        )
        if domain is not None:
            count(self._session.edit(domain), "aliases", 1)

    async def save(self, before: Alias, after: Alias) -> None:
        entry = await self._session.entry(self._tree.alias(before.address))
        if before == after or entry is None:
            return
        edit = self._session.edit(entry)
        if before.name != after.name:
            edit.put("cn", after.name or local_part_of(after.address))
        if before.active != after.active:
            edit.put("accountStatus", "active" if after.active else "disabled")
        edit.discard("mailForwardingAddress", sorted(before.members - after.members))
        edit.add("mailForwardingAddress", sorted(after.members - before.members))

    async def rename(self, old: str, new: str) -> None:
        session, name = self._session, domain_of(old)
        old_dn, new_dn = self._tree.alias(old), self._tree.alias(new)
        entry = await session.entry(old_dn)
        if entry is None:
            return
        domain = await session.entry(self._tree.domain(name))
        aliases = frozenset() if domain is None else words(domain, "domainAliasName")
        edit = Edit(Entry(new_dn, {k: v for k, v in entry.attributes.items() if k != "mail"}))
        if entry.value("cn") == local_part_of(old):
            edit.put("cn", local_part_of(new))
        edit.discard("shadowAddress", sorted(twins([old], name, aliases)))
        edit.add("shadowAddress", sorted(twins([new], name, aliases)))
        session.plan.append(Rename(entry.dn, new_dn))
        session.plan.append(Modify(new_dn, edit.changes()))
        await references.rename(session, old, new, old_dn, new_dn)

    async def remove(self, address: str) -> None:
        dn = self._tree.alias(address)
        entry = await self._session.entry(dn)
        if entry is None:
            return
        await references.forget(self._session, address, dn)
        self._session.delete(entry)
        domain = await self._session.entry(self._tree.domain(domain_of(address)))
        if domain is not None:
            count(self._session.edit(domain), "aliases", -1)


class LdapAddresses:
    """See ``protocols.Addresses``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim(self, address: str) -> Vacancy | None:
        domain = await LdapDomains(self._session).claim(domain_of(address))
        if domain is None:
            return None
        taken = await self.taken([address, *domain.twins(address)])
        return Vacancy(
            domain,
            bool(taken) or bool(await LdapAdmins(self._session).exists([address])),
            frozenset(await self._session.panel.queued(address)),
        )

    async def claim_all(self, addresses: Sequence[str]) -> list[Vacancy | None] | None:
        del addresses  # each entry is a write of its own: nothing would be shared
        return None

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        wanted, found = frozenset(addresses), set[str]()
        for some in chunks(wanted):
            terms = [equal(name, value) for value in some for name in ("mail", "shadowAddress")]
            for entry in await self._session.find(
                self._session.tree.base,
                Scope.SUB,
                both(ACCOUNTS, either(terms)),
                ("mail", "shadowAddress"),
            ):
                found |= words(entry, "mail") | words(entry, "shadowAddress")
        return frozenset(found) & wanted
