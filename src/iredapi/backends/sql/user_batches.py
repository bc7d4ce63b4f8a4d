"""Creating and changing many users in one unit: the SQL role ``UserBatches``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from iredapi.backends.protocols.values import AddressAvailability
from iredapi.backends.sql import tables as t
from iredapi.backends.sql import user_batch_statements as statements
from iredapi.backends.sql import user_mapping
from iredapi.backends.sql.account_repository import AccountRepository, RelatedRows
from iredapi.backends.sql.address_batches import AddressBatches
from iredapi.backends.sql.domain_mapping import record as domain_record
from iredapi.backends.sql.user_mapping import COLUMNS, record, row_changes
from iredapi.concurrency.batcher import MAX_CONCURRENT_BATCHES
from iredapi.database.bulk_parameters import numbered_parameters, padded
from iredapi.database.column_types import MYSQL
from iredapi.database.compiled_statement import Statement
from iredapi.database.database import Database
from iredapi.database.dialect import locks_before, without_waiting
from iredapi.database.errors import is_retryable
from iredapi.database.repository import now
from iredapi.domain.addresses import domain_of
from iredapi.domain.domains import Domain
from iredapi.domain.users import User

_MOMENTS = {"modified": "", "passwordlastchange": "password"}
"""Columns of times, each with the column whose change it records; empty: any change."""


class SqlUserBatching:
    """See ``protocols.user_batches.UserBatching``."""

    changed_fields: Final = frozenset(COLUMNS)
    created_fields: Final = frozenset({*COLUMNS, "active"})

    def __init__(self, accounts: Database) -> None:
        self._accounts = accounts
        # SQLite has RETURNING since 3.35.
        self.updates_without_read = not accounts.sqlite or sqlite3.sqlite_version_info >= (3, 35)
        self.has_row_versions = accounts.takes_many
        self.max_concurrent_batches = 1 if accounts.sqlite else MAX_CONCURRENT_BATCHES

    @property
    def gains_from_batching(self) -> bool:
        return self.updates_without_read and self._accounts.holds_at_once


class SqlUserBatches(AccountRepository):
    """See ``protocols.user_batches.UserBatches``."""

    _versions: Mapping[str, tuple[str, str]] = {}
    """By address: the versions of the domain's and of the user's row; neither is locked."""

    async def claim_addresses(
        self, addresses: Sequence[str]
    ) -> list[AddressAvailability | None] | None:
        store = AddressBatches(self._connections, self.schema, self.quota_table)
        return await store.claim_addresses(addresses)

    async def add_users(self, users: Sequence[User], *, changed: datetime | None) -> None:
        await user_mapping.add_users(self, users, changed=changed)

    async def update_without_read(
        self, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, Mapping[str, Any]]:
        updated = dict[str, Mapping[str, Any]]()
        by_columns: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
        for mail, fields in changes:
            values = {f"m_{COLUMNS[name]}": value for name, value in fields.items()}
            by_columns.setdefault(tuple(sorted(fields)), {})[mail] = values | {"mail": mail}
        for fields_, some in sorted(by_columns.items()):
            updated |= await self._write_without_read(fields_, some)
        return updated

    async def _write_without_read(
        self, fields: tuple[str, ...], some: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Mapping[str, Any]]:
        """Update users whose values differ; users with admin rights are missing in the result."""
        there = self.schema.statement(
            ("users.columns without read", fields), lambda: self._without_read(fields)
        )
        if not there:
            return {}  # a server without these columns
        if self.dialect == "postgresql":
            return self._compared(there, await self._update_without_read(there, some))
        if self.dialect in MYSQL or len(there) > 1:
            # An UPDATE here does not return which columns differed: compare first.
            rows, count = await self._compare_and_update(there, some)
            found = self._compared(there, rows)
            different = {mail: some[mail] for mail, names in found.items() if names}
            if not different or count == len(different):
                return found
            # Another transaction was faster, or has locked one of the rows: leave these users to
            # units of their own, except those whose values are as wanted by now.
            current = self._compared(there, await self._compare_without_read(there, different))
            return {
                mail: names
                for mail, names in found.items()
                if not names or (count and current.get(mail) == {})
            }
        written = {row[0] for row in await self._update_without_read(there, some)}
        found = {mail: dict.fromkeys(there.values()) for mail in written}
        if left := {mail: values for mail, values in some.items() if mail not in written}:
            others = self._compared(there, await self._compare_without_read(there, left))
            found |= {mail: names for mail, names in others.items() if not names}
        return found

    def _without_read(self, fields: tuple[str, ...]) -> Mapping[str, str]:
        """Return the columns that this server has for the fields, each with its field."""
        names = {COLUMNS[name]: name for name in fields}
        return {
            column: names[column] for column in self.schema.values(t.mailbox, dict.fromkeys(names))
        }

    def _moments(self, columns: Collection[str]) -> Mapping[str, str]:
        wanted = {name: of for name, of in _MOMENTS.items() if not of or of in columns}
        there = self.schema.values(t.mailbox, dict.fromkeys(wanted))
        return {name: wanted[name] for name in there}

    @staticmethod
    def _compared(columns: Mapping[str, str], rows: Sequence[Any]) -> dict[str, Mapping[str, Any]]:
        """Return the fields that differ, with their stored values (None for a hash)."""
        size = len(columns)
        return {
            row[0].lower(): {
                name: None if name == "password" else "" if value is None else value
                for name, different, value in zip(
                    columns.values(), row[1 : size + 1], row[size + 1 :], strict=True
                )
                if different
            }
            for row in rows
        }

    def _compare(
        self, columns: Mapping[str, str], size: int
    ) -> tuple[Any, Callable[[], Statement]]:
        names = tuple(columns)
        build = partial(statements.compare_without_read, names, size, self.dialect)
        return ("users.compare without read", names, size), build

    async def _compare_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> Sequence[Any]:
        size = padded(len(some))
        values = numbered_parameters(list(some.values()), size)
        return (await self.fetch_batched(*self._compare(columns, size), **values))[1]

    def _update(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Any, Callable[[], Statement], Mapping[str, Any]]:
        size, names = padded(len(some)), tuple(columns)

        def build() -> Statement:
            moments = self._moments(names)
            return statements.update_all_without_read(names, moments, size, self.dialect)

        values = {**numbered_parameters(list(some.values()), size), "moment": now()}
        return ("users.update without read", names, size), build, values

    async def _update_without_read(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> list[Any]:
        key, build, values = self._update(columns, some)
        return await self.execute_autocommit(key, build, **values)

    async def _compare_and_update(
        self, columns: Mapping[str, str], some: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Sequence[Any], int]:
        """Compare, then update: the rows of the comparison, and the number of updated rows."""
        if self.dialect not in MYSQL:
            rows = await self._compare_without_read(columns, some)
            found = self._compared(columns, rows).items()
            different = {mail: some[mail] for mail, names in found if names}
            done = await self._update_without_read(columns, different) if different else ()
            return rows, len(done)
        key, build, values = self._update(columns, some)
        words, locks = self.schema.statement("users.update words", self._words)
        write = (key, build, words)
        size = padded(len(some))
        hold = (("users.hold", size), partial(statements.hold_users, size))
        try:
            return await self.fetch_and_count(
                self._compare(columns, size),
                write,
                values,
                hold if locks else None,
            )
        except DBAPIError as error:
            if error.connection_invalidated or not is_retryable(error):
                raise
            # Another transaction has locked one of the rows (NOWAIT).
            return await self._compare_without_read(columns, some), 0

    def _words(self) -> tuple[str, bool]:
        """Return the prefix of an UPDATE that does not wait, and whether a lock comes before it."""
        return without_waiting(self.engine_dialect), locks_before(self.engine_dialect)

    async def read_with_domain(
        self, mails: Sequence[str]
    ) -> list[tuple[Domain | None, User | None]]:
        every = await self.fetch_batched_for_each(
            "users.rows",
            lambda: statements.rows(self.schema),
            [{"name": domain_of(mail), "mail": mail} for mail in mails],
        )
        found: list[tuple[Domain | None, User | None]] = []
        versions = {}
        for mail, rows in zip(mails, every, strict=True):
            found_rows = statements.split_rows(self.schema, rows)
            if found_rows is None:
                found.append((None, None))
                continue
            versions[mail] = found_rows.versions
            related_rows = RelatedRows(found_rows.related_rows)
            found.append(
                (
                    domain_record(found_rows.domain, related_rows),
                    record(found_rows.user, related_rows),
                )
            )
        self._versions = versions
        return found

    async def save_rows(self, pairs: Sequence[tuple[User, User]]) -> frozenset[str]:
        written = {before.mail for before, after in pairs if before == after}
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for before, after in pairs:
            if before.mail in written:
                continue
            there = self.schema.values(t.mailbox, row_changes(before, after))
            domain_version, user_version = self._versions[before.mail]
            values = {f"m_{name}": value for name, value in there.items()}
            values |= {"mail": before.mail, "name": domain_of(before.mail)}
            values |= {"domain_version": domain_version, "user_version": user_version}
            by_columns.setdefault(tuple(there), []).append(values)
        for columns, every in sorted(by_columns.items()):
            done = await self.fetch_batched_for_each(
                ("users.save unchanged", columns),
                partial(statements.update_unchanged, columns),
                every,
            )
            written.update(values["mail"] for values, rows in zip(every, done, strict=True) if rows)
        return frozenset(written)
