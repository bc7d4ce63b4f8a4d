"""Creating several users of a domain in one unit: the LDAP role ``UserBatches``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from iredapi.backends.ldap.admins import LdapAdmins
from iredapi.backends.ldap.aliases import LdapAddresses
from iredapi.backends.ldap.domains import LdapDomains
from iredapi.backends.ldap.session import Session, words
from iredapi.backends.ldap.users import LdapUsers
from iredapi.backends.protocols.values import AddressAvailability
from iredapi.domain.addresses import domain_of
from iredapi.domain.domains import Domain
from iredapi.domain.user_parameters import FIELDS
from iredapi.domain.users import User


class LdapUserBatches:
    """See ``protocols.user_batches.UserBatches``; simultaneous requests do not use it."""

    created_fields: Final = frozenset[str]().union(*FIELDS.values())

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim_addresses(
        self, addresses: Sequence[str]
    ) -> list[AddressAvailability | None] | None:
        session = self._session
        names = sorted({domain_of(address) for address in addresses})
        await session.lock(*names)
        domains = {name: await LdapDomains(session).claim(name) for name in names}
        asked = {
            address: {address, *found.alias_addresses(address)}
            for address in addresses
            if (found := domains[domain_of(address)]) is not None
        }
        if not asked:
            return [None for _ in addresses]
        every = sorted(frozenset[str]().union(*asked.values()))
        used = set(await LdapAddresses(session).taken(every))
        for entries in await session.find_all(LdapAdmins(session).standalone(sorted(asked))):
            used |= {mail for entry in entries for mail in words(entry, "mail")}
        queued = await session.iredadmin.all_queued(sorted(asked))
        return [
            _availability(domains[domain_of(address)], used & asked[address], queued, address)
            if address in asked
            else None
            for address in addresses
        ]

    async def add_users(self, users: Sequence[User], *, changed: datetime | None) -> None:
        await LdapUsers(self._session).add_all(users, groups=(), changed=changed)

    async def update_without_read(
        self, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, Mapping[str, Any]]:
        del changes
        return {}

    async def read_with_domain(
        self, mails: Sequence[str]
    ) -> list[tuple[Domain | None, User | None]]:
        return [(None, None) for _ in mails]

    async def save_rows(self, pairs: Sequence[tuple[User, User]]) -> frozenset[str]:
        del pairs
        return frozenset()


def _availability(
    domain: Domain | None, used: set[str], queued: Mapping[str, frozenset[str]], address: str
) -> AddressAvailability | None:
    if domain is None:
        return None
    return AddressAvailability(domain, bool(used), queued.get(address, frozenset()))
