"""Mail users in LDAP: one entry each, and their rows in iRedAdmin's database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from iredapi.backends.ldap import references
from iredapi.backends.ldap.alias_domain_addresses import alias_addresses, with_alias_addresses
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import DOMAIN, USER, both, ends, equal, inside, real_users
from iredapi.backends.ldap.domain_mapping import MEGABYTE, count
from iredapi.backends.ldap.domains import LdapDomains
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.escaping import names_of_rdn
from iredapi.backends.ldap.locks import MAILBOXES
from iredapi.backends.ldap.references import moved
from iredapi.backends.ldap.session import address_in, flag, number, words
from iredapi.backends.ldap.user_mapping import (
    ADMIN_SERVICE,
    NAMES,
    hashes_in_order,
    held_services,
    mailbox_path,
    markers,
    markers_in,
    put_changes,
    put_new,
    record,
    today,
    written_services,
)
from iredapi.backends.ldap.user_profiles import LdapUserProfiles
from iredapi.backends.ldap.write_plan import Modify
from iredapi.backends.protocols.values import JoinedGroups, Removal
from iredapi.domain import suspension
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.domains import Domain
from iredapi.domain.limits import Sizes
from iredapi.domain.mailbox_paths import Location, overlap
from iredapi.domain.users import User

_TURN = 16
"""New users after which other requests get their turn."""
_OF_ALL = {
    "accountstatus": "active",
    "preferredlanguage": "language",
    "mtatransport": "transport",
    "userpassword": "password",
    "mailquota": "quota",
}
"""Attributes that can be changed for all users of a domain, and their parameters."""


class LdapUsers(LdapUserProfiles):
    """See ``protocols.accounts.Users``."""

    async def get(self, mail: str) -> User | None:
        entry = await self._entry(mail)
        if entry is None:
            return None
        return record(mail, entry, await self._aliases(domain_of(mail)), await self._managed(mail))

    async def claim(self, mail: str) -> User | None:
        await self._session.lock(domain_of(mail))
        return await self.get(mail)

    def unsupported(self, changes: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        del changes  # the schema has an attribute for each parameter
        return ()

    async def claim_with_domain(
        self, mail: str, *, hold_domain: bool
    ) -> tuple[Domain | None, User | None]:
        domains, name = LdapDomains(self._session), domain_of(mail)
        domain = await (domains.claim(name) if hold_domain else domains.get(name, share=True))
        return domain, None if domain is None else await self.claim(mail)

    async def other_aliases(self, mail: str) -> frozenset[str]:
        del mail
        return frozenset()  # all addresses of a user are in its entry

    async def password(self, mail: str) -> str:
        entry = await self._session.entry(self._tree.user(mail))
        return "" if entry is None else hashes_in_order(entry)

    async def allocated(self, domain: str, *, but: str = "") -> int:
        size = 0
        async for page in self._session.pages(
            self._tree.base, Scope.SUB, inside(USER, domain), ("mail", "mailQuota")
        ):
            for entry in page:
                if but not in words(entry, "mail"):
                    size += number(entry.value("mailQuota"))
        return size // MEGABYTE

    async def paths_near(self, path: str, *, but: str = "", queued: bool = True) -> list[str]:
        # ``homeDirectory`` has no substring matching rule, so the paths of all users are read.
        found = await self._session.iredadmin.near(path) if queued else []
        names = ("mail", "homeDirectory", "storageBaseDirectory", "mailMessageStore")
        async for page in self._session.pages(self._tree.base, Scope.SUB, USER, names):
            for entry in page:
                found_path = Location("", "", mailbox_path(entry)).path
                if (
                    but not in words(entry, "mail")
                    and found_path != "/"
                    and overlap(found_path, path)
                ):
                    found.append(found_path)
        return found

    async def unqueue(self, path: str) -> None:
        session = self._session
        # Held until the account is in the directory: then ``paths_near`` finds it.
        await session.lock(MAILBOXES)
        if held := await session.iredadmin.hold(path):
            session.after.append(partial(session.iredadmin.unqueue_held_later, held))
            session.failed.append(partial(session.iredadmin.release_held_later, held))

    async def globals_in(self, domain: str) -> frozenset[str]:
        found = await self._session.find(
            self._tree.base,
            Scope.SUB,
            both(inside(USER, domain), "(domainGlobalAdmin=yes)"),
            ("mail",),
        )
        return frozenset(
            m for entry in found for m in words(entry, "mail") if domain_of(m) == domain
        )

    async def admins_beyond(self, domain: str, managed: Collection[str]) -> frozenset[str]:
        found = set(await self.globals_in(domain))
        async for page in self._session.pages(
            self._tree.base,
            Scope.ONE,
            both(DOMAIN, ends("domainAdmin", f"@{domain}")),
            ("domainName", "domainAdmin"),
        ):
            for other in page:
                if other.value("domainName").lower() not in managed:
                    found |= {m for m in words(other, "domainAdmin") if domain_of(m) == domain}
        return frozenset(found)

    async def admins_in(self, domain: str) -> frozenset[str]:
        marked = await self._session.find(
            self._tree.base,
            Scope.SUB,
            both(inside(USER, domain), equal("enabledService", ADMIN_SERVICE)),
            ("mail",),
        )
        mails = (mail for entry in marked for mail in words(entry, "mail"))
        return await self.admins_beyond(domain, ()) | {m for m in mails if domain_of(m) == domain}

    # -- writing -----------------------------------------------------------------------------------

    async def add(
        self, user: User, *, groups: Iterable[str], changed: datetime | None
    ) -> JoinedGroups:
        return await self.add_all([user], groups=groups, changed=changed)

    async def add_all(
        self, users: Sequence[User], *, groups: Iterable[str], changed: datetime | None
    ) -> JoinedGroups:
        """Add users, each of whom becomes a member of ``groups``; return those that exist."""
        session, joining = self._session, frozenset(groups)
        joined = JoinedGroups()
        edits = []
        for at, user in enumerate(users):
            if at % _TURN == _TURN - 1:
                await asyncio.sleep(0)  # an entry takes a quarter of a millisecond
            name = domain_of(user.mail)
            domain = await session.domain(name)
            blank = Entry(self._tree.user(user.mail), {})
            edit = Edit(blank)
            put_new(edit, user, await self._aliases(name), session.knows, changed=changed)
            if domain is not None and not flag(domain, "accountStatus", "active"):
                edit.put("domainStatus", "disabled")
            lists, joined = await self._join(blank.dn, user.mail, joining)
            edit.add("memberOfGroup", lists)
            edits.append((user, domain, edit))
        await references.forget_rights(session, [user.mail for user in users])
        for user, domain, edit in edits:
            session.add(edit.dn, {change.name: change.values for change in edit.changes()})
            if domain is not None:
                counters = session.edit(domain)
                count(counters, "users", 1)
                count(counters, "quota", user.quota * MEGABYTE)
        return joined

    async def _join(
        self, dn: str, mail: str, groups: frozenset[str]
    ) -> tuple[list[str], JoinedGroups]:
        """Plan the membership in lists and aliases that exist; return the lists' addresses."""
        joined: set[str] = set()
        aliases, lists = set[str](), set[str]()
        for entry in await self._session.holders(
            self._tree.base,
            Scope.SUB,
            "(|(objectClass=mailList)(objectClass=mailAlias))",
            "mail",
            groups,
        ):
            if "mlmmj" in words(entry, "enabledService"):
                continue  # a subscribable list: mlmmj delivers to its subscribers only
            edit, address = self._session.edit(entry), entry.value("mail").lower()
            if "mailalias" in words(entry, "objectClass"):
                edit.add("mailForwardingAddress", [mail])
                aliases.add(address)
                continue
            lists.add(address)
            name = domain_of(address)
            joined |= with_alias_addresses([address], name, await self._aliases(name))
            edit.put("hasMember", "yes")
            if self._session.options.member_dns:
                edit.add("member", [dn])
        return sorted(joined), JoinedGroups(aliases, lists)

    async def save(self, before: User, after: User) -> None:
        entry = await self._entry(before.mail)
        if before == after or entry is None:
            return
        edit = self._session.edit(entry)
        aliases = await self._aliases(domain_of(before.mail))
        put_changes(edit, before, after, aliases, self._session.knows)
        if before.password != after.password:
            edit.put("shadowLastChange", today())
        if before.quota != after.quota:
            domain = await self._session.domain(domain_of(before.mail))
            if domain is not None:
                by = (after.quota - before.quota) * MEGABYTE
                count(self._session.edit(domain), "quota", by)

    async def _quotas(self, domain: str) -> dict[str, int]:
        """Return the quota of each user of a domain, in bytes."""
        return {
            address_in(entry, domain): number(entry.value("mailQuota"))
            async for page in self._session.pages(
                self._tree.base, Scope.SUB, real_users(domain), ("mail", "mailQuota")
            )
            for entry in page
        }

    async def sizes(self, domain: str, quota: int, *, but: Collection[str]) -> Sizes:
        found = await self._quotas(domain)
        own = [size for mail, size in found.items() if mail not in but]
        raised = [size for size in own if size and (not quota or size < quota * MEGABYTE)]
        return Sizes(len(own), len(raised), (sum(found.values()) - sum(own)) // MEGABYTE)

    async def save_all(
        self, domain: str, changes: Mapping[str, Any], *, but: Collection[str]
    ) -> Mapping[str, Any]:
        exempt_admins = frozenset(but)
        attributes = ("mail", "uid", *_OF_ALL, "shadowLastChange")
        size = changes.get("quota", 0) * MEGABYTE
        if "quota" in changes:
            found = await self._quotas(domain)
            domain_entry = await self._session.domain(domain)
            if domain_entry is not None:
                by = sum(size - old for mail, old in found.items() if mail not in exempt_admins)
                count(self._session.edit(domain_entry), "quota", by)

        def change(edit: Edit) -> None:
            if exempt_admins.intersection(mail.lower() for mail in edit.now("mail")):
                return
            if "account_status" in changes:
                edit.put("accountStatus", "active" if changes["account_status"] else "disabled")
            if "language" in changes:
                edit.put("preferredLanguage", changes["language"])
            if "transport" in changes:
                edit.put("mtaTransport", changes["transport"])
            if "quota" in changes:
                edit.put("mailQuota", str(size) if size else "")
            if "password" in changes:
                edit.put_all("userPassword", [changes["password"]])
                edit.put("shadowLastChange", today())

        # The first pass finds out what will change, for the response. The bulk step reads again.
        kind, before = real_users(domain), dict[str, set[Any]]()
        async for page in self._session.pages(self._tree.base, Scope.SUB, kind, attributes):
            for entry in page:
                edit = Edit(entry)
                change(edit)
                for name in {item.name.lower() for item in edit.changes()} & _OF_ALL.keys():
                    before.setdefault(_OF_ALL[name], set()).add(_value_of_all(entry, name))
        if before:
            self._session.edit_found(self._tree.base, kind, change, attributes, some=True)
        return {name: min(old) if len(old) == 1 else None for name, old in before.items()}

    async def set_suspended(self, domain: str, *, suspended: bool) -> bool:
        def change(edit: Edit) -> None:
            now = edit.now("enabledService")
            on = frozenset(name.strip().lower() for name in now)
            held, waiting = held_services(on)
            if suspended:
                # Also what another program has switched on for a suspended user.
                words_on = on - markers_in(on)
                logins = frozenset(filter(suspension.is_login, words_on))
                edit.discard("enabledService", sorted(logins))
                if held is not None:
                    held |= logins
                else:
                    waiting = logins | (waiting or frozenset())
                edit.add("enabledService", written_services(markers(held, waiting) - on, now))
            elif waiting is not None:
                edit.discard("enabledService", sorted(markers(None, waiting)))
                edit.add("enabledService", written_services(waiting, now))

        # The first pass finds out whether anything changes. The bulk step reads again.
        kind, names, found = real_users(domain), ("mail", "enabledService"), False
        async for page in self._session.pages(self._tree.base, Scope.SUB, kind, names):
            for edit in map(Edit, page):
                change(edit)
                found = found or bool(edit.changes())
        if found:
            self._session.edit_found(self._tree.base, kind, change, names, some=True)
        return found

    async def rename(self, old: str, new: str) -> None:
        session, name = self._session, domain_of(old)
        entry = await self._entry(old)
        if entry is None:
            return
        aliases = await self._aliases(name)
        edit = moved(session, entry, old, new)
        if "uid" not in names_of_rdn(entry.dn):
            edit.put("uid", local_part_of(new))
        for attribute in NAMES.values():
            # The local part there means: no name. "Bob" for bob@ is a name.
            if attribute not in names_of_rdn(entry.dn) and (
                entry.value(attribute) == local_part_of(old)
            ):
                edit.put(attribute, local_part_of(new))
        edit.swap("mailForwardingAddress", old, new)
        edit.discard("shadowAddress", sorted(alias_addresses([old], name, aliases)))
        edit.add("shadowAddress", sorted(alias_addresses([new], name, aliases)))
        session.plan.append(Modify(edit.dn, edit.changes()))
        await references.forget_rights(session, [new])
        await references.rename(session, old, new, entry.dn, edit.dn)
        await session.iredadmin.rename(old, new)

    async def remove(self, mail: str, removal: Removal) -> None:
        session, name = self._session, domain_of(mail)
        entries = await session.accounts("mailUser", mail)
        if not entries:
            return
        moment = session.iredadmin.moment()
        domain = await session.domain(name)
        for entry in entries:
            await session.iredadmin.queue(name, {mail: mailbox_path(entry)}, removal, moment)
            await references.forget(session, mail, entry.dn)
            await self._mark_lists_without_members(entry)
        await session.iredadmin.forget(mail)
        if domain is not None:
            counters = session.edit(domain)
            count(counters, "users", -len(entries))
            count(counters, "quota", -sum(number(entry.value("mailQuota")) for entry in entries))
        for entry in entries:
            await session.delete(entry)
        session.after.append(partial(session.iredadmin.date_later, name, removal, moment))
        session.failed.append(partial(session.iredadmin.unqueue_later, mail, removal, moment))

    async def _mark_lists_without_members(self, entry: Entry) -> None:
        """Plan ``hasMember: no`` for lists whose last member this user is."""
        for address in sorted(words(entry, "memberOfGroup")):
            group = await self._session.account("mailList", self._tree.mail_list(address), address)
            if group is None:
                continue
            others = await self._session.find(
                self._tree.base, Scope.SUB, equal("memberOfGroup", address), ("1.1",)
            )
            if len(others) <= 1:
                self._session.edit(group).put("hasMember", "no")


def _value_of_all(entry: Entry, attribute: str) -> Any:
    """Return the value of one of ``_OF_ALL`` as in a record; None: of a password."""
    match attribute:
        case "accountstatus":
            return flag(entry, "accountStatus", "active")
        case "mailquota":
            return number(entry.value("mailQuota")) // MEGABYTE
        case "userpassword":
            return None
    return entry.value(attribute)
