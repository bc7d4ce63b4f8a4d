"""Profiles and pages of mail users in LDAP: the role ``UserListings``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import DOMAIN, USER, both, inside
from iredapi.backends.ldap.list_cache import full_page
from iredapi.backends.ldap.listing import Listed, ListingReader, number_of, text_of
from iredapi.backends.ldap.profiles import domain_names, entry_to_response, real_users_in
from iredapi.backends.ldap.session import address_in, words
from iredapi.backends.ldap.user_mapping import record
from iredapi.backends.protocols.values import OwnRow, Profile
from iredapi.domain.addresses import domain_of
from iredapi.domain.moments import utc_text
from iredapi.domain.users import User

_LISTED = Listed(
    "users",
    # Without the accounts that catch all mail of a domain.
    both(USER, "(!(mail=@*))"),
    texts=("mail", "cn", "employeeNumber"),
    sorts={"name": text_of("cn"), "quota": number_of("mailQuota")},
)


class LdapUserProfiles(ListingReader):
    """See ``protocols.accounts.UserListings``."""

    listed = _LISTED

    async def _entry(self, mail: str) -> Entry | None:
        return await self._session.account("mailUser", self._tree.user(mail), mail)

    async def _aliases(self, domain: str) -> frozenset[str]:
        entry = await self._session.domain(domain)
        return frozenset() if entry is None else words(entry, "domainAliasName")

    async def _managed(self, mail: str) -> frozenset[str]:
        return domain_names(await self._session.find(*self._tree.managed_by(mail)))

    async def profile(self, mail: str) -> Profile | None:
        tree = self._tree
        managed, groups = await self._session.read_ahead(
            (tree.user(mail), tree.domain(domain_of(mail))),
            (tree.managed_by(mail), tree.groups_with(mail)),
        )
        entry = await self._entry(mail)
        if entry is None:
            return None
        used = await self._session.iredadmin.used_by(mail)
        own = await self._aliases(domain_of(mail))
        return entry_to_response(entry) | {
            "managed_domains": sorted(domain_names(managed)),
            "mailing_aliases": sorted(group.value("mail").lower() for group in groups),
            "mailing_lists": sorted(
                group for group in words(entry, "memberOfGroup") if domain_of(group) not in own
            ),
            "stored_bytes": used.bytes,
            "stored_messages": used.messages,
            "last_login": utc_text(max(used.imap, used.pop3)),
            "last_login_by_service": {
                "imap": utc_text(used.imap),
                "pop3": utc_text(used.pop3),
                "lda": utc_text(used.lda),
            },
        }

    async def values(self, sort: str, domains: Collection[str] | None) -> Mapping[str, int] | None:
        return await self._session.iredadmin.stored(domains) if sort == "used" else None

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self.entries(names)
        return {name: entry_to_response(entry) for name, entry in found.items()}

    async def own_fields(self, mails: Sequence[str]) -> Mapping[str, OwnRow]:
        found = await self.entries(mails)
        users = [record(mail, entry, frozenset(), ()) for mail, entry in found.items()]
        return {
            user.mail: OwnRow(
                user.mail, user.password, user.name, user.given_name, user.surname, user.active,
                user.quota, user.language, user.employee_id, user.mailbox_format,
                user.mailbox_folder,
            )
            for user in users
        }  # fmt: skip

    async def records_of(self, names: Sequence[str]) -> Mapping[str, User]:
        found = await self.entries(names)
        managed = await self._managed_by_each(names)
        aliases = {name: await self._aliases(name) for name in {domain_of(mail) for mail in found}}
        return {
            mail: record(mail, entry, aliases[domain_of(mail)], managed.get(mail, ()))
            for mail, entry in found.items()
        }

    async def _managed_by_each(self, mails: Sequence[str]) -> dict[str, set[str]]:
        managed: dict[str, set[str]] = {}
        for other in await self._session.holders(
            self._tree.base, Scope.ONE, DOMAIN, "domainAdmin", mails, ("domainName", "domainAdmin")
        ):
            for mail in words(other, "domainAdmin"):
                managed.setdefault(mail, set()).add(other.value("domainName").lower())
        return managed

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Entry]:
        async def read(mails: list[str]) -> dict[str, Entry]:
            found = await self._session.holders(self._tree.base, Scope.SUB, USER, "mail", mails)
            return {address_in(entry, domain): entry for entry in found}

        names = partial(self.mails, domain, disabled_only=disabled_only)
        return await full_page(names, read, after, limit)

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        entries = await self._page(domain, after, limit, disabled_only=disabled_only)
        return [entry_to_response(entry) for entry in entries]

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[User]:
        entries = await self._page(domain, after, limit, disabled_only=disabled_only)
        mails = [address_in(entry, domain) for entry in entries]
        managed = await self._managed_by_each(mails)
        aliases = await self._aliases(domain)
        return [
            record(mail, entry, aliases, managed.get(mail, ()))
            for entry, mail in zip(entries, mails, strict=True)
        ]

    async def mails(self, domain: str, after: str, limit: int, *, disabled_only: bool) -> list[str]:
        # slapd would compare each user with the name of the catch-all account.
        kind = inside(USER, domain)
        if disabled_only:
            kind = both(kind, "(!(accountStatus=active))")

        async def read() -> list[str]:
            found = self._session.pages_of_names(Scope.SUB, kind, "mail")
            return list({mail async for page in found for mail in real_users_in(page, domain)})

        key = ("users", domain, disabled_only)
        return await self._session.listings.page(key, after, limit, read)
