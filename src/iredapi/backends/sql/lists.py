"""Subscribable mailing lists in ``vmail``: the SQL role ``Lists``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from iredapi.backends.sql import cascade as removals
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, owned, select_related
from iredapi.backends.sql.listing import Listed, ListingRepository
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.database.dialect import domain_of as domain_part
from iredapi.database.repository import chunks, now, row_to_response
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import domain_of, fold
from iredapi.domain.listing import ListQuery
from iredapi.domain.lists import MailingList, stored_to_response
from iredapi.errors import NotSupported

_NO_TABLE = "This server's database has no mailing lists."


class SqlLists(ListingRepository):
    """See ``protocols.lists.Lists``."""

    def listed(self, query: ListQuery) -> Listed:
        """Return how lists are listed."""
        del query
        if not self.schema.has(t.maillists):
            raise NotSupported(detail=_NO_TABLE)
        m = t.maillists.c
        return Listed(m.address, m.domain, t.maillists, (m.address, m.name), {"name": m.name})

    def fields(self) -> Collection[str]:
        return stored_to_response(MailingList(""))

    async def records_of(self, names: Sequence[str]) -> Mapping[str, MailingList]:
        found = await self.named(names)
        if not found:
            return {}
        related_rows = await self._related_rows([*found])
        return {name: _record(row, related_rows) for name, row in found.items()}

    async def get(self, address: str) -> MailingList | None:
        return await self._find(address, lock=False)

    async def has_any(self) -> bool:
        if not self.schema.has(t.maillists):
            return True  # the list server may have lists that the database does not store
        return bool(await self.column(select(t.maillists.c.address).limit(1)))

    async def claim(self, address: str) -> MailingList | None:
        return await self._find(address, lock=True)

    async def _find(self, address: str, *, lock: bool) -> MailingList | None:
        m, read = t.maillists.c, partial(self._read, lock=lock)
        if not self.schema.has(t.maillists):
            return await read(address)
        return await self.find(m.address, address, read, domain_column=m.domain)

    def _rows(self, *where: ColumnElement[bool]) -> Select[Any]:
        if not self.schema.has(t.maillists):
            raise NotSupported(detail=_NO_TABLE)
        return select(*self.schema.columns(t.maillists)).where(*where)

    async def _read(self, address: str, *, lock: bool) -> MailingList | None:
        statement = self._rows(t.maillists.c.address == address)
        rows = await self.rows(statement.with_for_update() if lock else statement)
        if not rows or fold(rows[0]["address"]) != fold(address):
            return None
        return _record(rows[0], await self._related_rows(names_of(rows[0]["address"])))

    async def _related_rows(self, addresses: Sequence[str]) -> RelatedRows:
        m, f, o = t.moderators.c, t.forwardings.c, t.maillist_owners.c
        branches = [
            select_related("moderator", m.address, m.moderator, m.address.in_(addresses)),
            select_related("extra", f.forwarding, f.address, *_extra(f.forwarding.in_(addresses))),
        ]
        if self.schema.has(t.maillist_owners):
            branches.append(select_related("owner", o.address, o.owner, o.address.in_(addresses)))
        return await self.related_rows(*branches)

    async def other_addresses(self, address: str) -> frozenset[str]:
        f = t.forwardings.c
        to_list = is_like(f.forwarding, [address])
        found = await self.column(select(f.address).where(*_extra(to_list), f.address != address))
        return frozenset(found)

    async def page(self, domain: str, after: str, limit: int) -> list[MailingList]:
        m = t.maillists.c
        here = m.domain.in_(await self.domain_names(m.domain, domain))
        rows = await self.rows(self._rows(here, m.address > after).order_by(m.address).limit(limit))
        if not rows:
            return []
        related_rows = await self._related_rows([row["address"] for row in rows])
        return [_record(row, related_rows) for row in rows]

    async def addresses(self, domain: str, after: str, limit: int) -> list[str]:
        m = t.maillists.c
        if not self.schema.has(t.maillists):
            return []
        return await self.column(
            select(m.address)
            .where(m.domain.in_(await self.domain_names(m.domain, domain)), m.address > after)
            .order_by(m.address)
            .limit(limit)
        )

    async def managed_by(self, mails: Collection[str], domains: Collection[str]) -> frozenset[str]:
        found: set[str] = set()
        for table, person in ((t.moderators, "moderator"), (t.maillist_owners, "owner")):
            if not self.schema.has(table):
                continue
            c = table.c
            found.update(
                await self.column(
                    select(c.address).where(
                        or_(
                            is_like(c[person], mails),
                            is_like(domain_part(c[person]), domains),
                            c.dest_domain.in_(domains),
                        )
                    )
                )
            )
        if not found or not self.schema.has(t.maillists):
            return frozenset()
        # Alias accounts have moderators too.
        lists: set[str] = set()
        for some in chunks(found):
            lists.update(
                await self.column(
                    select(t.maillists.c.address).where(t.maillists.c.address.in_(some))
                )
            )
        return frozenset(map(fold, lists))

    async def add(self, item: MailingList) -> None:
        moment = now()
        domain = domain_of(item.address)
        await self.insert(
            t.maillists,
            {
                "address": item.address,
                "domain": domain,
                "transport": item.transport,
                "mlid": item.mlid,
                "created": moment,
                "modified": moment,
                "active": int(item.active),
                **_values(item),
            },
        )
        await self._save_related_rows(MailingList(item.address), item)

    async def save(self, before: MailingList, after: MailingList) -> None:
        if before == after:
            return
        old, new = _values(before), _values(after)
        values = {name: value for name, value in new.items() if value != old[name]}
        values |= {"modified": now()}
        for name in ("transport", "mlid"):
            if getattr(before, name) != getattr(after, name):
                values[name] = getattr(after, name)
        if before.active != after.active:
            values["active"] = int(after.active)
        await self.update(t.maillists, values, t.maillists.c.address == before.address)
        await self._save_related_rows(before, after)
        if before.active != after.active:
            # With only ``maillists.active`` 0 Postfix would use the transport of the domain.
            f = t.forwardings.c
            await self.update(
                t.forwardings,
                {"active": int(after.active)},
                or_(
                    owned(f.address, after.address),
                    and_(*_extra(is_like(f.forwarding, [after.address]))),
                ),
            )

    async def _save_related_rows(self, before: MailingList, after: MailingList) -> None:
        address, domain = fold(after.address), domain_of(after.address)
        row = {"address": address, "domain": domain}
        people = (
            (t.maillist_owners, "owner", before.owners, after.owners),
            (t.moderators, "moderator", before.moderators, after.moderators),
        )
        for table, person, old, new in people:
            if not self.schema.has(table):
                continue
            for some in chunks(old - new):
                own = owned(table.c.address, after.address)
                await self.delete(table, own, table.c[person].in_(some))
            await self.insert_missing(
                table,
                [
                    {**row, person: mail, "dest_domain": domain_of(mail)}
                    for mail in sorted(new - old)
                ],
            )
        f = t.forwardings.c
        for some in chunks(before.extra_addresses - after.extra_addresses):
            to_list = is_like(f.forwarding, [after.address])
            await self.delete(t.forwardings, f.address.in_(some), *_extra(to_list))
        primary = await self._primary({domain_of(mail) for mail in after.extra_addresses})
        route = {"forwarding": address, "dest_domain": domain, "active": int(after.active)}
        rows = [
            {
                "address": mail,
                "domain": primary.get(domain_of(mail), domain_of(mail)),
                "is_alias": 1,
            }
            for mail in sorted(after.extra_addresses - before.extra_addresses)
        ]
        await self.insert_missing(t.forwardings, [item | route for item in rows])
        await self.insert_missing(t.forwardings, [{**row, "is_maillist": 1, **route}])

    async def _primary(self, names: Collection[str]) -> dict[str, str]:
        """Return the primary domains of alias domains."""
        if not names:
            return {}
        a = t.alias_domain.c
        rows = await self.rows(
            select(a.alias_domain, a.target_domain).where(a.alias_domain.in_(sorted(names)))
        )
        return {fold(row["alias_domain"]): fold(row["target_domain"]) for row in rows}

    async def remove(self, address: str) -> None:
        await removals.remove_list(self, address)


def _extra(to_list: ColumnElement[bool]) -> tuple[ColumnElement[bool], ...]:
    """Match further addresses of lists, whatever flags another program set."""
    f = t.forwardings.c
    return (
        to_list,
        f.address != f.forwarding,
        f.is_list == 0,
        f.is_forwarding == 0,
        # Not the catch-all of a domain.
        f.address.contains("@"),
    )


def _values(item: MailingList) -> dict[str, Any]:
    return {
        "name": item.name,
        "accesspolicy": item.access_policy,
        "maxmsgsize": item.max_message_size,
        "description": item.description,
        "is_newsletter": int(item.newsletter),
    }


def _record(row: Mapping[str, Any], related_rows: RelatedRows) -> MailingList:
    address = row["address"]
    times = row_to_response(row)
    return MailingList(
        address,
        name=row["name"],
        active=row["active"] == 1,
        access_policy=row["accesspolicy"].lower() or "public",
        newsletter=bool(row["is_newsletter"]),
        description=row["description"] or "",
        max_message_size=int(row["maxmsgsize"]),
        mlid=row["mlid"],
        transport=row["transport"],
        owners=frozenset(related_rows.texts(address, "owner")),
        moderators=frozenset(related_rows.texts(address, "moderator")),
        extra_addresses=frozenset(related_rows.texts(address, "extra")),
        created=times["created"],
        modified=times["modified"],
    )
