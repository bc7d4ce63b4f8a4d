"""Which accounts exist in an SQL account storage, for the checks of the related databases."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Column, select

from iredapi.backends.sql import tables as t
from iredapi.database.repository import chunks
from iredapi.database.session import Databases
from iredapi.domain.addresses import domain_of, local_part_of


class SqlDirectory:
    """See ``orphaned_rows.Directory``."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def unknown(self, accounts: Collection[str]) -> frozenset[str]:
        """See ``orphaned_rows.Directory``."""
        names = {account: account.lstrip("@") for account in accounts}
        domains = {domain_of(name) for name in names.values()}
        hosted = await self._present(domains, t.domain.c.domain)
        alias_addresses = await self._targets(domains - hosted)
        wanted: dict[str, str] = {}
        unknown = set()
        for account, name in names.items():
            domain = domain_of(name)
            if domain in hosted or domain in alias_addresses:
                if "@" in name:
                    wanted[account] = name
            elif "@" not in name or not await self._is_admin(name):
                unknown.add(account)
        spellings = {
            account: self._spellings(name, alias_addresses) for account, name in wanted.items()
        }
        present = await self._existing({text for texts in spellings.values() for text in texts})
        unknown.update(account for account, texts in spellings.items() if not texts & present)
        return frozenset(unknown)

    async def hosts_any(self) -> bool:
        """See ``orphaned_rows.Directory``."""
        async with self._databases["vmail"].using() as pooled:
            found = await pooled.connection.execute(select(t.domain.c.domain).limit(1))
            return found.first() is not None

    @staticmethod
    def _spellings(mail: str, alias_addresses: dict[str, str]) -> frozenset[str]:
        """Return the addresses that mail to an address may be stored under.

        With and without its extension, in its own domain and in the target of an alias domain.
        """
        local, domain = local_part_of(mail), domain_of(mail)
        locals_ = {local, local.partition("+")[0]}
        domains = {domain, alias_addresses.get(domain, domain)}
        return frozenset(f"{one}@{other}" for one in locals_ for other in domains)

    async def _is_admin(self, name: str) -> bool:
        return bool(await self._present({name}, t.admin.c.username))

    async def _existing(self, addresses: Collection[str]) -> frozenset[str]:
        columns = (
            t.mailbox.c.username, t.alias.c.address, t.maillists.c.address, t.admin.c.username,
        )  # fmt: skip
        found: set[str] = set()
        for column in columns:
            found |= await self._present(addresses, column)
        f = t.forwardings.c
        return frozenset(found | await self._present(addresses, f.address, f.is_alias))

    async def _present(
        self, names: Iterable[str], column: Column[Any], mark: Column[Any] | None = None
    ) -> frozenset[str]:
        found: set[Any] = set()
        async with self._databases["vmail"].using() as pooled:
            for some in chunks(names):
                statement = select(column).where(column.in_(some))
                if mark is not None:
                    statement = statement.where(mark == 1)
                found.update((await pooled.connection.execute(statement)).scalars())
        return frozenset(str(name).lower() for name in found)

    async def _targets(self, names: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        async with self._databases["vmail"].using() as pooled:
            a = t.alias_domain.c
            for some in chunks(names):
                statement = select(a.alias_domain, a.target_domain).where(a.alias_domain.in_(some))
                for alias, target in await pooled.connection.execute(statement):
                    found[str(alias).lower()] = str(target).lower()
        return found
