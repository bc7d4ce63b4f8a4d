"""What domains and mail users use: accounts in LDAP, sizes and logins in iRedAdmin's database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.dn_layout import (
    DOMAIN,
    OTHERS,
    USER,
    both,
    either,
    ends,
    real_users,
)
from iredapi.backends.ldap.domain_mapping import MEGABYTE, record
from iredapi.backends.ldap.mailbox_sizes import HashedNames, Used
from iredapi.backends.ldap.session import Session, address_in, flag, number, words
from iredapi.domain import services, suspension
from iredapi.domain.addresses import domain_of
from iredapi.domain.usage import DomainUsage, Sums, UserUsage

_STATUS: Final = ("mail", "accountStatus", "domainStatus", "mailQuota", "enabledService")
_OF_DOMAIN: Final = ("domainName", "accountStatus", settings_values.ATTRIBUTE)
_TERMS: Final = 10
"""Domains in one filter: slapd compares each entry that it looks at with each of them."""
_FEW: Final = 100
"""Up to so many domains are searched for; for more, all accounts are read."""
_BETWEEN: Final = "\t"
_LAST: Final = "\U0010ffff"


class LdapUsage:
    """See ``protocols.usage.UsageReader``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    # -- domains -----------------------------------------------------------------------------------

    async def strays(self, only: Collection[str] | None) -> Mapping[str, Sums]:
        del only
        return {}  # accounts belong to the domain of their address

    async def domains(
        self,
        only: Collection[str] | None,
        after: str,
        limit: int,
        strays: Mapping[str, Sums],
    ) -> list[DomainUsage]:
        del strays
        key = ("usage of domains", None if only is None else frozenset(only))
        if not after:
            # slapd sorts nothing. To count all accounts takes long, so the first domains are
            # counted by themselves, and sent meanwhile.
            self._session.listings.forget(key)
            every = await self._domains(only)
            first = {name: every[name] for name in sorted(every)[:limit]}
            return await self._counted(first, first)

        async def read() -> list[str]:
            every = await self._domains(only)
            return [_domain_row(found) for found in await self._counted(every, only)]

        # Only a row for each domain is kept between pages.
        return [
            _domain_of(row)
            for row in await self._session.listings.page(
                key, f"{after}{_BETWEEN}{_LAST}", limit, read
            )
        ]

    async def totals(self) -> Mapping[str, Sums]:
        every = await self._domains(None)
        return {item.stored: item.sums for item in await self._counted(every, None)}

    async def of_domains(self, names: Collection[str]) -> list[DomainUsage]:
        return await self._counted(await self._domains(names), names)

    async def _domains(self, only: Collection[str] | None) -> dict[str, DomainUsage]:
        """Read the domains, of these; nothing is counted yet."""
        if only is not None and not only:
            return {}
        found: dict[str, DomainUsage] = {}
        async for page in self._session.pages(self._tree.base, Scope.ONE, DOMAIN, _OF_DOMAIN):
            for entry in page:
                own = record(entry, None)
                if only is None or own.name in only:
                    found[own.name] = DomainUsage(
                        own.name,
                        own.active,
                        suspension.is_suspended(own.settings),
                        own.quota,
                        own.users,
                        own.aliases,
                        own.lists,
                    )
        return found

    async def _counted(
        self, found: Mapping[str, DomainUsage], only: Collection[str] | None
    ) -> list[DomainUsage]:
        """Return domains with what their accounts use, sorted; ``only``: in which are sizes."""
        numbers, mails = await self._accounts(found)
        used, seen = await self._session.iredadmin.used_by_domains(mails, only)
        return [
            replace(
                found[name],
                sums=Sums(
                    users,
                    aliases,
                    lists,
                    size // MEGABYTE,
                    *used.get(name, (0, 0)),
                    last_login=seen.get(name, 0),
                ),
            )
            for name, (users, aliases, lists, size) in sorted(numbers.items())
        ]

    async def _accounts(self, domains: Collection[str]) -> tuple[dict[str, list[int]], HashedNames]:
        """Count users, aliases and lists, and sum up quotas (bytes); also return all users."""
        numbers, mails = {name: [0, 0, 0, 0] for name in domains}, HashedNames()
        # Users are most of it, and to read the names of their classes takes long.
        async for mail, entry in self._found(USER, ("mail", "mailQuota"), domains):
            if not mail.startswith("@"):
                of_domain = numbers[domain_of(mail)]
                of_domain[0] += 1
                of_domain[3] += max(number(entry.value("mailQuota")), 0)
                mails.add(mail)
        async for mail, entry in self._found(OTHERS, ("mail", "objectClass"), domains):
            kinds, of_domain = words(entry, "objectClass"), numbers[domain_of(mail)]
            of_domain[1] += "mailalias" in kinds
            of_domain[2] += "maillist" in kinds
        return numbers, mails

    async def _found(
        self, kind: str, attributes: Sequence[str], domains: Collection[str]
    ) -> AsyncIterator[tuple[str, Entry]]:
        """Yield address and entry of all accounts of a kind, in these domains.

        One search for each ``_TERMS`` domains, or one for more than ``_FEW``.
        """
        names = sorted(domains)
        groups = [names[start : start + _TERMS] for start in range(0, len(names), _TERMS)]
        for some in groups if len(names) <= _FEW else [domains]:
            within = kind
            if some is not domains:
                within = both(kind, either(ends("mail", f"@{name}") for name in some))
            async for page in self._session.pages(self._tree.base, Scope.SUB, within, attributes):
                for entry in page:
                    mail = entry.value("mail").strip().lower()
                    # An entry with addresses in several domains belongs to that of the first one.
                    if domain_of(mail) in some:
                        yield mail, entry

    # -- users -------------------------------------------------------------------------------------

    async def spellings(self, domain: str) -> Sequence[str]:
        return [domain]

    async def users(
        self, spelled: Sequence[str], after: str, limit: int, *, active: bool
    ) -> list[UserUsage]:
        (domain,) = spelled

        async def read() -> list[str]:
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
        suspended=any(map(services.is_mark, words(entry, "enabledService"))),
    )


def _domain_row(usage: DomainUsage) -> str:
    sums = usage.sums
    numbers = (
        int(usage.active), int(usage.suspended), usage.quota, usage.max_users, usage.max_aliases,
        usage.max_lists, sums.users, sums.aliases, sums.lists, sums.allocated_quota,
        sums.stored_bytes, sums.stored_messages, sums.last_login,
    )  # fmt: skip
    return _BETWEEN.join((usage.stored, *map(str, numbers)))


def _domain_of(row: str) -> DomainUsage:
    name, *numbers = row.split(_BETWEEN)
    active, suspended, quota, users, aliases, lists, *sums = map(int, numbers)
    return DomainUsage(
        name, bool(active), bool(suspended), quota, users, aliases, lists, Sums(*sums)
    )


def _row(usage: UserUsage) -> str:
    numbers = (
        int(usage.active), usage.quota, usage.stored_bytes, usage.stored_messages,
        usage.imap, usage.pop3, usage.lda, int(usage.suspended),
    )  # fmt: skip
    return _BETWEEN.join((usage.mail, *map(str, numbers)))


def _usage_of(row: str, domain: str) -> UserUsage:
    mail, *numbers = row.rsplit(_BETWEEN, 8)
    active, quota, size, messages, imap, pop3, lda, suspended = map(int, numbers)
    return UserUsage(
        mail, domain, bool(active), quota, size, messages, imap, pop3, lda, bool(suspended)
    )
