"""Addresses of many accounts that are to be made at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import CompoundSelect, Select, select

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.sql import domain_related_rows, spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows
from iredapi.backends.sql.addresses import SqlAddresses, in_the_way, place_of, vacancy
from iredapi.backends.sql.domains import record, recorded
from iredapi.database.bulk_parameters import numbered, padded, texts
from iredapi.database.dialect import BY_NAME
from iredapi.database.live_schema import Schema
from iredapi.domain.addresses import domain_of


class AddressBatches(SqlAddresses):
    """Claims addresses of one or more domains together."""

    async def claim_all(self, addresses: Sequence[str]) -> list[AddressAvailability | None] | None:
        many = self._connections.databases["vmail"].takes_many
        places = await (self._each(addresses) if many else self._all(addresses))
        if places is None:
            return None
        alias_addresses = [
            place.domain.alias_addresses(address) if place else ()
            for place, address in zip(places, addresses, strict=True)
        ]
        every = sorted({alias_address for some in alias_addresses for alias_address in some})
        if not every:
            return places
        taken = await self.in_use(every)
        if not taken <= set(every):
            return [await self.claim(address) for address in addresses]  # see ``_all``
        return [
            place and replace(place, in_use=place.in_use or not taken.isdisjoint(some))
            for place, some in zip(places, alias_addresses, strict=True)
        ]

    async def _each(self, addresses: Sequence[str]) -> list[AddressAvailability | None] | None:
        names = {domain_of(address) for address in addresses}
        if not await self._connections.lock_nowait("vmail", t.domain.c.domain, names):
            return None
        columns, found = await self.table_for_each(
            "addresses.claim",
            lambda: vacancy(self.schema, self.dialect),
            [self.asked(address) for address in addresses],
        )
        return [
            place_of(columns, rows, domain_of(address))
            for rows, address in zip(found, addresses, strict=True)
        ]

    async def _all(self, addresses: Sequence[str]) -> list[AddressAvailability | None] | None:
        names, size = [domain_of(address) for address in addresses], padded(len(addresses))
        asked = [
            {"name": name, "mail": address} for name, address in zip(names, addresses, strict=True)
        ]
        found = await self.begin_reading(
            ("addresses.claim all", size),
            # The second one sees what was done before the domains were free.
            lambda: [_homes(size), _availabilities(self.schema, size, self.dialect)],
            {**numbered(asked, size), **spellings.spelled(addresses, self.dialect)},
        )
        if found is None:
            return None
        homes, beside = found
        rows = [tuple(row.values()) for row in beside]
        related_rows = RelatedRows(rows)
        domains = {row["domain"].lower(): record(row, related_rows) for row in homes}
        taken = {owner.lower() for kind, owner, *_ in rows if kind == "taken"}
        if not taken <= set(addresses):
            # MariaDB takes some names for others: it knows which.
            return [await self.claim(address) for address in addresses]
        queued = frozenset(text for kind, _, text, _ in rows if kind == "queued")
        return [
            AddressAvailability(domains[name], in_use=address in taken, queued=queued)
            if name in domains
            else None
            for name, address in zip(names, addresses, strict=True)
        ]


def _homes(size: int) -> Select[Any]:
    """Select some domains and hold them, if nobody else does."""
    chosen = t.domain.c.domain.in_(texts("name", size))
    homes = select(*recorded()).where(chosen).with_for_update(nowait=True)
    return homes.with_hint(t.domain, BY_NAME, "mysql").with_hint(t.domain, BY_NAME, "mariadb")


def _availabilities(schema: Schema, size: int, dialect: str) -> CompoundSelect[Any]:
    """Select what belongs to some domains, and what is in the way of some addresses."""
    names, mails = texts("name", size), texts("mail", size)
    return domain_related_rows.alias_domains(lambda column, **_: column.in_(names)).union_all(
        *in_the_way(schema, lambda column: column.in_(mails), dialect)
    )
