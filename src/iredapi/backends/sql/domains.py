"""Mail domains in ``vmail``: the SQL role ``Domains``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import case, false, func, select
from sqlalchemy.sql.elements import ColumnElement

from iredapi.backends.protocols.values import Removal, Usage
from iredapi.backends.sql import cascade as removals
from iredapi.backends.sql import domain_related_rows
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, demotable, owned
from iredapi.backends.sql.domain_mapping import COLUMNS, own_row, record
from iredapi.backends.sql.domain_profiles import SqlDomainProfiles
from iredapi.database.dialect import domain_of, sum_of
from iredapi.database.repository import chunks, now
from iredapi.database.row_locks import Row
from iredapi.database.text_matching import is_like
from iredapi.domain import account_settings, suspension
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.domain.addresses import fold, without
from iredapi.domain.domains import Domain
from iredapi.domain.inventory import AliasDomain
from iredapi.domain.limits import Allocation, Totals

_NULL = "null"
"""Value of ``suspended`` in settings that were NULL before."""


class SqlDomains(SqlDomainProfiles):
    """See ``protocols.accounts.Domains``."""

    async def get(self, name: str, *, share: bool = False) -> Domain | None:
        read = partial(self._held, share=True) if share else self._whole
        return await self.find(t.domain.c.domain, name, read)

    async def claim(self, name: str) -> Domain | None:
        return await self.find(t.domain.c.domain, name, partial(self._held, share=False))

    async def own(self, name: str) -> Domain | None:
        return await self.find(t.domain.c.domain, name, self._own)

    async def _own(self, name: str) -> Domain | None:
        columns, rows = await self.read_batched("domains.own", own_row, name)
        # MariaDB's equality ignores case, accents and trailing blanks.
        mine = [row for row in rows if fold(row[0]) == fold(name)]
        return record(dict(zip(columns, mine[0], strict=True)), RelatedRows(())) if mine else None

    async def _whole(self, name: str) -> Domain | None:
        found = await self._row_and_related_rows(name, admins=False)
        return None if found is None else record(*found)

    async def _held(self, name: str, *, share: bool) -> Domain | None:
        await self.hold_rows(Row(t.domain.c.domain, name, share))
        # Separate statement: under READ COMMITTED it sees what the previous lock holder committed.
        return await self._whole(name)

    async def created(self, names: Collection[str]) -> dict[str, datetime]:
        """Return when domains were created, by their names; those without a date are missing."""
        d = t.domain.c
        rows = await self.row_objects(select(d.domain, d.created).where(is_like(d.domain, names)))
        return {fold(row.domain): row.created for row in rows if isinstance(row.created, datetime)}

    async def alias_domains(self, only: Collection[str] | None) -> list[AliasDomain]:
        a = t.alias_domain.c
        within = [] if only is None else [a.target_domain.in_(sorted(only)) if only else false()]
        rows = await self.row_objects(
            select(a.alias_domain, a.target_domain, a.active).where(*within)
        )
        return [
            AliasDomain(row.alias_domain, row.target_domain, active=row.active == 1) for row in rows
        ]

    async def taken(self, names: Collection[str]) -> frozenset[str]:
        # In any spelling: Postfix folds names to lower case, so two spellings are one domain.
        d, a = t.domain.c, t.alias_domain.c
        found: set[str] = set()
        for some in chunks(names):
            found.update(
                await self.column(
                    select(d.domain)
                    .where(is_like(d.domain, some))
                    .union_all(select(a.alias_domain).where(is_like(a.alias_domain, some)))
                )
            )
        return frozenset(map(fold, found))

    async def hosted(self, names: Collection[str], *, but: str) -> frozenset[str]:
        del but
        return frozenset(map(fold, await removals.hosted(self, names)))

    async def usage(self, name: str) -> Usage:
        row = (
            await self.run_compiled(
                "domains.counts", lambda: domain_related_rows.counts(self.schema), name=name
            )
        )[0]
        return Usage(
            int(row["users"]), int(row["aliases"]), int(row["lists"]), int(row["allocated"])
        )

    async def totals(self, names: Collection[str]) -> Totals:
        d = t.domain.c

        def positive(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return sum_of(case((column > 0, column), else_=0))

        row = (
            await self.rows(
                select(
                    func.count().label("domains"),
                    positive(d.maxquota).label("quota"),
                    positive(d.mailboxes).label("users"),
                    positive(d.aliases).label("aliases"),
                    positive(d.maillists).label("lists"),
                ).where(is_like(d.domain, names))
            )
        )[0]
        return Totals(
            int(row["domains"]),
            Allocation(
                int(row["quota"]), int(row["users"]), int(row["aliases"]), int(row["lists"])
            ),
        )

    async def reserve(self, names: Collection[str]) -> frozenset[str]:
        # No row exists that could be locked, and ``domain`` and ``alias_domain`` share one
        # namespace. So every new name is inserted into alias_domain first: the unique key makes a
        # second transaction wait for the end of the first one; then it reads what was committed.
        moment = now()
        await self.insert_missing(
            t.alias_domain,
            [
                {"alias_domain": name, "target_domain": "", "created": moment, "active": 0}
                for name in sorted(names)
            ],
        )
        await self.delete(
            t.alias_domain,
            t.alias_domain.c.alias_domain.in_(sorted(names)),
            t.alias_domain.c.target_domain == "",
        )
        return await self.taken(names)

    async def add(self, domain: Domain, owner: str, *, verified: bool = True) -> None:
        moment = now()
        await self.insert(
            t.domain,
            {
                "domain": domain.name,
                **{column: getattr(domain, name) for name, column in COLUMNS.items()},
                "disclaimer": "",
                "settings": account_settings.render(domain.settings),
                "backupmx": int(domain.backupmx),
                "created": moment,
                "modified": moment,
                "active": int(domain.active),
            },
        )
        await self._save_related_rows(Domain(domain.name), domain, verified=verified)
        if owner:
            await self.insert(
                t.domain_admins,
                {"username": owner, "domain": domain.name, "created": moment, "active": 1},
            )

    async def save(self, before: Domain, after: Domain, *, verified: bool = True) -> None:
        values: dict[str, Any] = {
            column: getattr(after, name)
            for name, column in COLUMNS.items()
            if getattr(before, name) != getattr(after, name)
        }
        if before.active != after.active:
            values["active"] = int(after.active)
        if before.backupmx != after.backupmx:
            values["backupmx"] = int(after.backupmx)
        if before.settings != after.settings:
            values["settings"] = _settings_of(before, after)
        if before != after:
            values["modified"] = now()
        await self.update(t.domain, values, t.domain.c.domain == before.name)
        await self._save_related_rows(before, after, verified=verified)

    async def _save_related_rows(self, before: Domain, after: Domain, *, verified: bool) -> None:
        name, moment = fold(before.name), now()
        if before.sender_bcc != after.sender_bcc:
            await self.set_bcc(t.sender_bcc_domain, {"domain": name}, after.sender_bcc)
        if before.recipient_bcc != after.recipient_bcc:
            await self.set_bcc(t.recipient_bcc_domain, {"domain": name}, after.recipient_bcc)
        if before.outbound_relay != after.outbound_relay:
            relay = {"relayhost": after.outbound_relay} if after.outbound_relay else {}
            await self.set_one(t.sender_relayhost, {"account": "@" + name}, relay)
        gone = without(before.alias_domains, after.alias_domains)
        relay_ends = bool(before.alias_relay and not after.alias_relay)
        catchall_changes = (before.catchall, before.dead_catchall) != (
            after.catchall,
            after.dead_catchall,
        )
        # What is stored under the other alias domains belongs to this domain.
        own_aliases = frozenset[str]()
        if gone or relay_ends or catchall_changes:
            own_aliases = await removals.without_hosted(self, before.alias_domains)
        if relay_ends:
            await self._forget_relays(own_aliases)
        f = t.forwardings.c
        # No filter on flags: catch-all rows of servers before 0.9.7 have is_forwarding=1.
        revived = before.dead_catchall - after.dead_catchall
        for some in chunks((before.catchall - after.catchall) | revived):
            for condition in self._catchall_conditions(before.name, own_aliases):
                await self.delete(t.forwardings, condition, f.forwarding.in_(some))
        destinations = after.catchall - (before.catchall - revived)
        disabled = await self.disabled(destinations)
        await self.insert_missing(
            t.forwardings,
            [
                {
                    "address": name,
                    "forwarding": mail,
                    "domain": name,
                    "dest_domain": domain_part(mail),
                    "active": int(mail not in disabled),
                }
                for mail in sorted(destinations)
            ],
        )
        of_domain = is_like(t.alias_domain.c.target_domain, [name])
        for some in chunks(before.alias_domains - after.alias_domains):
            await self.delete(t.alias_domain, t.alias_domain.c.alias_domain.in_(some), of_domain)
        for some in chunks(gone & own_aliases):
            # Mail to addresses in a removed alias domain is not delivered any more.
            await self.delete(t.forwardings, is_like(domain_of(f.address), some))
            await self._forget_relays(some)
        revived_domains = before.inactive_alias_domains - after.inactive_alias_domains
        for some in chunks(revived_domains & after.alias_domains):
            await self.update(
                t.alias_domain,
                {"active": 1, "modified": moment},
                t.alias_domain.c.alias_domain.in_(some),
                of_domain,
            )
        await self.insert_all(
            t.alias_domain,
            [
                {
                    "alias_domain": alias,
                    "target_domain": name,
                    "created": moment,
                    "modified": moment,
                    "active": int(verified),
                }
                for alias in sorted(after.alias_domains - before.alias_domains)
            ],
        )

    async def _forget_relays(self, domains: Collection[str]) -> None:
        """Remove the relay hosts of senders in alias domains."""
        account = t.sender_relayhost.c.account
        for some in chunks(f"@{name}" for name in domains):
            await self.delete(t.sender_relayhost, account.in_(some))

    def _catchall_conditions(
        self, name: str, alias_domains: Collection[str]
    ) -> list[ColumnElement[bool]]:
        """Return conditions for the rows of a domain's catch-all; each uses an index."""
        address = t.forwardings.c.address
        conditions = [owned(address, name), owned(address, "@" + name)]
        others = [f"@{alias}" for alias in alias_domains]
        return [*conditions, *(address.in_(some) for some in chunks(others))]

    async def remove(self, name: str, removal: Removal) -> None:
        await removals.remove_domain(self, name, removal)

    async def admins(self, name: str) -> frozenset[str]:
        d = t.domain_admins.c
        return frozenset(await self.column(select(d.username).where(is_like(d.domain, [name]))))

    async def admins_of(self, names: Collection[str]) -> Mapping[str, frozenset[str]]:
        d = t.domain_admins.c
        rows = await self.rows(
            select(d.domain, d.username).where(d.domain.in_(sorted(names)), d.active == 1)
        )
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["domain"], set()).add(row["username"])
        return {name: frozenset(mails) for name, mails in found.items()}

    async def add_admins(self, name: str, mails: Collection[str]) -> None:
        moment = now()
        await self.insert_missing(
            t.domain_admins,
            [
                {"username": mail, "domain": name, "created": moment, "active": 1}
                for mail in sorted(mails)
            ],
        )
        d, m = t.domain_admins.c, t.mailbox.c
        for some in chunks(mails):
            # An inactive row becomes active when the right is granted again.
            await self.update(
                t.domain_admins,
                {"active": 1},
                d.domain == name,
                d.username.in_(some),
                d.active != 1,
            )
            await self.update(t.mailbox, {"isadmin": 1}, m.username.in_(some), m.isadmin != 1)

    async def remove_admins(self, name: str, mails: Collection[str]) -> None:
        d = t.domain_admins.c
        for some in chunks(mails):
            await self.delete(t.domain_admins, is_like(d.domain, [name]), d.username.in_(some))
        for some in chunks(map(fold, mails)):
            await self.update(
                t.mailbox, {"isadmin": 0}, t.mailbox.c.username.in_(some), *demotable()
            )


def _settings_of(before: Domain, after: Domain) -> Any:
    """Return the new settings; those of a resumed domain are NULL if they were before."""

    def text_of(settings: account_settings.Settings) -> str:
        return account_settings.updated(before.stored_settings, before.settings, settings)

    key, text = suspension.DOMAIN_KEY, text_of(after.settings)
    if key in after.settings and key not in before.settings:
        of_null = account_settings.with_value(after.settings, key, _NULL)
        return case((t.domain.c.settings.is_(None), text_of(of_null)), else_=text)
    if key not in after.settings and before.settings.get(key) == _NULL:
        return text or None
    return text
