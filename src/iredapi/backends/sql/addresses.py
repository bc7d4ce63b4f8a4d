"""Which addresses are in use in ``vmail``: users, aliases, lists and admins share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, String, bindparam, select

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.sql import domain_related_rows, mailbox_paths, spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, RelatedRows, select_related
from iredapi.backends.sql.domain_mapping import record
from iredapi.backends.sql.domain_related_rows import split
from iredapi.backends.sql.routes import is_alias_address, leads_to_a_user
from iredapi.database.live_schema import Schema
from iredapi.database.repository import chunks
from iredapi.database.row_locks import Row
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.search import Owner, owner


class SqlAddresses(AccountRepository):
    """See ``protocols.accounts.Addresses``."""

    async def claim(self, address: str) -> AddressAvailability | None:
        name = domain_of(address)
        await self.hold_rows(Row(t.domain.c.domain, name))
        # Separate statement: under READ COMMITTED it sees what the previous lock holder committed.
        columns, rows = await self.table(
            "addresses.claim",
            lambda: select_availability(self.schema, self.dialect),
            **self.claim_parameters(address),
        )
        found = availability_of(columns, rows, name)
        if found is None:
            return None
        alias_addresses = found.domain.alias_addresses(address)
        in_use = found.in_use or bool(alias_addresses and await self.in_use(alias_addresses))
        return replace(found, in_use=in_use or bool(await self.in_exact_spellings([address])))

    def claim_parameters(self, address: str) -> dict[str, Any]:
        """Return the parameters of ``select_availability``."""
        return {
            "name": domain_of(address),
            "mail": address,
            **spellings.spelling_parameters([address], self.dialect, self.schema, inclusive=True),
        }

    async def taken(self, addresses: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for some in chunks(addresses):
            first, *others = (
                select(column).where(column.in_(some)) for column in _address_columns(self.schema)
            )
            found.update(await self.column(first.union(*others)))
        return frozenset(map(fold, found))

    async def owner(self, address: str) -> Owner:
        f, m = t.forwardings.c, t.maillists.c
        to_address = await self.like(f.address, [address])
        further = (to_address, is_alias_address(), leads_to_a_user())
        branches = [
            select_related(kind, column, column, await self.like(column, [address]))
            for kind, column in (("user", t.mailbox.c.username), ("alias", t.alias.c.address))
        ]
        if self.schema.has(t.maillists):
            branches.append(
                select_related("ml", m.address, m.address, await self.like(m.address, [address]))
            )
        branches += [
            select_related("alias_address", f.address, f.forwarding, *further),
            select_related("forwarding", f.address, f.forwarding, to_address),
            select_related("of_list", f.address, f.forwarding, to_address, f.is_maillist == 1),
        ]
        first, *others = branches
        rows = await self.row_objects(first.union_all(*others))
        return owner([_owner(row.kind, row.text) for row in rows])

    async def in_use(self, addresses: Sequence[str]) -> frozenset[str]:
        return await self.taken(addresses) | await self._in_other_spellings(addresses)

    async def _in_other_spellings(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which addresses an account has in another spelling (capitals, blanks)."""
        found = set(await self.in_exact_spellings(addresses))
        for some in chunks(addresses):
            values = spellings.spelling_parameters(some, self.dialect, self.schema)
            if values:
                _, rows = await self.table(
                    "addresses.other spellings",
                    lambda: spellings.select_from_any(
                        _address_columns(self.schema), self.dialect, self.schema
                    ),
                    **values,
                )
                found.update(row[1] for row in rows)
        return frozenset(found)

    async def in_exact_spellings(self, addresses: Sequence[str]) -> frozenset[str]:
        """Return which addresses are in use in a spelling that equality of MySQL does not find."""
        found: set[str] = set()
        if self.schema.exact:
            for column in (*_address_columns(self.schema), t.admin.c.username):
                for some in chunks(addresses):
                    found.update(map(fold, await self.exact_spellings(column, some)))
        return frozenset(found)


def _owner(kind: str, account: str) -> Owner:
    # A further address of a list, or the list's own row.
    if kind == "of_list":
        return Owner("alias_address", fold(account))
    return Owner(kind, "" if kind == "forwarding" else fold(account))


def availability_of(
    columns: Sequence[str], rows: Sequence[Any], name: str
) -> AddressAvailability | None:
    """Convert the result of ``select_availability``; None: no such domain.

    Whether its addresses in alias domains are in use is asked separately.
    """
    row, found = split(columns, rows, name)
    if row is None:
        return None
    return AddressAvailability(
        record(row, RelatedRows(found)),
        in_use=any(kind == "taken" for kind, *_ in found),
        queued=frozenset(text for kind, _, text, _ in found if kind == "queued"),
    )


def _address_columns(schema: Schema) -> list[ColumnElement[Any]]:
    columns: list[ColumnElement[Any]] = [t.mailbox.c.username, t.alias.c.address]
    columns.append(t.forwardings.c.address)
    if schema.has(t.maillists):
        columns.append(t.maillists.c.address)
    return columns


def select_availability(schema: Schema, dialect: str) -> Select[Any]:
    """Select the domain ``:name``, its alias domains, and whatever occupies the address ``:mail``.

    Further parameters are those of ``spellings.spelling_parameters``.
    """
    mail = bindparam("mail", type_=String(255))
    conflicts = select_conflicts(schema, lambda column: column == mail, dialect)
    union = domain_related_rows.alias_domains(domain_related_rows.own).union_all(*conflicts)
    return domain_related_rows.whole(schema, union)


def select_conflicts(
    schema: Schema, of: Callable[[ColumnElement[Any]], ColumnElement[bool]], dialect: str
) -> list[Select[Any]]:
    """Select accounts with the addresses (``taken``) and their mailboxes in the removal queue.

    The parameters of other spellings are ``inclusive``: on PostgreSQL their ranges contain the
    addresses as they are, so nothing else has to look for these.
    """
    queue = t.deleted_mailboxes.c
    taken = (*_address_columns(schema), t.admin.c.username)
    as_they_are = () if dialect == "postgresql" else taken
    return [
        *(select_related("taken", column, column, of(column)).distinct() for column in as_they_are),
        *spellings.select_other_spellings("taken", taken, dialect, schema),
        select_related(
            "queued", queue.username, mailbox_paths.normalised(queue.maildir), of(queue.username)
        ),
    ]
