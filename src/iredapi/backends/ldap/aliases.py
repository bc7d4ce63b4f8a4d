"""Mail alias accounts in LDAP, and the common namespace of all addresses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from iredapi.backends.ldap import references
from iredapi.backends.ldap.admins import LdapAdmins
from iredapi.backends.ldap.alias_domain_addresses import alias_addresses
from iredapi.backends.ldap.client import Entry, Scope, Search
from iredapi.backends.ldap.dn_layout import ACCOUNTS, both, either, equal, inside
from iredapi.backends.ldap.domain_mapping import count
from iredapi.backends.ldap.domains import LdapDomains
from iredapi.backends.ldap.escaping import names_of_rdn
from iredapi.backends.ldap.list_cache import full_page
from iredapi.backends.ldap.listing import Listed, ListingReader, text_of
from iredapi.backends.ldap.profiles import entry_to_response
from iredapi.backends.ldap.session import Session, address_in, chunks, flag, words
from iredapi.backends.ldap.write_plan import Modify
from iredapi.backends.protocols.values import AddressAvailability, Profile
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.aliases import Alias
from iredapi.domain.search import Owner, owner

_ALIAS = "(objectClass=mailAlias)"


def record(address: str, entry: Entry) -> Alias:
    """Return the record of an alias; LDAP does not store who may send to it."""
    return Alias(
        address,
        name=entry.value("cn"),
        active=flag(entry, "accountStatus", "active"),
        members=words(entry, "mailForwardingAddress"),
    )


def profile_of(entry: Entry) -> Profile:
    """Return the profile: all attributes, and ``members`` as on SQL."""
    return entry_to_response(entry) | {"members": sorted(words(entry, "mailForwardingAddress"))}


class LdapAliases(ListingReader):
    """See ``protocols.accounts.Aliases``."""

    listed = Listed(
        "aliases",
        _ALIAS,
        texts=("mail", "cn"),
        sorts={"name": text_of("cn")},
        added=frozenset({"members"}),
    )

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        return {name: profile_of(entry) for name, entry in (await self.entries(names)).items()}

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Alias]:
        return {name: record(name, entry) for name, entry in (await self.entries(names)).items()}

    async def _entry(self, address: str) -> Entry | None:
        return await self._session.account("mailAlias", self._tree.alias(address), address)

    async def get(self, address: str) -> Alias | None:
        entry = await self._entry(address)
        return None if entry is None else record(address, entry)

    async def claim(self, address: str) -> Alias | None:
        await self._session.lock(domain_of(address))
        return await self.get(address)

    async def profile(self, address: str) -> Profile | None:
        entry = await self._entry(address)
        return None if entry is None else profile_of(entry)

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Entry]:
        async def read(names: list[str]) -> dict[str, Entry]:
            found = await self._session.holders(self._tree.base, Scope.SUB, _ALIAS, "mail", names)
            return {address_in(entry, domain): entry for entry in found}

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
        return [record(address_in(entry, domain), entry) for entry in entries]

    async def addresses(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[str]:
        kind = inside(_ALIAS, domain)
        if disabled_only:
            kind = both(kind, "(!(accountStatus=active))")

        async def read() -> list[str]:
            found = self._session.pages_of_names(Scope.SUB, kind, "mail")
            return list({address_in(entry, domain) async for page in found for entry in page})

        key = ("aliases", domain, disabled_only)
        return await self._session.listings.page(key, after, limit, read)

    async def add(self, alias: Alias) -> None:
        name = domain_of(alias.address)
        domain = await self._session.domain(name)
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
                "shadowAddress": sorted(alias_addresses([alias.address], name, aliases)),
                "domainStatus": ["disabled"] if disabled else [],
            },
        )
        if domain is not None:
            count(self._session.edit(domain), "aliases", 1)

    async def save(self, before: Alias, after: Alias) -> None:
        entry = await self._entry(before.address)
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
        entry = await self._entry(old)
        if entry is None:
            return
        domain = await session.domain(name)
        aliases = frozenset() if domain is None else words(domain, "domainAliasName")
        edit = references.moved(session, entry, old, new)
        if "cn" not in names_of_rdn(entry.dn) and entry.value("cn") == local_part_of(old):
            edit.put("cn", local_part_of(new))
        edit.discard("shadowAddress", sorted(alias_addresses([old], name, aliases)))
        edit.add("shadowAddress", sorted(alias_addresses([new], name, aliases)))
        session.plan.append(Modify(edit.dn, edit.changes()))
        await references.rename(session, old, new, entry.dn, edit.dn)

    async def remove(self, address: str) -> None:
        entries = await self._session.accounts("mailAlias", address)
        if not entries:
            return
        for entry in entries:
            await references.forget(self._session, address, entry.dn)
        domain = await self._session.domain(domain_of(address))
        if domain is not None:
            count(self._session.edit(domain), "aliases", -len(entries))
        for entry in entries:
            await self._session.delete(entry)


class LdapAddresses:
    """See ``protocols.accounts.Addresses``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim(self, address: str) -> AddressAvailability | None:
        domain = await LdapDomains(self._session).claim(domain_of(address))
        if domain is None:
            return None
        taken = _having([address, *domain.alias_addresses(address)], self._session.tree.base)
        admins = LdapAdmins(self._session).standalone([address])
        found = await self._session.find_all([*taken, *admins])
        return AddressAvailability(
            domain,
            any(found),
            frozenset(await self._session.iredadmin.queued(address)),
        )

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        wanted, found = frozenset(addresses), set[str]()
        for entries in await self._session.find_all(_having(wanted, self._session.tree.base)):
            for entry in entries:
                found |= words(entry, "mail") | words(entry, "shadowAddress")
        return frozenset(found) & wanted

    async def owner(self, address: str) -> Owner:
        names = ("objectClass", "mail", "enabledService")
        ((base, scope, wanted, _),) = _having([address], self._session.tree.base)
        return owner(
            [
                _owner(entry, address)
                for entry in await self._session.find(base, scope, wanted, names)
            ]
        )

    async def in_use(self, addresses: Sequence[str]) -> frozenset[str]:
        return await self.taken(addresses)  # the directory ignores case


def _owner(entry: Entry, address: str) -> Owner:
    mails, classes = words(entry, "mail"), words(entry, "objectClass")
    if address not in mails:
        return Owner("alias_address", min(mails, default=""))
    if "maillist" in classes:
        return Owner("ml" if "mlmmj" in words(entry, "enabledService") else "maillist", address)
    return Owner("alias" if "mailalias" in classes else "user", address)


def _having(addresses: Collection[str], base: str) -> list[Search]:
    """Return the searches for accounts with one of these addresses."""
    names = ("mail", "shadowAddress")
    return [
        (
            base,
            Scope.SUB,
            both(ACCOUNTS, either(equal(name, value) for value in some for name in names)),
            names,
        )
        for some in chunks(addresses)
    ]
