"""Claims of the addresses of several new accounts in one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import CompoundSelect, Select, select

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.sql import domain_related_rows, spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows
from iredapi.backends.sql.addresses import SqlAddresses, select_conflicts
from iredapi.backends.sql.domain_mapping import record, record_columns
from iredapi.database.bulk_parameters import numbered_parameters, padded, texts
from iredapi.database.dialect import BY_NAME
from iredapi.database.dialect import domain_of as domain_part
from iredapi.database.live_schema import Schema
from iredapi.domain.addresses import domain_of

_RELATED: Final = 4
"""Number of the columns of a related row."""
_Found = tuple[Sequence[Mapping[str, Any]], Sequence[Any]]
"""Rows of ``domain``, and related rows."""


class AddressBatches(SqlAddresses):
    """``SqlAddresses`` for several addresses at once, in one or more domains."""

    async def claim_addresses(
        self, addresses: Sequence[str]
    ) -> list[AddressAvailability | None] | None:
        found = await self._claim_all(addresses)
        if found is None:
            return None
        if spelled := await self.in_exact_spellings(addresses):
            found = [
                item and replace(item, in_use=item.in_use or address in spelled)
                for item, address in zip(found, addresses, strict=True)
            ]
        alias_addresses = [
            item.domain.alias_addresses(address) if item else ()
            for item, address in zip(found, addresses, strict=True)
        ]
        every = sorted({alias_address for some in alias_addresses for alias_address in some})
        if not every:
            return found
        taken = await self.in_use(every)
        if not taken <= set(every):
            return [await self.claim(address) for address in addresses]  # see ``_claim_all``
        return [
            item and replace(item, in_use=item.in_use or not taken.isdisjoint(some))
            for item, some in zip(found, alias_addresses, strict=True)
        ]

    async def _claim_all(self, addresses: Sequence[str]) -> list[AddressAvailability | None] | None:
        names, size = [domain_of(address) for address in addresses], padded(len(addresses))
        parameters = [
            {"name": name, "mail": address} for name, address in zip(names, addresses, strict=True)
        ]
        values = {
            **numbered_parameters(parameters, size),
            **spellings.spelling_parameters(addresses, self.dialect, self.schema, inclusive=True),
        }
        read = self._read_at_once if self.dialect == "postgresql" else self._read_in_turn
        found = await read(names, size, values)
        if found is None:
            return None
        domain_rows, rows = found
        related_rows = RelatedRows(rows)
        domains = {row["domain"].lower(): record(row, related_rows) for row in domain_rows}
        taken = {owner.lower() for kind, owner, *_ in rows if kind == "taken"}
        if not taken <= set(addresses):
            # MariaDB found equal names in another spelling: ask it about each address.
            return [await self.claim(address) for address in addresses]
        queued = frozenset(text for kind, _, text, _ in rows if kind == "queued")
        return [
            AddressAvailability(domains[name], in_use=address in taken, queued=queued)
            if name in domains
            else None
            for name, address in zip(names, addresses, strict=True)
        ]

    async def _read_at_once(
        self, names: Sequence[str], size: int, values: Mapping[str, Any]
    ) -> _Found | None:
        """Lock the domains; then read them and what is related to the addresses (PostgreSQL)."""
        if not await self._connections.lock_nowait("vmail", t.domain.c.domain, set(names)):
            return None
        columns, found = await self.table(
            ("addresses.claim all", size),
            # Another statement: it sees what the previous lock holders committed.
            lambda: _select_with_domains(self.schema, size, self.dialect),
            **values,
        )
        width = len(columns) - _RELATED
        # A domain is repeated for each of its related rows.
        domains = {row[0]: row[:width] for row in found}
        return (
            [dict(zip(columns, row, strict=False)) for row in domains.values()],
            [row[width:] for row in found if row[width] is not None],
        )

    async def _read_in_turn(
        self, _: Sequence[str], size: int, values: Mapping[str, Any]
    ) -> _Found | None:
        """Lock and read the domains; then read what is related to the addresses."""
        found = await self.begin_reading(
            ("addresses.claim all", size),
            # Two statements: the second one sees what the previous lock holders committed.
            lambda: [_locked_domains(size), _select_conflicts(self.schema, size, self.dialect)],
            values,
        )
        if found is None:
            return None
        domains, related = found
        return domains, [tuple(row.values()) for row in related]


def _locked_domains(size: int) -> Select[Any]:
    """Select and lock domains; NOWAIT: fails when another transaction has locked one."""
    chosen = t.domain.c.domain.in_(texts("name", size))
    domains = select(*record_columns()).where(chosen).with_for_update(nowait=True)
    return domains.with_hint(t.domain, BY_NAME, "mysql").with_hint(t.domain, BY_NAME, "mariadb")


def _select_conflicts(schema: Schema, size: int, dialect: str) -> CompoundSelect[Any]:
    """Select the alias domains of some domains, and what occupies some addresses."""
    names, mails = texts("name", size), texts("mail", size)
    return domain_related_rows.alias_domains(lambda column, **_: column.in_(names)).union_all(
        *select_conflicts(schema, lambda column: column.in_(mails), dialect)
    )


def _select_with_domains(schema: Schema, size: int, dialect: str) -> Select[Any]:
    """Select some domains, each with its rows of ``_select_conflicts`` or with NULLs."""
    d, many = t.domain.c, _select_conflicts(schema, size, dialect).subquery("many")
    # The owner is the domain, or an address in it.
    joined = t.domain.outerjoin(many, domain_part(many.c.owner) == d.domain)
    columns = [*record_columns(), *many.c]
    return select(*columns).select_from(joined).where(d.domain.in_(texts("name", size)))
