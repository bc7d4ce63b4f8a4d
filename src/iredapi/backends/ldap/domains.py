"""Mail domains in LDAP: the domain's entry, its containers, its catch-all account."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from iredapi.backends.ldap import alias_domain_addresses, references, settings_values
from iredapi.backends.ldap.client import Change, Entry, Op, Scope
from iredapi.backends.ldap.dn_layout import (
    ACCOUNTS,
    CONTAINERS,
    DOMAIN,
    USER,
    both,
    either,
    ends,
    equal,
    everything,
    inside,
    real_users,
    same,
)
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.escaping import depth, split_rdn
from iredapi.backends.ldap.profiles import catchall_targets, domain_profile
from iredapi.backends.ldap.session import (
    Session,
    address_in,
    chunks,
    flag,
    full_page,
    number,
    words,
)
from iredapi.backends.ldap.write_plan import Rename
from iredapi.backends.protocols.values import Profile, Removal, Usage
from iredapi.domain import account_settings
from iredapi.domain.addresses import domain_of
from iredapi.domain.domains import Domain
from iredapi.domain.limits import Allocation, Totals

_INACTIVE = "(!(accountStatus=active))"
MEGABYTE = 1048576
_SINGLE = {
    "description": "cn",
    "transport": "mtaTransport",
    "outbound_relay": "senderRelayHost",
    "sender_bcc": "domainSenderBccAddress",
    "recipient_bcc": "domainRecipientBccAddress",
}
_LIMITS = {"users": "numberOfUsers", "aliases": "numberOfAliases", "lists": "numberOfLists"}
_SERVICES = "enabled_services"
COUNTERS = {
    "users": "domainCurrentUserNumber",
    "aliases": "domainCurrentAliasNumber",
    "lists": "domainCurrentListNumber",
    "quota": "domainCurrentQuotaSize",
}


def count(edit: Edit, what: str, by: int) -> None:
    """Move one of a domain's counters, if it is kept; the panel shows them, nobody else reads."""
    name = COUNTERS[what]
    if by and (present := edit.now(name)):
        edit.put(name, str(max(number(present[0]) + by, 0)))


def record(entry: Entry, catchall: Entry | None, others: Sequence[Entry] = ()) -> Domain:
    """Return the neutral record of a domain's entries; ``others`` are catch-alls beside its own."""
    settings = entry.values(settings_values.ATTRIBUTE)
    words_ = dict(settings_values.parse(settings))
    if services := words(entry, "enabledService"):
        words_[_SERVICES] = ",".join(sorted(services))
    if not words_.get("default_language") and entry.value("preferredLanguage"):
        words_["default_language"] = entry.value("preferredLanguage")
    targets, alive = frozenset[str](), frozenset[str]()
    for account in (*others, *([] if catchall is None else [catchall])):
        led = catchall_targets(account)
        targets |= led
        alive |= led if flag(account, "accountStatus", "active") else frozenset()
    pending = words(entry, "domainPendingAliasName")
    fields: dict[str, Any] = {name: entry.value(at) for name, at in _SINGLE.items()}
    fields |= {name: settings_values.number(settings, key) for name, key in _LIMITS.items()}
    return Domain(
        name=entry.value("domainName").lower(),
        **fields,
        active=flag(entry, "accountStatus", "active"),
        quota=settings_values.megabytes(settings),
        backupmx=flag(entry, "domainBackupMX", "yes"),
        settings=words_,
        catchall=targets,
        dead_catchall=targets - alive,
        alias_domains=words(entry, "domainAliasName") | pending,
        inactive_alias_domains=pending,
    )


_Entries = tuple[Entry, Entry | None, list[Entry]]
"""A domain, its catch-all account, and what else catches its mail."""


def _catchalls(names: Sequence[str]) -> str:
    """Return a filter: accounts to which Postfix takes the mail for any name in these domains."""
    own = either([equal("mail", f"@{name}") for name in names])
    shadows = either([equal("shadowAddress", f"@{name}") for name in names])
    return either([both(USER, own), both(ACCOUNTS, shadows)])


class LdapDomains:
    """See ``protocols.Domains``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    async def _entries(self, name: str) -> _Entries | None:
        """Read a domain and its catch-all accounts. One round trip."""
        found = await self._session.find(
            self._tree.base,
            Scope.SUB,
            either([both(DOMAIN, equal("domainName", name)), _catchalls([name])]),
        )
        places = {same(self._tree.domain(name)), same(self._tree.catchall(name))}
        domain = catchall = None
        others: list[Entry] = []
        # What lies where it belongs comes last, and wins.
        for entry in sorted(found, key=lambda entry: (same(entry.dn) in places, entry.dn)):
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
            self._tree.places[name] = domain.dn
        return domain, catchall, others

    async def get(self, name: str, *, share: bool = False) -> Domain | None:
        if share:
            await self._session.lock(name)
        found = await self._entries(name)
        return None if found is None else record(*found)

    async def claim(self, name: str) -> Domain | None:
        return await self.get(name, share=True)

    # -- reading -----------------------------------------------------------------------------------

    async def profile(self, name: str) -> Profile | None:
        found = await self._entries(name)
        if found is None:
            return None
        living: set[str] = set()
        usage = await self._usage(name, living)
        used = await self._session.panel.used_in(name, living)
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
        async def read(names: list[str]) -> dict[str, _Entries]:
            entries = await self._session.holders(
                self._tree.base, Scope.ONE, DOMAIN, "domainName", names
            )
            own: dict[str, Entry] = {}
            others: dict[str, list[Entry]] = {}
            for some in chunks(names):
                wanted = {f"@{name}" for name in some}
                for account in await self._session.find(
                    self._tree.base, Scope.SUB, _catchalls(some)
                ):
                    mails = words(account, "mail")
                    own |= dict.fromkeys(mails & wanted, account)
                    for at in words(account, "shadowAddress") & wanted - mails:
                        others.setdefault(at, []).append(account)
            found = {entry.value("domainName").lower(): entry for entry in entries}
            return {
                name: (entry, own.get(f"@{name}"), others.get(f"@{name}", []))
                for name, entry in found.items()
            }

        listed = partial(self.names, only=only, disabled_only=disabled_only)
        return await full_page(listed, read, after, limit)

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
                found = self._session.pages(self._tree.base, Scope.ONE, kind, ("domainName",))
                return [entry.value("domainName").lower() async for page in found for entry in page]
            entries = await self._session.holders(
                self._tree.base, Scope.ONE, kind, "domainName", only, ("domainName",)
            )
            return [entry.value("domainName").lower() for entry in entries]

        key = ("domains", None if only is None else frozenset(only), disabled_only)
        return await self._session.listings.page(key, after, limit, read)

    async def taken(self, names: Collection[str]) -> frozenset[str]:
        wanted, found = frozenset(names), set[str]()
        # Pending names have no index, so they are asked for by themselves.
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

    async def usage(self, name: str) -> Usage:
        return await self._usage(name, set())

    async def _usage(self, name: str, living: set[str]) -> Usage:
        """Count what is in a domain; the names of its users go into ``living``."""
        users = aliases = lists = size = 0
        async for page in self._session.pages(
            self._tree.base, Scope.SUB, inside(ACCOUNTS, name), ("objectClass", "mail", "mailQuota")
        ):
            for entry in page:
                kinds = words(entry, "objectClass")
                if "mailuser" in kinds and f"@{name}" not in words(entry, "mail"):
                    users += 1
                    living.add(entry.value("mail").lower())
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
        self._put(edit, Domain(domain.name, transport=""), domain)
        self._session.add(blank.dn, {change.name: change.values for change in edit.changes()})
        for kind in CONTAINERS:
            self._session.add(
                self._tree.container(kind, domain.name),
                {"objectClass": ["organizationalUnit"], "ou": [kind]},
            )
        await self._save_catchall(None, Domain(domain.name), domain, live)

    def _put(self, edit: Edit, before: Domain, after: Domain) -> None:
        for name, attribute in _SINGLE.items():
            if getattr(before, name) != getattr(after, name):
                edit.put(attribute, getattr(after, name))
        # Postfix asks for the service as well as for the address.
        for name, service in (("sender_bcc", "senderbcc"), ("recipient_bcc", "recipientbcc")):
            old, new = getattr(before, name), getattr(after, name)
            if old != new:
                (edit.add if new else edit.discard)("enabledService", [service])
        if before.backupmx != after.backupmx:
            edit.put("domainBackupMX", "yes" if after.backupmx else "")
        if before.quota != after.quota:
            quota = f"{after.quota}:MB" if after.quota else ""
            settings_values.put(edit, "domainQuota", quota)
        for name, key in _LIMITS.items():
            if getattr(before, name) != getattr(after, name):
                settings_values.put_number(edit, key, getattr(after, name))
        old_words, new_words = dict(before.settings), dict(after.settings)
        gone = account_settings.words(old_words, _SERVICES)
        come = account_settings.words(new_words, _SERVICES)
        edit.discard("enabledService", sorted(gone - come))
        edit.add("enabledService", sorted(come - gone))
        old_words.pop(_SERVICES, None)
        new_words.pop(_SERVICES, None)
        settings_values.write(edit, old_words, new_words)
        if old_words.get("default_language") != new_words.get("default_language"):
            edit.put("preferredLanguage", new_words.get("default_language") or "")

    async def _save_catchall(
        self,
        entry: Entry | None,
        before: Domain,
        after: Domain,
        live: Collection[str],
        others: Sequence[Entry] = (),
    ) -> None:
        """Plan the catch-all account; ``live`` are the alias domains that get mail.

        ``others`` are accounts of other programs that catch the domain's mail, too.
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
        revived = before.inactive_alias_domains - after.inactive_alias_domains - gone
        new |= revived
        # Postfix asks for the recipients of all mail: a domain that is not proved would be caught.
        live = after.alias_domains - after.inactive_alias_domains - (set() if verified else new)
        await self._save_catchall(catchall, before, after, live, others)
        # What others see as done, the domain's own entry, comes last: a broken sweep is repeated.
        if gone - before.inactive_alias_domains:
            alias_domain_addresses.remove(self._session, gone)
        if new and verified:
            alias_domain_addresses.add(self._session, name, new)
        if before.active != after.active:
            self._sweep_status(name, active=after.active)
        edit = self._session.edit(entry)
        self._put(edit, before, after)
        for attribute in ("domainAliasName", "domainPendingAliasName"):
            edit.discard(attribute, sorted(gone))
        edit.discard("domainPendingAliasName", sorted(revived))
        edit.add("domainAliasName" if verified else "domainPendingAliasName", sorted(new))
        if new and verified:
            edit.add("enabledService", ["domainalias"])
        if gone and not edit.now("domainAliasName"):
            edit.discard("enabledService", ["domainalias"])
        if before.active != after.active:
            edit.put("accountStatus", "active" if after.active else "disabled")

    def _sweep_status(self, name: str, *, active: bool) -> None:
        """Postfix and Dovecot look at each account, not at the domain."""
        left = "(domainStatus=*)" if active else "(!(domainStatus=disabled))"
        self._session.sweep_each(
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
        """Take the mark of an admin from mail users who manage nothing else."""
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
        if found is None:
            return
        entry, session = found[0], self._session
        moment = session.panel.moment()
        async for page in session.pages(self._tree.base, Scope.SUB, real_users(name), ("*",)):
            paths = {address_in(user, name): mailbox_path(user) for user in page}
            await session.panel.queue(name, paths, removal, moment)
        names = sorted({name} | words(entry, "domainAliasName"))
        await session.panel.forget_domain(names)
        managers = words(entry, "domainAdmin")
        # Sweeps only: a removal that breaks off is not taken back but sent again. The domain is
        # switched off first, so that nothing is accepted for what is half gone.
        own = both(DOMAIN, equal("domainName", name))
        off = Change(Op.REPLACE, "accountStatus", ("disabled",))
        session.sweep(self._tree.domain(name), own, lambda _: (off,), ("1.1",), Scope.BASE)
        standalone = await references.standalone(session, names)
        references.forget_domains(session, name, names, standalone)
        outside = [mail for mail in managers if domain_of(mail) != name]
        await self._demote_by_sweep(name, outside)
        await self._move_out(name, names)
        session.sweep(self._tree.base, everything(name), lambda _: None, ("1.1",))
        session.sweep_bottom_up(self._tree.domain(name))
        session.after.append(partial(session.panel.date_later, name, removal, moment))

    async def _move_out(self, name: str, names: Collection[str]) -> None:
        """Plan that accounts of other domains, which somebody has put below this one, stay."""
        session = self._session
        found = await session.find(
            self._tree.domain(name), Scope.SUB, both(ACCOUNTS, f"(!{ends('mail', f'@{name}')})")
        )
        for entry in sorted(found, key=lambda entry: -depth(entry.dn)):
            mail = entry.value("mail").lower()
            home = None if domain_of(mail) in names else await session.domain(domain_of(mail))
            if home is None:
                continue
            kinds = words(entry, "objectClass")
            place = self._tree.alias(mail)
            if "mailuser" in kinds:
                place = self._tree.user(mail)
            elif "maillist" in kinds:
                place = self._tree.mail_list(mail)
            if await session.entry(place) is not None:
                continue
            session.plan.append(Rename(entry.dn, place))
            for group in await session.holders(
                self._tree.base, Scope.SUB, "(objectClass=mailList)", "member", [entry.dn]
            ):
                session.edit(session.remember(group)).swap("member", entry.dn, place)

    async def _demote_by_sweep(self, name: str, mails: Sequence[str]) -> None:
        managing: set[str] = set()
        for other in await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainAdmin", mails, ("domainName", "domainAdmin")
        ):
            if other.value("domainName").lower() != name:
                managing |= words(other, "domainAdmin")
        lost = Change(Op.DELETE, "enabledService", ("domainadmin",))
        for mail in sorted(set(mails) - managing):
            self._session.sweep(
                self._tree.base,
                both(USER, equal("mail", mail), "(enabledService=domainadmin)",
                     "(!(domainGlobalAdmin=yes))"),
                lambda _: (lost,),
                ("1.1",),
            )  # fmt: skip


def mailbox_path(entry: Entry) -> str:
    """Return the path of a user's mailbox, from the deprecated attributes if need be."""
    found = entry.value("homeDirectory")
    if not found and entry.value("storageBaseDirectory"):
        found = f"{entry.value('storageBaseDirectory')}/{entry.value('mailMessageStore')}"
    return found.lower()
