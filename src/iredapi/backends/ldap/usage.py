"""What domains and mail users use: accounts in LDAP, sizes and logins in iRedAdmin's database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import ACCOUNTS, DOMAIN, USER, inside, real_users
from iredapi.backends.ldap.domain_mapping import MEGABYTE, record
from iredapi.backends.ldap.iredadmin_mailbox_tables import Used
from iredapi.backends.ldap.session import Session, address_in, flag, number, words
from iredapi.domain.addresses import domain_of
from iredapi.domain.usage import DomainUsage, UserUsage

_STATUS: Final = ("mail", "accountStatus", "domainStatus", "mailQuota")
_OF_DOMAIN: Final = ("domainName", "accountStatus", settings_values.ATTRIBUTE)
_BETWEEN: Final = "\t"
_LAST: Final = "\U0010ffff"


class LdapUsage:
    """See ``protocols.usage.UsageReader``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    async def domains(self, only: Collection[str] | None) -> list[DomainUsage]:
        if only is not None and not only:
            return []
        found: dict[str, DomainUsage] = {}
        async for page in self._session.pages(self._tree.base, Scope.ONE, DOMAIN, _OF_DOMAIN):
            for entry in page:
                own = record(entry, None)
                if only is None or own.name in only:
                    found[own.name] = DomainUsage(
                        own.name, own.active, own.quota, own.users, own.aliases, own.lists
                    )
        numbers, mails = await self._accounts(found)
        used, seen = await self._session.iredadmin.used_by_domains(mails, only)
        for name, (users, aliases, lists, size) in numbers.items():
            found[name] = replace(
                found[name],
                users=users,
                aliases=aliases,
                lists=lists,
                allocated_quota=size // MEGABYTE,
                stored_bytes=used.get(name, (0, 0))[0],
                stored_messages=used.get(name, (0, 0))[1],
                last_login=seen.get(name, 0),
            )
        return [found[name] for name in sorted(found)]

    async def _accounts(
        self, domains: Collection[str]
    ) -> tuple[dict[str, list[int]], frozenset[str]]:
        """Count users, aliases and lists, and sum up quotas (bytes); also return all users."""
        numbers, mails = {name: [0, 0, 0, 0] for name in domains}, set[str]()
        kind = inside(ACCOUNTS, next(iter(numbers))) if len(numbers) == 1 else ACCOUNTS
        names = ("objectClass", "mail", "mailQuota")
        async for page in self._session.pages(self._tree.base, Scope.SUB, kind, names):
            for entry in page:
                mail = entry.value("mail").strip().lower()
                of_domain = numbers.get(domain_of(mail))
                if of_domain is None:
                    continue
                kinds = words(entry, "objectClass")
                if "mailuser" in kinds and not mail.startswith("@"):
                    of_domain[0] += 1
                    of_domain[3] += max(number(entry.value("mailQuota")), 0)
                    mails.add(mail)
                of_domain[1] += "mailalias" in kinds
                of_domain[2] += "maillist" in kinds
        return numbers, frozenset(mails)

    async def users(self, domain: str, after: str, limit: int) -> list[UserUsage]:
        async def read() -> list[str]:
            own = await self._session.domain(domain)
            active = own is not None and flag(own, "accountStatus", "active")
            used = await self._session.iredadmin.used_of_domain(domain)
            found: dict[str, str] = {}
            kind = real_users(domain)
            async for page in self._session.pages(self._tree.base, Scope.SUB, kind, _STATUS):
                for entry in page:
                    mail = address_in(entry, domain)
                    usage = _usage(entry, mail, used.get(mail, Used()), active=active)
                    found[mail] = _row(usage)
            return list(found.values())

        # Whole rows are kept between pages, so that sizes and logins are read once.
        key = ("usage", domain)
        start = f"{after}{_BETWEEN}{_LAST}" if after else ""
        rows = await self._session.listings.page(key, start, limit, read)
        return [_usage_of(row, domain) for row in rows]

    async def of_users(self, mails: Collection[str]) -> Mapping[str, UserUsage]:
        domains = {domain_of(mail) for mail in mails}
        active = {
            entry.value("domainName").lower()
            for entry in await self._session.holders(
                self._tree.base, Scope.ONE, DOMAIN, "domainName", domains, _OF_DOMAIN[:2]
            )
            if flag(entry, "accountStatus", "active")
        }
        used = await self._session.iredadmin.used(mails)
        found: dict[str, UserUsage] = {}
        for entry in await self._session.holders(
            self._tree.base, Scope.SUB, USER, "mail", mails, _STATUS
        ):
            for mail in words(entry, "mail") & set(mails):
                on = domain_of(mail) in active
                found[mail] = _usage(entry, mail, used.get(mail, Used()), active=on)
        return found


def _usage(entry: Entry, mail: str, used: Used, *, active: bool) -> UserUsage:
    own = flag(entry, "accountStatus", "active") and not flag(entry, "domainStatus", "disabled")
    return UserUsage(
        mail=mail,
        domain=domain_of(mail),
        active=own and active,
        quota=max(number(entry.value("mailQuota")), 0) // MEGABYTE,
        stored_bytes=max(used.bytes, 0),
        stored_messages=max(used.messages, 0),
        imap=max(used.imap, 0),
        pop3=max(used.pop3, 0),
        lda=max(used.lda, 0),
    )


def _row(usage: UserUsage) -> str:
    numbers = (
        int(usage.active), usage.quota, usage.stored_bytes, usage.stored_messages,
        usage.imap, usage.pop3, usage.lda,
    )  # fmt: skip
    return _BETWEEN.join((usage.mail, *map(str, numbers)))


def _usage_of(row: str, domain: str) -> UserUsage:
    mail, *numbers = row.rsplit(_BETWEEN, 7)
    active, *rest = map(int, numbers)
    return UserUsage(mail, domain, bool(active), *rest)
