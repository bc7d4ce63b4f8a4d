"""Unsubscribable mailing lists in LDAP.

Postfix does not read the entry of a list: its members have a ``memberOfGroup`` for each address of
the list, and an entry below ``ou=Externals`` has the addresses of external members.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from iredapi.backends.ldap import references
from iredapi.backends.ldap.alias_domain_addresses import alias_addresses, with_alias_addresses
from iredapi.backends.ldap.client import ANY_ENTRY, Entry, Scope
from iredapi.backends.ldap.dn_layout import ACCOUNTS, both, either, equal
from iredapi.backends.ldap.domain_mapping import count
from iredapi.backends.ldap.listing import Listed, ListingReader, text_of
from iredapi.backends.ldap.profiles import entry_to_response
from iredapi.backends.ldap.session import address_in, chunks, flag, words
from iredapi.backends.protocols.values import Profile
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.maillists import MailList, policy


def _record(address: str, entry: Entry, members: Collection[str]) -> MailList:
    return MailList(
        address,
        name=entry.value("cn"),
        access_policy=policy(entry.value("accessPolicy")),
        active=flag(entry, "accountStatus", "active"),
        members=frozenset(members),
    )


class LdapMailLists(ListingReader):
    """See ``protocols.lists.MailLists``."""

    listed = Listed(
        "maillists",
        "(&(objectClass=mailList)(!(enabledService=mlmmj)))",
        texts=("mail", "cn"),
        sorts={"name": text_of("cn")},
        added=frozenset({"members"}),
    )

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self.entries(names)
        members = await self._members_of_each(names)
        return {
            name: entry_to_response(entry) | {"members": sorted(members.get(name, ()))}
            for name, entry in found.items()
        }

    async def records_of(self, names: Sequence[str]) -> Mapping[str, MailList]:
        found = await self.entries(names)
        members = await self._members_of_each(names)
        return {name: _record(name, entry, members.get(name, ())) for name, entry in found.items()}

    async def _members_of_each(self, names: Sequence[str]) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        wanted = frozenset(names)
        for entry in await self._session.holders(
            self._tree.base, Scope.SUB, ANY_ENTRY, "memberOfGroup", names, ("mail", "memberOfGroup")
        ):
            for name in words(entry, "memberOfGroup") & wanted:
                found.setdefault(name, set()).update(words(entry, "mail"))
        return found

    async def _entry(self, address: str) -> Entry | None:
        entry = await self._session.account("mailList", self._tree.mail_list(address), address)
        if entry is None:
            return None
        # Subscribable lists are in the same container; mlmmj manages them.
        return None if "mlmmj" in words(entry, "enabledService") else entry

    async def get(self, address: str) -> MailList | None:
        entry = await self._entry(address)
        if entry is None:
            return None
        return _record(address, entry, await self._members(address))

    async def claim(self, address: str) -> MailList | None:
        await self._session.lock(domain_of(address))
        return await self.get(address)

    async def profile(self, address: str) -> Profile | None:
        entry = await self._entry(address)
        if entry is None:
            return None
        return entry_to_response(entry) | {"members": sorted(await self._members(address))}

    async def _member_entries(self, address: str) -> list[Entry]:
        """Return the entries of a list's members (with its ``memberOfGroup``)."""
        found = await self._session.find(
            self._tree.base, Scope.SUB, equal("memberOfGroup", address)
        )
        return [self._session.remember(entry) for entry in found]

    async def _members(self, address: str) -> frozenset[str]:
        found = await self._member_entries(address)
        return frozenset().union(*(words(entry, "mail") for entry in found))

    async def _aliases(self, domain: str) -> tuple[Entry | None, frozenset[str]]:
        entry = await self._session.domain(domain)
        return entry, frozenset() if entry is None else words(entry, "domainAliasName")

    async def primaries(self, domain: str, addresses: Collection[str]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for some in chunks(addresses):
            terms = [equal(name, value) for value in some for name in ("mail", "shadowAddress")]
            for entry in await self._session.find(
                self._tree.base,
                Scope.SUB,
                both(ACCOUNTS, either(terms)),
                ("mail", "shadowAddress"),
            ):
                mail = address_in(entry, domain)
                if domain_of(mail) != domain:
                    continue  # another domain's account, with an address here
                # A catch-all account is not an address.
                if not mail.startswith("@"):
                    found |= dict.fromkeys(words(entry, "shadowAddress"), mail) | {mail: mail}
        return {address: found[address] for address in addresses if address in found}

    async def _accounts(self, members: Collection[str], domain: str) -> list[Entry]:
        found = await self._session.holders(
            self._tree.base, Scope.SUB, ACCOUNTS, "mail",
            [mail for mail in members if domain_of(mail) == domain],
        )  # fmt: skip
        return [self._session.remember(entry) for entry in found]

    # -- writing -----------------------------------------------------------------------------------

    async def add(self, mail_list: MailList) -> None:
        session, address = self._session, mail_list.address
        name = domain_of(address)
        domain, aliases = await self._aliases(name)
        disabled = domain is not None and not flag(domain, "accountStatus", "active")
        entries = await self._accounts(mail_list.internal, name)
        session.add(
            self._tree.mail_list(address),
            {
                "objectClass": ["mailList"],
                "mail": [address],
                "cn": [mail_list.name or local_part_of(address)],
                "accountStatus": ["active"],
                "enabledService": ["mail", "deliver", "displayedInGlobalAddressBook"],
                "accessPolicy": [mail_list.access_policy],
                "hasMember": ["yes" if mail_list.members else "no"],
                "member": self._dns(entries),
                "shadowAddress": sorted(alias_addresses([address], name, aliases)),
                "domainStatus": ["disabled"] if disabled else [],
            },
        )
        await self._join(mail_list, mail_list.members)
        if domain is not None:
            count(session.edit(domain), "lists", 1)

    def _dns(self, entries: Collection[Entry]) -> list[str]:
        """Return the DNs for ``member``: those of users, with which SOGo expands a list."""
        if not self._session.options.member_dns:
            return []
        return sorted(entry.dn for entry in entries if "mailuser" in words(entry, "objectClass"))

    async def _join(self, mail_list: MailList, new: frozenset[str]) -> list[Entry]:
        """Plan to add members to a list; return the entries of the internal ones."""
        session, address = self._session, mail_list.address
        name = domain_of(address)
        domain, aliases = await self._aliases(name)
        entries = await self._accounts(new & mail_list.internal, name)
        for entry in entries:
            edit = session.edit(entry)
            edit.add("memberOfGroup", sorted(with_alias_addresses([address], name, aliases)))
        outside = new & mail_list.external
        external = await session.external(address)
        if external is not None:
            session.edit(external).add("mail", sorted(outside))
        elif outside:
            disabled = domain is not None and not flag(domain, "accountStatus", "active")
            session.add(
                self._tree.external(address),
                {
                    "objectClass": ["mailExternalUser"],
                    "memberOfGroup": [address],
                    "mail": sorted(outside),
                    "accountStatus": ["active"],
                    "enabledService": ["mail", "deliver"],
                    "shadowAddress": sorted(alias_addresses([address], name, aliases)),
                    "domainStatus": ["disabled"] if disabled else [],
                },
            )
        return entries

    async def save(self, before: MailList, after: MailList) -> None:
        entry = await self._entry(before.address)
        if before == after or entry is None:
            return
        session, address = self._session, before.address
        gone = before.members - after.members
        leaving: list[Entry] = []
        if gone:
            leaving = await self._leave(address, gone)
        joining = await self._join(after, after.members - before.members)
        external = await session.external(address)
        if external is not None and not session.edit(external).now("mail"):
            await session.delete(external)
        edit = session.edit(entry)
        if before.name != after.name:
            edit.put("cn", after.name or local_part_of(address))
        if before.access_policy != after.access_policy:
            edit.put("accessPolicy", after.access_policy)
        if before.members != after.members:
            edit.put("hasMember", "yes" if after.members else "no")
            edit.discard("member", [item.dn for item in leaving])
            edit.add("member", self._dns(joining))

    async def _leave(self, address: str, gone: Collection[str]) -> list[Entry]:
        """Plan to remove members from a list; return the entries of the internal ones."""
        session, name = self._session, domain_of(address)
        own = with_alias_addresses([address], name, (await self._aliases(name))[1])
        left = []
        for entry in await self._member_entries(address):
            mails = words(entry, "mail")
            if "mailexternaluser" in words(entry, "objectClass"):
                session.edit(entry).discard("mail", sorted(gone))
            elif mails & frozenset(gone):
                session.edit(entry).discard("memberOfGroup", sorted(own))
                left.append(entry)
        return left

    async def remove(self, address: str) -> None:
        found = await self._session.accounts("mailList", address)
        entries = [entry for entry in found if "mlmmj" not in words(entry, "enabledService")]
        if not entries:
            return
        session = self._session
        await self._leave(address, await self._members(address))
        domain, aliases = await self._aliases(domain_of(address))
        own = with_alias_addresses([address], domain_of(address), aliases)
        for entry in await self._member_entries(address):
            if "mailexternaluser" not in words(entry, "objectClass"):
                continue
            if words(entry, "memberOfGroup") <= own:
                await session.delete(entry)
            else:
                session.edit(entry).discard("memberOfGroup", sorted(own))
        for entry in entries:
            await references.forget(session, address, entry.dn)
        if domain is not None:
            count(session.edit(domain), "lists", -len(entries))
        for entry in entries:
            await session.delete(entry)
