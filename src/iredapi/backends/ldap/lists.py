"""Subscribable mailing lists in LDAP: entries of ``ou=Groups`` with the service ``mlmmj``.

Postfix delivers to the list by its ``mtaTransport``. Its entry has all its addresses, those in
alias domains too. Only mlmmj stores subscribers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial

from iredapi.backends.ldap import references, settings_values
from iredapi.backends.ldap.alias_domain_addresses import alias_addresses, with_alias_addresses
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import both, either, ends, equal, inside
from iredapi.backends.ldap.domain_mapping import count
from iredapi.backends.ldap.list_cache import full_page
from iredapi.backends.ldap.listing import Listed, ListingReader, text_of
from iredapi.backends.ldap.session import address_in, flag, number, words
from iredapi.domain.addresses import domain_of
from iredapi.domain.lists import MailingList, stored_to_response

_LIST = "(&(objectClass=mailList)(enabledService=mlmmj))"
_TIMES = ("createTimestamp", "modifyTimestamp")
_NEWSLETTER = "is_newsletter"
"""A key of ``accountSetting``: the schema has no attribute for it."""
_SINGLE = {
    "name": "cn",
    "access_policy": "accessPolicy",
    "description": "description",
    "mlid": "mailingListID",
    "transport": "mtaTransport",
}


def record(address: str, entry: Entry, aliases: Collection[str]) -> MailingList:
    """Return the record of a list; ``aliases`` are its domain's alias domains."""
    name = domain_of(address)
    others = words(entry, "shadowAddress") - alias_addresses([address], name, aliases)
    settings = settings_values.parse(entry.values(settings_values.ATTRIBUTE))
    fields = {field: entry.value(attribute) for field, attribute in _SINGLE.items()}
    return MailingList(
        address,
        **fields | {"access_policy": fields["access_policy"].lower() or "public"},
        active=flag(entry, "accountStatus", "active"),
        newsletter=settings.get(_NEWSLETTER) == "yes",
        max_message_size=number(entry.value("maxMessageSize")),
        owners=words(entry, "listOwner"),
        moderators=words(entry, "listModerator"),
        extra_addresses=others - alias_addresses(others, name, aliases),
        created=_moment(entry.value("createTimestamp")),
        modified=_moment(entry.value("modifyTimestamp")),
    )


def _moment(text: str) -> str:
    """Return an LDAP time (``20260131120000Z``) in the format of responses (UTC)."""
    try:
        moment = datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


class LdapLists(ListingReader):
    """See ``protocols.lists.Lists``."""

    listed = Listed("lists", _LIST, texts=("mail", "cn"), sorts={"name": text_of("cn")})

    def fields(self) -> Collection[str]:
        return stored_to_response(MailingList(""))

    async def records_of(self, names: Sequence[str]) -> Mapping[str, MailingList]:
        found = await self.entries(names, ("*", *_TIMES))
        aliases = {name: await self._aliases(name) for name in {domain_of(mail) for mail in found}}
        return {
            mail: record(mail, entry, aliases[domain_of(mail)]) for mail, entry in found.items()
        }

    async def _aliases(self, domain: str) -> frozenset[str]:
        entry = await self._session.domain(domain)
        return frozenset() if entry is None else words(entry, "domainAliasName")

    async def get(self, address: str) -> MailingList | None:
        # Operational attributes only here: an undo could not write them back.
        entry = await self._entry(address)
        if entry is None:
            return None
        found = await self._session.find(entry.dn, Scope.BASE, _LIST, ("*", *_TIMES))
        aliases = await self._aliases(domain_of(address))
        return record(address, found[0], aliases) if found else None

    async def has_any(self) -> bool:
        pages = self._session.directory.pages(self._tree.base, Scope.SUB, _LIST, ("1.1",), size=1)
        async with aclosing(pages) as found:
            return bool(await anext(found, None))

    async def claim(self, address: str) -> MailingList | None:
        await self._session.lock(domain_of(address))
        entry = await self._entry(address)
        if entry is None:
            return None
        return record(address, entry, await self._aliases(domain_of(address)))

    async def _entry(self, address: str) -> Entry | None:
        entry = await self._session.account("mailList", self._tree.mail_list(address), address)
        return entry if entry is not None and "mlmmj" in words(entry, "enabledService") else None

    async def other_addresses(self, address: str) -> frozenset[str]:
        del address  # all are values of the list's own entry
        return frozenset()

    async def page(self, domain: str, after: str, limit: int) -> list[MailingList]:
        aliases = await self._aliases(domain)

        async def read(names: list[str]) -> dict[str, MailingList]:
            found = await self._session.holders(
                self._tree.base, Scope.SUB, _LIST, "mail", names, ("*", *_TIMES)
            )
            listed = {address_in(entry, domain): entry for entry in found}
            return {address: record(address, entry, aliases) for address, entry in listed.items()}

        return await full_page(partial(self.addresses, domain), read, after, limit)

    async def addresses(self, domain: str, after: str, limit: int) -> list[str]:
        async def read() -> list[str]:
            kind = inside(_LIST, domain)
            found = self._session.pages_of_names(Scope.SUB, kind, "mail")
            return list({address_in(entry, domain) async for page in found for entry in page})

        return await self._session.listings.page(("lists", domain), after, limit, read)

    async def managed_by(self, mails: Collection[str], domains: Collection[str]) -> frozenset[str]:
        terms = [
            term
            for name in ("listOwner", "listModerator")
            if self._session.knows(name)
            for term in (
                *(equal(name, mail) for mail in sorted(mails)),
                *(ends(name, f"@{domain}") for domain in sorted(domains)),
            )
        ]
        if not terms:
            return frozenset()
        found = await self._session.find(
            self._tree.base, Scope.SUB, both(_LIST, either(terms)), ("mail",)
        )
        return frozenset(entry.value("mail").lower() for entry in found)

    async def add(self, item: MailingList) -> None:
        session, name = self._session, domain_of(item.address)
        domain = await session.domain(name)
        disabled = domain is not None and not flag(domain, "accountStatus", "active")
        aliases = await self._aliases(name)
        every_address = with_alias_addresses([item.address, *item.extra_addresses], name, aliases)
        session.add(
            self._tree.mail_list(item.address),
            {
                "objectClass": ["mailList"],
                "mail": [item.address],
                **{
                    attribute: [value] if (value := getattr(item, field)) else []
                    for field, attribute in _SINGLE.items()
                },
                "accountStatus": ["active" if item.active else "disabled"],
                "enabledService": ["mail", "deliver", "mlmmj"],
                "maxMessageSize": [str(item.max_message_size)] if item.max_message_size else [],
                "listOwner": sorted(item.owners),
                "listModerator": sorted(item.moderators),
                "listAllowedUser": sorted(item.owners | item.moderators),
                "shadowAddress": sorted(every_address - {item.address}),
                settings_values.ATTRIBUTE: [f"{_NEWSLETTER}:yes"] if item.newsletter else [],
                "domainStatus": ["disabled"] if disabled else [],
            },
        )
        if domain is not None:
            count(session.edit(domain), "lists", 1)

    async def save(self, before: MailingList, after: MailingList) -> None:
        entry = await self._entry(before.address)
        if before == after or entry is None:
            return
        edit, name = self._session.edit(entry), domain_of(before.address)
        for field, attribute in _SINGLE.items():
            if getattr(before, field) != getattr(after, field):
                edit.put(attribute, getattr(after, field))
        if before.active != after.active:
            edit.put("accountStatus", "active" if after.active else "disabled")
        if before.max_message_size != after.max_message_size:
            edit.put("maxMessageSize", str(after.max_message_size or ""))
        if before.newsletter != after.newsletter:
            settings_values.put(edit, _NEWSLETTER, "yes" if after.newsletter else "")
        for attribute, old, new in (
            ("listOwner", before.owners, after.owners),
            ("listModerator", before.moderators, after.moderators),
        ):
            if self._session.knows(attribute):
                edit.discard(attribute, sorted(old - new))
                edit.add(attribute, sorted(new - old))
        old_users, new_users = before.owners | before.moderators, after.owners | after.moderators
        if old_users != new_users:
            edit.discard("listAllowedUser", sorted(old_users - new_users))
            edit.add("listAllowedUser", sorted(new_users))
        aliases = await self._aliases(name)
        old_extra = with_alias_addresses(before.extra_addresses, name, aliases)
        new_extra = with_alias_addresses(after.extra_addresses, name, aliases)
        own = alias_addresses([before.address], name, aliases)
        edit.discard("shadowAddress", sorted(old_extra - new_extra - own))
        edit.add("shadowAddress", sorted(new_extra - old_extra))

    async def remove(self, address: str) -> None:
        found = await self._session.accounts("mailList", address)
        entries = [entry for entry in found if "mlmmj" in words(entry, "enabledService")]
        for entry in entries:
            await references.forget(self._session, address, entry.dn)
        domain = await self._session.domain(domain_of(address))
        if domain is not None:
            count(self._session.edit(domain), "lists", -len(entries))
        for entry in entries:
            await self._session.delete(entry)
