"""Mail alias accounts in ``vmail``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Select, bindparam, select

from iredapi.backends.protocols.values import Profile
from iredapi.backends.sql import cascade as removals
from iredapi.backends.sql import forwarding_status
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import (
    RelatedRows,
    in_domain,
    names_in,
    owned,
    select_related,
)
from iredapi.backends.sql.listing import Listed, ListingRepository
from iredapi.backends.sql.routes import is_member
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.database.repository import chunks, now, row_to_response
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.aliases import Alias
from iredapi.domain.listing import ListQuery


class SqlAliases(ListingRepository):
    """See ``protocols.accounts.Aliases``."""

    def listed(self, query: ListQuery) -> Listed:
        """Return how alias accounts are listed."""
        del query
        a = t.alias.c
        return Listed(a.address, a.domain, t.alias, (a.address, a.name), {"name": a.name})

    def fields(self) -> Collection[str]:
        return {*(c.name for c in self.schema.columns(t.alias)), "accountStatus", "members"}

    async def profiles_of(self, names: Sequence[str]) -> Mapping[str, Profile]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self._related_rows([*found], moderators=False)
        return {
            name: _to_response(row, related_rows, moderators=False) for name, row in found.items()
        }

    async def records_of(self, names: Sequence[str]) -> Mapping[str, Alias]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self._related_rows([*found], moderators=True)
        return {name: _record(row, related_rows) for name, row in found.items()}

    async def get(self, address: str) -> Alias | None:
        return await self._read(address, lock=False)

    async def claim(self, address: str) -> Alias | None:
        return await self._read(address, lock=True)

    async def _read(self, address: str, *, lock: bool) -> Alias | None:
        a, read = t.alias.c, partial(self._exact, lock=lock)
        return await self.find(a.address, address, read, domain_column=a.domain)

    async def _exact(self, address: str, *, lock: bool) -> Alias | None:
        row = await self._row(address, lock=lock)
        if row is None:
            return None
        return _record(row, await self._related_rows(names_of(row["address"]), moderators=True))

    async def _row(self, address: str, *, lock: bool = False) -> Mapping[str, Any] | None:
        statement = select(*self.schema.columns(t.alias)).where(t.alias.c.address == address)
        rows = await self.rows(statement.with_for_update() if lock else statement)
        return rows[0] if rows and fold(rows[0]["address"]) == fold(address) else None

    async def profile(self, address: str) -> Profile | None:
        a = t.alias.c
        return await self.find(a.address, address, self._profile, domain_column=a.domain)

    async def _profile(self, address: str) -> Profile | None:
        row = await self._row(address)
        if row is None:
            return None
        related_rows = await self._related_rows(names_of(row["address"]), moderators=True)
        return _to_response(row, related_rows, moderators=True)

    async def _related_rows(self, addresses: Sequence[str], *, moderators: bool) -> RelatedRows:
        f, m = t.forwardings.c, t.moderators.c
        branches = [
            select_related("member", f.address, f.forwarding, f.address.in_(addresses), is_member())
        ]
        if moderators and self.schema.has(t.moderators):
            branches.append(
                select_related("moderator", m.address, m.moderator, m.address.in_(addresses))
            )
        return await self.related_rows(*branches)

    async def page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Profile]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        if not rows:
            return []
        related_rows = await self._related_rows([row["address"] for row in rows], moderators=False)
        return [_to_response(row, related_rows, moderators=False) for row in rows]

    async def records(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[Alias]:
        rows = await self._page(domain, after, limit, disabled_only=disabled_only)
        if not rows:
            return []
        related_rows = await self._related_rows([row["address"] for row in rows], moderators=True)
        return [_record(row, related_rows) for row in rows]

    async def _page(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> Sequence[Mapping[str, Any]]:
        columns = self.schema.columns(t.alias)
        domains = await self.domain_names(t.alias.c.domain, domain)
        names, rows = await self.page_of(
            ("aliases.page", disabled_only, len(domains)),
            lambda: _page(columns, domains, disabled_only=disabled_only),
            after,
            limit,
            order=[column.name for column in columns].index("address"),
            **names_in(domains),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def addresses(
        self, domain: str, after: str, limit: int, *, disabled_only: bool
    ) -> list[str]:
        domains = await self.domain_names(t.alias.c.domain, domain)
        _, rows = await self.page_of(
            ("aliases.addresses", disabled_only, len(domains)),
            lambda: _page([t.alias.c.address], domains, disabled_only=disabled_only),
            after,
            limit,
            **names_in(domains),
        )
        return [row[0] for row in rows]

    async def add(self, alias: Alias) -> None:
        moment = now()
        await self.insert(
            t.alias,
            {
                "address": alias.address,
                "domain": domain_of(alias.address),
                "name": alias.name,
                "accesspolicy": alias.access_policy,
                "created": moment,
                "modified": moment,
                "active": int(alias.active),
            },
        )
        await self._save_members(Alias(alias.address), alias)
        await self._save_moderators(Alias(alias.address), alias)

    async def save(self, before: Alias, after: Alias) -> None:
        if before == after:
            return
        values: dict[str, Any] = {"modified": now()}
        if before.name != after.name:
            values["name"] = after.name
        if before.access_policy != after.access_policy:
            values["accesspolicy"] = after.access_policy
        if before.active != after.active:
            values["active"] = int(after.active)
        await self.update(t.alias, values, t.alias.c.address == before.address)
        await self._save_members(before, after)
        await self._save_moderators(before, after)
        if before.active != after.active:
            # Postfix reads ``forwardings``, never ``alias``. Enabling an alias leaves rows of
            # disabled users inactive.
            await self._set_members_active(after)

    async def _set_members_active(self, alias: Alias) -> None:
        f, m = t.forwardings.c, t.mailbox.c
        where = [owned(f.address, alias.address), is_member()]
        if alias.active:
            disabled = m.active != 1
            where.append(f.forwarding.not_in(select(m.username).where(disabled)))
            in_other_spellings = await forwarding_status.spellings(self, disabled)
            where += [f.forwarding.not_in(some) for some in chunks(in_other_spellings)]
        await self.update(t.forwardings, {"active": int(alias.active)}, *where)

    async def _save_members(self, before: Alias, after: Alias) -> None:
        f = t.forwardings.c
        for some in chunks(before.members - after.members):
            await self.delete(
                t.forwardings,
                owned(f.address, before.address),
                f.forwarding.in_(some),
                is_member(),
            )
        members = after.members - before.members
        disabled = await self.disabled(members)
        await self.insert_missing(
            t.forwardings,
            [
                {
                    "address": fold(after.address),
                    "forwarding": member,
                    "domain": domain_of(after.address),
                    "dest_domain": domain_of(member),
                    "is_list": 1,
                    "active": int(after.active and member not in disabled),
                }
                for member in sorted(members)
            ],
        )

    async def _save_moderators(self, before: Alias, after: Alias) -> None:
        if before.moderators == after.moderators or not self.schema.has(t.moderators):
            return
        m = t.moderators.c
        for some in chunks(before.moderators - after.moderators):
            await self.delete(t.moderators, owned(m.address, before.address), m.moderator.in_(some))
        await self.insert_missing(
            t.moderators,
            [
                {
                    "address": fold(after.address),
                    "moderator": moderator,
                    "domain": domain_of(after.address),
                    "dest_domain": domain_of(moderator),
                }
                for moderator in sorted(after.moderators - before.moderators)
            ],
        )

    async def rename(self, old: str, new: str) -> None:
        await removals.rename_alias(self, old, new)

    async def remove(self, address: str) -> None:
        await removals.remove_alias(self, address)


def _page(columns: Sequence[Any], domains: Sequence[str], *, disabled_only: bool) -> Select[Any]:
    a = t.alias.c
    where = [in_domain(a.domain, domains), a.address > bindparam("after")]
    if disabled_only:
        where.append(a.active != 1)
    return select(*columns).where(*where).order_by(a.address)


def _record(row: Mapping[str, Any], related_rows: RelatedRows) -> Alias:
    address = row["address"]
    return Alias(
        address,
        name=row["name"],
        access_policy=row["accesspolicy"].lower(),
        active=row["active"] == 1,
        members=frozenset(related_rows.texts(address, "member")),
        moderators=frozenset(related_rows.texts(address, "moderator")),
    )


def _to_response(row: Any, related_rows: RelatedRows, *, moderators: bool) -> Profile:
    address = row["address"]
    answer = row_to_response(row) | {
        "accountStatus": "active" if row["active"] == 1 else "disabled",
        "members": sorted(set(related_rows.texts(address, "member"))),
    }
    if moderators:
        answer["moderators"] = sorted(set(related_rows.texts(address, "moderator")))
    return answer
