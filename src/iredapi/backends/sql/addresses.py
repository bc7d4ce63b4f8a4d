"""The namespace of all addresses in ``vmail``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, String, bindparam, select

from iredapi.backends.protocols.accounts import AddressAvailability
from iredapi.backends.sql import domain_related_rows, mailbox_paths, spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, Store, side
from iredapi.backends.sql.domain_related_rows import split
from iredapi.backends.sql.domains import record, recorded
from iredapi.database.bulk_parameters import numbered, padded, texts
from iredapi.database.connection import Row
from iredapi.database.dialect import BY_NAME
from iredapi.database.live_schema import Schema
from iredapi.database.repository import chunks
from iredapi.domain.addresses import domain_of, fold


class SqlAddresses(Store):
    """See ``protocols.Addresses``."""

    async def claim(self, address: str) -> AddressAvailability | None:
        name = domain_of(address)
        await self.hold_rows(Row(t.domain.c.domain, name))
        # A statement of its own: who waited for the row sees what was done before it was free.
        columns, rows = await self.table(
            "addresses.claim",
            lambda: _availability(self.schema, self.dialect),
            **self._asked(address),
        )
        place = _place(columns, rows, name)
        if place is None:
            return None
        alias_addresses = place.domain.alias_addresses(address)
        return replace(
            place,
            in_use=place.in_use or bool(alias_addresses and await self.in_use(alias_addresses)),
        )

    def _asked(self, address: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"name": domain_of(address), "mail": address}
        return asked | spellings.spelled([address], self.dialect)

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
            lambda: _availability(self.schema, self.dialect),
            [self._asked(address) for address in addresses],
        )
        return [
            _place(columns, rows, domain_of(address))
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
            lambda: [_homes(size), _availabilities(self.schema, size)],
            numbered(asked, size),
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
        taken |= await self._in_other_letters(addresses, admins=True)
        return [
            AddressAvailability(domains[name], in_use=address in taken, queued=queued)
            if name in domains
            else None
            for name, address in zip(names, addresses, strict=True)
        ]

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for some in chunks(addresses):
            first, *others = (
                select(column).where(column.in_(some)) for column in _names(self.schema)
            )
            found.update(await self.column(first.union(*others)))
        return frozenset(map(fold, found))

    async def in_use(self, addresses: Sequence[str]) -> frozenset[str]:
        return await self.taken(addresses) | await self._in_other_letters(addresses)

    async def _in_other_letters(
        self, addresses: Sequence[str], *, admins: bool = False
    ) -> frozenset[str]:
        """Return which addresses somebody has in another spelling, a standalone admin too."""
        columns = (*_names(self.schema), *([t.admin.c.username] if admins else []))
        found: set[str] = set()
        for some in chunks(addresses):
            values = spellings.spelled(some, self.dialect)
            if values:
                _, rows = await self.table(
                    ("addresses.spelled", admins),
                    lambda: spellings.of_any(columns, self.dialect),
                    **values,
                )
                found.update(row[1] for row in rows)
        return frozenset(found)


def _place(columns: Sequence[str], rows: Sequence[Any], name: str) -> AddressAvailability | None:
    """Read what ``_availability`` found, twins in alias domains left out."""
    row, found = split(columns, rows, name)
    if row is None:
        return None
    return AddressAvailability(
        record(row, RelatedRows(found)),
        in_use=any(kind == "taken" for kind, *_ in found),
        queued=frozenset(text for kind, _, text, _ in found if kind == "queued"),
    )


def _names(schema: Schema) -> list[ColumnElement[Any]]:
    columns: list[ColumnElement[Any]] = [t.mailbox.c.username, t.alias.c.address]
    columns.append(t.forwardings.c.address)
    if schema.has(t.maillists):
        columns.append(t.maillists.c.address)
    return columns


def _availability(schema: Schema, dialect: str) -> Select[Any]:
    """Select a domain (``:name``), what belongs to it, and what is in the way of ``:mail``.

    ``spellings.spelled`` has further parameters.
    """
    mail = bindparam("mail", type_=String(255))
    in_the_way = _in_the_way(schema, lambda column: column == mail)
    in_the_way += spellings.others("taken", (*_names(schema), t.admin.c.username), dialect)
    union = domain_related_rows.alias_domains(domain_related_rows.own).union_all(*in_the_way)
    return domain_related_rows.whole(schema, union)


def _homes(size: int) -> Select[Any]:
    """Select some domains and hold them, if nobody else does."""
    chosen = t.domain.c.domain.in_(texts("name", size))
    homes = select(*recorded()).where(chosen).with_for_update(nowait=True)
    return homes.with_hint(t.domain, BY_NAME, "mysql").with_hint(t.domain, BY_NAME, "mariadb")


def _availabilities(schema: Schema, size: int) -> CompoundSelect[Any]:
    """Select what belongs to some domains, and what is in the way of some addresses."""
    names, mails = texts("name", size), texts("mail", size)
    return domain_related_rows.alias_domains(lambda column, **_: column.in_(names)).union_all(
        *_in_the_way(schema, lambda column: column.in_(mails))
    )


def _in_the_way(
    schema: Schema, of: Callable[[ColumnElement[Any]], ColumnElement[bool]]
) -> list[Select[Any]]:
    queue = t.deleted_mailboxes.c
    taken = (*_names(schema), t.admin.c.username)
    return [
        *(side("taken", column, column, of(column)).distinct() for column in taken),
        side("queued", queue.username, mailbox_paths.tidy(queue.maildir), of(queue.username)),
    ]
