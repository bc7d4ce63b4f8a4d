"""Profiles and pages of mail domains in ``vmail``: the SQL role ``DomainListings``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, false, select, true
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.protocols.values import Profile
from iredapi.backends.sql import domain_related_rows
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows
from iredapi.backends.sql.domain_mapping import record
from iredapi.backends.sql.listing import Listed, ListingRepository
from iredapi.database.column_types import MYSQL
from iredapi.database.repository import row_to_response
from iredapi.domain import account_settings
from iredapi.domain.domains import Domain, primary_mx
from iredapi.domain.listing import ListQuery

_RELATED = (
    "catchall", "alias_domains", "sender_bcc", "recipient_bcc", "outbound_relay", "primarymx",
    "admins",
)  # fmt: skip
"""What profiles have beside the columns."""


class SqlDomainProfiles(ListingRepository):
    """See ``protocols.accounts.DomainListings``."""

    def listed(self, query: ListQuery) -> Listed:
        """Return how domains are listed."""
        del query
        d = t.domain.c
        sorts = {"name": d.description, "quota": d.maxquota}
        return Listed(d.domain, d.domain, t.domain, (d.domain, d.description), sorts)

    async def names_in_scope(
        self, column: ColumnElement[Any], domains: Collection[str]
    ) -> list[str]:
        """Return the names of domains as they are stored: an admin manages them in any spelling."""
        if self.dialect in MYSQL or not domains:
            return sorted(domains)
        return sorted({*domains, *await self._stored_spellings(column, domains)})

    def fields(self) -> Collection[str]:
        columns = [column.name for column in self.schema.columns(t.domain)]
        return {*columns, "accountStatus", *_RELATED}

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self._related_rows([*found], admins=True)
        return {name: self._to_response(row, related_rows) for name, row in found.items()}

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Domain]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self._related_rows([*found], admins=False)
        return {name: record(row, related_rows) for name, row in found.items()}

    async def _row_and_related_rows(
        self, name: str, *, admins: bool
    ) -> tuple[Mapping[str, Any], RelatedRows] | None:
        def build() -> Select[Any]:
            more = [domain_related_rows.admins(domain_related_rows.own)] if admins else []
            return domain_related_rows.whole(
                self.schema, domain_related_rows.related_rows(domain_related_rows.own, *more)
            )

        columns, rows = await self.read_batched(("domains.whole", admins), build, name)
        row, related_rows = domain_related_rows.split(columns, rows, name)
        return None if row is None else (row, RelatedRows(related_rows))

    async def read_batched(
        self, key: object, build: Callable[[], Select[Any]], name: str
    ) -> tuple[Sequence[str], Sequence[Any]]:
        """Run a read of the domain ``:name``; outside of a transaction with those of others."""
        read = self.table if self._connections.writing else self.fetch_batched
        return await read(key, build, name=name)

    async def _related_rows(self, names: Sequence[str], *, admins: bool) -> RelatedRows:
        accounts = ["@" + name for name in names]

        def own(column: ColumnElement[Any], *, account: bool) -> ColumnElement[bool]:
            return column.in_(accounts if account else names)

        more = [domain_related_rows.admins(own)] if admins else []
        return await self.read_related_rows(domain_related_rows.related_rows(own, *more))

    async def records(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Domain]:
        rows = await self._page(after, limit, only=only, disabled_only=disabled_only)
        if not rows:
            return []
        related_rows = await self._related_rows([row["domain"] for row in rows], admins=False)
        return [record(row, related_rows) for row in rows]

    async def profile(self, name: str) -> Profile | None:
        return await self.find(t.domain.c.domain, name, self._profile)

    async def _profile(self, name: str) -> Profile | None:
        found = await self._row_and_related_rows(name, admins=True)
        if found is None:
            return None
        usage = (
            await self.run_compiled(
                ("domains.usage", self.quota_table.name),
                lambda: domain_related_rows.counts(self.schema, self.quota_table),
                name=name,
            )
        )[0]
        return self._to_response(*found) | {
            "num_existing_users": int(usage["users"]),
            "num_existing_aliases": int(usage["aliases"]),
            "num_existing_maillists": int(usage["lists"]),
            "allocated_quota": int(usage["allocated"]),
            "used_quota": {"bytes": int(usage["bytes"]), "messages": int(usage["messages"])},
        }

    def _to_response(self, row: Any, related_rows: RelatedRows) -> Profile:
        name = row["domain"]
        backupmx = row["backupmx"] == 1
        return row_to_response(row) | {
            "settings": account_settings.to_response(account_settings.parse(row["settings"])),
            "accountStatus": "active" if row["active"] == 1 else "disabled",
            "catchall": domain_related_rows.catchall(related_rows, name),
            "alias_domains": related_rows.texts(name, "alias_domain"),
            "sender_bcc": related_rows.text(name, "sender_bcc"),
            "recipient_bcc": related_rows.text(name, "recipient_bcc"),
            "outbound_relay": domain_related_rows.relay(related_rows, name),
            "primarymx": primary_mx(row["transport"]) if backupmx else "",
            "admins": related_rows.texts(name, "admin"),
        }

    async def page(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[Profile]:
        rows = await self._page(after, limit, only=only, disabled_only=disabled_only)
        if not rows:
            return []
        related_rows = await self._related_rows([row["domain"] for row in rows], admins=True)
        return [self._to_response(row, related_rows) for row in rows]

    async def _page(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> Sequence[Mapping[str, Any]]:
        return await self.rows(
            select(*self.schema.columns(t.domain))
            .where(t.domain.c.domain > after, *_filter(only, disabled_only=disabled_only))
            .order_by(t.domain.c.domain)
            .limit(limit)
        )

    async def names(
        self, after: str, limit: int, *, only: Collection[str] | None, disabled_only: bool
    ) -> list[str]:
        return await self.column(
            select(t.domain.c.domain)
            .where(t.domain.c.domain > after, *_filter(only, disabled_only=disabled_only))
            .order_by(t.domain.c.domain)
            .limit(limit)
        )


def _filter(only: Collection[str] | None, *, disabled_only: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if only is not None:
        found.append(t.domain.c.domain.in_(sorted(only)) if only else false())
    if disabled_only:
        found.append(t.domain.c.active != 1)
    return found or [true()]
