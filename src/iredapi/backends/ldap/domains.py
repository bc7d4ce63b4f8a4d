"""Mail domains in LDAP: the domain's entry, its containers, its catch-all account."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from iredapi.backends.ldap import alias_domain_addresses, settings_values
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import (
    ACCOUNTS,
    CONTAINERS,
    DOMAIN,
    USER,
    both,
    either,
    equal,
    everything,
    inside,
    same,
)
from iredapi.backends.ldap.domain_mapping import COUNTERS, MEGABYTE, put_changes, record
from iredapi.backends.ldap.domain_removal import remove_domain
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.escaping import split_rdn
from iredapi.backends.ldap.list_cache import full_page
from iredapi.backends.ldap.listing import Listed, ListingReader, text_of
from iredapi.backends.ldap.profiles import domain_profile
from iredapi.backends.ldap.session import (
    chunks,
    flag,
    number,
    words,
)
from iredapi.backends.protocols.values import Profile, Removal, Usage
from iredapi.domain.addresses import domain_of
from iredapi.domain.domains import Domain
from iredapi.domain.inventory import AliasDomain
from iredapi.domain.limits import Allocation, Totals

_INACTIVE = "(!(accountStatus=active))"
_QUOTA = (
    settings_values.ATTRIBUTE,
    lambda entry: settings_values.megabytes(entry.values(settings_values.ATTRIBUTE)),
)
_Entries = tuple[Entry, Entry | None, list[Entry]]
"""A domain, its catch-all account, and other accounts that catch its mail."""


def _catchalls(names: Sequence[str]) -> str:
    """Return a filter for accounts that get the mail for any local part of these domains."""
    own = either([equal("mail", f"@{name}") for name in names])
    shadows = either([equal("shadowAddress", f"@{name}") for name in names])
    return either([both(USER, own), both(ACCOUNTS, shadows)])


class LdapDomains(ListingReader):
    """See ``protocols.accounts.Domains``."""

    listed = Listed(
        "domains",
        DOMAIN,
        texts=("domainName", "cn"),
        key="domainName",
        sorts={"name": text_of("cn"), "quota": _QUOTA},
        scope=Scope.ONE,
        added=frozenset({"catchall"}),
    )

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self._named(names)
        return {name: domain_profile(*entries) for name, entries in found.items()}

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Domain]:
        found = await self._named(names)
        return {name: record(*entries) for name, entries in found.items()}

    async def _entries(self, name: str) -> _Entries | None:
        """Read a domain and its catch-all accounts. One round trip."""
        found = await self._session.find(
            self._tree.base,
            Scope.SUB,
            either([both(DOMAIN, equal("domainName", name)), _catchalls([name])]),
        )
        expected = {same(self._tree.domain(name)), same(self._tree.catchall(name))}
        domain = catchall = None
        others: list[Entry] = []
        # Entries with the expected DN come last, so they win.
        for entry in sorted(found, key=lambda entry: (same(entry.dn) in expected, entry.dn)):
            self._session.remember(entry)
            if "maildomain" not in words(entry, "objectClass"):
                if f"@{name}" not in words(entry, "mail"):
                    others.append(entry)
                else:
                    catchall = entry
            elif same(split_rdn(entry.dn)[1]) == same(self._tree.base):
                domain = entry
        if domain is None:
            return None
        if same(domain.dn) != same(self._tree.domain(name)):
            self._tree.other_dns[name] = domain.dn
        return domain, catchall, others

    async def get(self, name: str, *, share: bool = False) -> Domain | None:
        if share:
            await self._session.lock(name)
        found = await self._entries(name)
        return None if found is None else record(*found)

    async def claim(self, name: str) -> Domain | None:
        return await self.get(name, share=True)

    async def own(self, name: str) -> Domain | None:
        return await self.get(name)

    # -- reading -----------------------------------------------------------------------------------

    async def profile(self, name: str) -> Profile | None:
        found = await self._entries(name)
        if found is None:
            return None
        existing: set[str] = set()
        usage = await self._usage(name, existing)
        used = await self._session.iredadmin.used_in(name, existing)
        return domain_profile(*found) | {
            "num_existing_users": usage.users,
            "num_existing_aliases": usage.aliases,
            "num_existing_maillists": usage.lists,
            "allocated_quota": usage.allocated_quota,
            "used_quota": {"bytes": used[0], "messages": used[1]},
        }

    async def _page(
        self, after: str, limit: int, only: Collection[str] | None, *, disabled_only: bool
    ) -> list[_Entries]:
        listed = partial(self.names, only=only, disabled_only=disabled_only)
        return await full_page(listed, self._named, after, limit)

    async def _named(self, names: Sequence[str]) -> dict[str, _Entries]:
        """Return the domains of these names, with the accounts that catch their mail."""
        entries = await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainName", names
        )
        own: dict[str, Entry] = {}
        others: dict[str, list[Entry]] = {}
        for some in chunks(names):
            wanted = {f"@{name}" for name in some}
            for account in await self._session.find(self._tree.base, Scope.SUB, _catchalls(some)):
                mails = words(account, "mail")
                own |= dict.fromkeys(mails & wanted, account)
                for at in words(account, "shadowAddress") & wanted - mails:
                    others.setdefault(at, []).append(account)
        found = {entry.value("domainName").lower(): entry for entry in entries}
        return {
            name: (entry, own.get(f"@{name}"), others.get(f"@{name}", []))
            for name, entry in found.items()
        }

    async def page(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Profile]:
        found = await self._page(after, limit, only, disabled_only=disabled_only)
        return [domain_profile(*entries) for entries in found]

    async def records(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Domain]:
        found = await self._page(after, limit, only, disabled_only=disabled_only)
        return [record(*entries) for entries in found]

    async def names(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[str]:
        kind = both(DOMAIN, _INACTIVE) if disabled_only else DOMAIN

        async def read() -> list[str]:
            if only is None:
                found = self._session.pages_of_names(Scope.ONE, kind, "domainName")
                return [entry.value("domainName").lower() async for page in found for entry in page]
            entries = await self._session.holders(
                self._tree.base, Scope.ONE, kind, "domainName", only, ("domainName",)
            )
            return [entry.value("domainName").lower() for entry in entries]

        key = ("domains", None if only is None else frozenset(only), disabled_only)
        return await self._session.listings.page(key, after, limit, read)

    async def alias_domains(self, only: Collection[str] | None) -> list[AliasDomain]:
        return await alias_domain_addresses.alias_domains(self._session, only)

    async def taken(self, names: Collection[str]) -> frozenset[str]:
        wanted, found = frozenset(names), set[str]()
        # Pending names have no index: with a filter of their own the others stay fast.
        for attributes in (("domainName", "domainAliasName"), ("domainPendingAliasName",)):
            terms = [equal(name, value) for name in attributes for value in sorted(wanted)]
            for start in range(0, len(terms), 100):
                for entry in await self._session.find(
                    self._tree.base,
                    Scope.ONE,
                    both(DOMAIN, either(terms[start : start + 100])),
                    attributes,
                ):
                    for name in attributes:
                        found |= words(entry, name)
        return frozenset(found) & wanted

    async def hosted(self, names: Collection[str], *, but: str) -> frozenset[str]:
        return await alias_domain_addresses.hosted(self._session, names, but)

    async def usage(self, name: str) -> Usage:
        return await self._usage(name, set())

    async def _usage(self, name: str, existing: set[str]) -> Usage:
        """Count the accounts of a domain; the addresses of its users are added to ``existing``."""
        users = aliases = lists = size = 0
        async for page in self._session.pages(
            self._tree.base, Scope.SUB, inside(ACCOUNTS, name), ("objectClass", "mail", "mailQuota")
        ):
            for entry in page:
                kinds = words(entry, "objectClass")
                if "mailuser" in kinds and f"@{name}" not in words(entry, "mail"):
                    users += 1
                    existing.add(entry.value("mail").lower())
                    size += number(entry.value("mailQuota"))
                aliases += "mailalias" in kinds
                lists += "maillist" in kinds
        return Usage(users, aliases, lists, size // MEGABYTE)

    async def totals(self, names: Collection[str]) -> Totals:
        entries = await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainName", names, (settings_values.ATTRIBUTE,)
        )
        quota = users = aliases = lists = 0
        for entry in entries:
            values = entry.values(settings_values.ATTRIBUTE)
            quota += max(settings_values.megabytes(values), 0)
            users += max(settings_values.number(values, "numberOfUsers"), 0)
            aliases += max(settings_values.number(values, "numberOfAliases"), 0)
            lists += max(settings_values.number(values, "numberOfLists"), 0)
        return Totals(len(entries), Allocation(quota, users, aliases, lists))

    async def reserve(self, names: Collection[str]) -> frozenset[str]:
        await self._session.lock(*names)
        return await self.taken(names)

    async def admins(self, name: str) -> frozenset[str]:
        entry = await self._session.domain(name)
        return frozenset() if entry is None else words(entry, "domainAdmin")

    async def admins_of(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        entries = await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainName", names, ("domainName", "domainAdmin")
        )
        return {entry.value("domainName").lower(): words(entry, "domainAdmin") for entry in entries}

    # -- writing -----------------------------------------------------------------------------------

    async def add(self, domain: Domain, owner: str, *, verified: bool = True) -> None:
        blank = Entry(self._tree.domain(domain.name), {})
        edit = Edit(blank)
        edit.put_all("objectClass", ["mailDomain"])
        edit.put("domainName", domain.name)
        edit.put("accountStatus", "active" if domain.active else "disabled")
        live = domain.alias_domains if verified else frozenset[str]()
        edit.add("domainAliasName", sorted(live))
        edit.add("domainPendingAliasName", sorted(domain.alias_domains - live))
        edit.add("enabledService", ["domainalias"] if live else [])
        if owner:
            edit.put("domainAdmin", owner)
        for name in COUNTERS.values():
            edit.put(name, "0")
        put_changes(edit, Domain(domain.name, transport=""), domain)
        self._session.add(blank.dn, {change.name: change.values for change in edit.changes()})
        for kind in CONTAINERS:
            dn = self._tree.container(kind, domain.name)
            self._session.add(dn, {"objectClass": ["organizationalUnit"], "ou": [kind]})
        await self._save_catchall(None, Domain(domain.name), domain, live)

    async def _save_catchall(
        self,
        entry: Entry | None,
        before: Domain,
        after: Domain,
        live: Collection[str],
        others: Sequence[Entry] = (),
    ) -> None:
        """Plan changes of the catch-all account; ``live`` are the alias domains that get mail.

        ``others`` are accounts made by other programs that also catch the domain's mail.
        """
        if before.catchall == after.catchall and before.dead_catchall == after.dead_catchall:
            return
        for other in others:
            self._session.edit(other).discard("shadowAddress", [f"@{before.name}"])
        if not after.catchall:
            if entry is not None:
                await self._session.delete(entry)
            return
        if entry is not None:
            edit = self._session.edit(entry)
            edit.put_all("mailForwardingAddress", sorted(after.catchall))
            edit.put("accountStatus", "active")
            return
        self._session.add(
            self._tree.catchall(after.name),
            {
                "objectClass": ["inetOrgPerson", "mailUser"],
                "mail": [f"@{after.name}"],
                "uid": ["catch-all"],
                "cn": ["catch-all"],
                "sn": ["catch-all"],
                "accountStatus": ["active"],
                "mailForwardingAddress": sorted(after.catchall),
                "shadowAddress": sorted(f"@{alias}" for alias in live),
                "domainStatus": [] if after.active else ["disabled"],
            },
        )

    async def save(self, before: Domain, after: Domain, *, verified: bool = True) -> None:
        if before == after:
            return
        found = await self._entries(before.name)
        if found is None:
            return
        entry, catchall, others = found
        name = before.name
        gone = before.alias_domains - after.alias_domains
        new = after.alias_domains - before.alias_domains
        activated = before.inactive_alias_domains - after.inactive_alias_domains - gone
        new |= activated
        # Unverified alias domains are left out: the catch-all would take their mail.
        live = after.alias_domains - after.inactive_alias_domains - (set() if verified else new)
        await self._save_catchall(catchall, before, after, live, others)
        # The domain's own entry comes last: after a failed bulk step the same request repeats it.
        if gone - before.inactive_alias_domains:
            alias_domain_addresses.remove(self._session, gone - await self.hosted(gone, but=name))
        if new and verified:
            alias_domain_addresses.add(self._session, name, new)
        if before.active != after.active:
            self._put_status_of_all(name, active=after.active)
        edit = self._session.edit(entry)
        put_changes(edit, before, after)
        for attribute in ("domainAliasName", "domainPendingAliasName"):
            edit.discard(attribute, sorted(gone))
        edit.discard("domainPendingAliasName", sorted(activated))
        edit.add("domainAliasName" if verified else "domainPendingAliasName", sorted(new))
        if new and verified:
            edit.add("enabledService", ["domainalias"])
        if gone and not edit.now("domainAliasName"):
            edit.discard("enabledService", ["domainalias"])
        if before.active != after.active:
            edit.put("accountStatus", "active" if after.active else "disabled")

    def _put_status_of_all(self, name: str, *, active: bool) -> None:
        """Plan ``domainStatus`` of all accounts: Postfix and Dovecot read that, not the domain."""
        left = "(domainStatus=*)" if active else "(!(domainStatus=disabled))"
        self._session.edit_found(
            self._tree.base,
            both(everything(name), left),
            lambda edit: edit.put("domainStatus", "" if active else "disabled"),
            ("mail", "domainStatus"),
        )

    async def add_admins(self, name: str, mails: Collection[str]) -> None:
        entry = await self._session.domain(name)
        if entry is None:
            return
        self._session.edit(entry).add("domainAdmin", sorted(mails))
        for mail in sorted(mails):
            user = await self._session.account("mailUser", self._tree.user(mail), mail)
            if user is not None:
                self._session.edit(user).add("enabledService", ["domainadmin"])

    async def remove_admins(self, name: str, mails: Collection[str]) -> None:
        entry = await self._session.domain(name)
        if entry is None:
            return
        self._session.edit(entry).discard("domainAdmin", sorted(mails))
        await self._demote(name, mails)

    async def _demote(self, name: str, mails: Collection[str]) -> None:
        """Plan to remove the service of admins from mail users who manage no other domain."""
        managing: set[str] = set()
        for other in await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainAdmin", mails, ("domainName", "domainAdmin")
        ):
            if other.value("domainName").lower() != name:
                managing |= words(other, "domainAdmin")
        for mail in sorted(set(mails) - managing):
            if domain_of(mail) == name:
                await self._session.lock(name)
            user = await self._session.account("mailUser", self._tree.user(mail), mail)
            if user is not None and not flag(user, "domainGlobalAdmin", "yes"):
                self._session.edit(user).discard("enabledService", ["domainadmin"])

    async def remove(self, name: str, removal: Removal) -> None:
        found = await self._entries(name)
        if found is not None:
            await remove_domain(self._session, name, found[0], removal)
