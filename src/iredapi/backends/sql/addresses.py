"""The namespace of all addresses in ``vmail``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, String, bindparam, select

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.sql import domain_related_rows, mailbox_paths, spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, RelatedRows, side
from iredapi.backends.sql.domain_related_rows import split
from iredapi.backends.sql.domains import record
from iredapi.database.connection import Row
from iredapi.database.live_schema import Schema
from iredapi.database.repository import chunks
from iredapi.domain.addresses import domain_of, fold


class SqlAddresses(AccountRepository):
    """See ``protocols.Addresses``."""

    async def claim(self, address: str) -> AddressAvailability | None:
        name = domain_of(address)
        await self.hold_rows(Row(t.domain.c.domain, name))
        # A statement of its own: who waited for the row sees what was done before it was free.
        columns, rows = await self.table(
            "addresses.claim",
            lambda: vacancy(self.schema, self.dialect),
            **self.asked(address),
        )
        place = place_of(columns, rows, name)
        if place is None:
            return None
        alias_addresses = place.domain.alias_addresses(address)
        return replace(
            place,
            in_use=place.in_use or bool(alias_addresses and await self.in_use(alias_addresses)),
        )

    def asked(self, address: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"name": domain_of(address), "mail": address}
        return asked | spellings.spelled([address], self.dialect)

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

    async def _in_other_letters(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which addresses somebody has in another spelling."""
        found: set[str] = set()
        for some in chunks(addresses):
            values = spellings.spelled(some, self.dialect)
            if values:
                _, rows = await self.table(
                    "addresses.spelled",
                    lambda: spellings.of_any(_names(self.schema), self.dialect),
                    **values,
                )
                found.update(row[1] for row in rows)
        return frozenset(found)


def place_of(columns: Sequence[str], rows: Sequence[Any], name: str) -> AddressAvailability | None:
    """Read what ``vacancy`` found, addresses in alias domains left out."""
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


def vacancy(schema: Schema, dialect: str) -> Select[Any]:
    """Select a domain (``:name``), what belongs to it, and what is in the way of ``:mail``.

    ``spellings.spelled`` has further parameters.
    """
    mail = bindparam("mail", type_=String(255))
    obstacles = in_the_way(schema, lambda column: column == mail, dialect)
    union = domain_related_rows.alias_domains(domain_related_rows.own).union_all(*obstacles)
    return domain_related_rows.whole(schema, union)


def in_the_way(
    schema: Schema, of: Callable[[ColumnElement[Any]], ColumnElement[bool]], dialect: str
) -> list[Select[Any]]:
    queue = t.deleted_mailboxes.c
    taken = (*_names(schema), t.admin.c.username)
    return [
        *(side("taken", column, column, of(column)).distinct() for column in taken),
        *spellings.others("taken", taken, dialect),
        side("queued", queue.username, mailbox_paths.tidy(queue.maildir), of(queue.username)),
    ]
