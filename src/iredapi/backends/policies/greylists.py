"""Greylisting in ``iredapd``: settings, whitelists and whitelisted sender domains."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, delete, func, or_, select, update

from iredapi.backends.policies import tables as t
from iredapi.backends.policies.accounts_within import behind, within
from iredapi.backends.policies.iredapd import IredapdRepository
from iredapi.database.column_types import MYSQL
from iredapi.database.repository import chunks
from iredapi.database.text_matching import is_like
from iredapi.domain.greylists import Setting, derived_comment
from iredapi.domain.sender_patterns import EVERYBODY

_DOMAINS: Final = "whitelist_spf_domains"


class SqlGreylists(IredapdRepository):
    """See ``protocols.policies.Greylists``."""

    # -- settings ----------------------------------------------------------------------------------

    async def get(self, account: str) -> Setting | None:
        rows = await self.rows(select(t.greylisting).where(*_own(account)))
        return _setting(rows[0]) if rows else None

    async def matching(self, accounts: Collection[str]) -> list[Setting]:
        chosen = select(t.greylisting).where(t.greylisting.c.account.in_(accounts))
        return [_setting(row) for row in await self.rows(_by_priority(chosen))]

    async def page(self, after: Setting | None, limit: int) -> list[Setting]:
        g = t.greylisting.c
        chosen = select(t.greylisting)
        if after is not None:
            chosen = chosen.where(
                or_(
                    g.priority < after.priority,
                    and_(
                        g.priority == after.priority,
                        or_(
                            g.sender_priority < after.sender_priority,
                            and_(g.sender_priority == after.sender_priority, g.id > after.number),
                        ),
                    ),
                )
            )
        return [_setting(row) for row in await self.rows(_by_priority(chosen).limit(limit))]

    async def within(
        self, domains: Collection[str] | None, after: str, limit: int
    ) -> list[Setting]:
        g = t.greylisting.c
        chosen = select(t.greylisting).where(
            within(g.account, domains), g.sender == EVERYBODY, g.account > after
        )
        rows = await self.rows(chosen.order_by(g.account).limit(limit))
        return [_setting(row) for row in rows]

    async def save(self, account: str, priority: int, *, active: bool) -> None:
        values = {"priority": priority, "sender_priority": 0, "comment": "", "active": int(active)}
        key = {"account": account, "sender": EVERYBODY}
        await self.insert_missing(t.greylisting, [key | values])
        await self.run(update(t.greylisting).where(*_own(account)).values(key | values))

    async def remove(self, account: str) -> bool:
        return bool(await self.run(delete(t.greylisting).where(*_own(account))))

    # -- whitelists --------------------------------------------------------------------------------

    async def senders(self, accounts: Collection[str], after: str, limit: int) -> list[str]:
        w = t.greylisting_whitelists.c
        return await self.column(
            select(w.sender)
            .distinct()
            .where(w.account.in_(accounts), w.sender > after)
            .order_by(w.sender)
            .limit(limit)
        )

    async def whitelisted(
        self, domains: Collection[str] | None, after: tuple[str, str], limit: int
    ) -> list[tuple[str, str]]:
        w = t.greylisting_whitelists.c
        rows = await self.row_objects(
            select(w.account, w.sender)
            .distinct()
            .where(within(w.account, domains), behind(w.account, w.sender, after))
            .order_by(w.account, w.sender)
            .limit(limit)
        )
        return [(row.account, row.sender) for row in rows]

    async def stored_senders(
        self, accounts: Collection[str], texts: Collection[str]
    ) -> frozenset[str]:
        w = t.greylisting_whitelists.c
        found: set[str] = set()
        for some in chunks(texts):
            chosen = select(func.lower(w.sender)).where(
                w.account.in_(accounts), func.lower(w.sender).in_(some)
            )
            found.update(await self.column(chosen))
        return frozenset(found)

    async def add_senders(self, account: str, senders: Collection[str]) -> None:
        await self.lock_name("whitelists", account)
        rows = [{"account": account, "sender": sender, "comment": ""} for sender in sorted(senders)]
        await self.insert_missing(t.greylisting_whitelists, rows)

    async def remove_senders(self, account: str, texts: Collection[str]) -> None:
        await self.lock_name("whitelists", account)
        w = t.greylisting_whitelists.c
        await self._delete(t.greylisting_whitelists, w.sender, texts, w.account == account)

    async def replace_senders(self, account: str, senders: Collection[str]) -> None:
        await self.add_senders(account, senders)
        w = t.greylisting_whitelists.c
        await self._keep_only(t.greylisting_whitelists, w.sender, senders, w.account == account)

    # -- sender domains ----------------------------------------------------------------------------

    async def domains(self, after: str, limit: int) -> list[str]:
        name = t.greylisting_whitelist_domains.c.domain
        return await self.column(select(name).where(name > after).order_by(name).limit(limit))

    async def stored_domains(self, texts: Collection[str]) -> frozenset[str]:
        name = func.lower(t.greylisting_whitelist_domains.c.domain)
        found: set[str] = set()
        for some in chunks(texts):
            found.update(await self.column(select(name).where(name.in_(some))))
        return frozenset(found)

    async def add_domains(self, domains: Collection[str]) -> None:
        await self.lock_name(_DOMAINS)
        rows = [{"domain": domain} for domain in sorted(domains)]
        await self.insert_missing(t.greylisting_whitelist_domains, rows)

    async def remove_domains(self, texts: Collection[str]) -> None:
        await self.lock_name(_DOMAINS)
        table = t.greylisting_whitelist_domains
        await self._delete(table, table.c.domain, texts)
        comments = [derived_comment(text).lower() for text in texts]
        # Very old versions of iRedAPD's script stored derived rows in the whitelists.
        for derived in (t.greylisting_whitelist_domain_spf, t.greylisting_whitelists):
            await self._delete(derived, derived.c.comment, comments)

    async def replace_domains(self, domains: Collection[str]) -> None:
        await self.add_domains(domains)
        table = t.greylisting_whitelist_domains
        removed = await self._keep_only(table, table.c.domain, domains)
        await self.remove_domains(removed - set(domains))

    async def save_derived(
        self, networks: Mapping[str, Collection[str]], *, complete: Collection[str]
    ) -> None:
        await self.lock_name(_DOMAINS)
        table = t.greylisting_whitelist_domain_spf
        rows = [
            {"account": EVERYBODY, "sender": network, "comment": derived_comment(domain)}
            for domain, found in sorted(networks.items())
            for network in sorted(found)
        ]
        await self.insert_missing(table, rows)
        for domain in sorted(complete):
            mark = table.c.comment == derived_comment(domain)
            await self._keep_only(table, table.c.sender, networks[domain], mark)
        # A network that moved between these domains had its old row at the first insert.
        await self.insert_missing(table, rows)

    async def _delete(
        self,
        table: Table,
        column: ColumnElement[Any],
        texts: Collection[str],
        *where: ColumnElement[bool],
    ) -> None:
        for some in chunks(texts):
            await self.run(delete(table).where(*where, is_like(column, some)))

    async def _keep_only(
        self,
        table: Table,
        column: ColumnElement[Any],
        kept: Collection[str],
        *where: ColumnElement[bool],
    ) -> set[str]:
        """Delete the other rows and return their texts in lower case."""
        wanted = set(kept)
        # On MariaDB the lock makes two replacements wait for each other.
        present = await self.rows(
            select(table.c.id, column.label("text")).where(*where).with_for_update()
        )
        # MariaDB compares without regard to case: another spelling is the same entry.
        same = str.lower if self.dialect in MYSQL else str
        surplus = [row for row in present if same(row["text"]) not in wanted]
        ids = [row["id"] for row in surplus]
        for start in range(0, len(ids), 500):
            await self.run(delete(table).where(table.c.id.in_(ids[start : start + 500])))
        return {row["text"].lower() for row in surplus}


def _own(account: str) -> tuple[ColumnElement[bool], ...]:
    return t.greylisting.c.account == account, t.greylisting.c.sender == EVERYBODY


def _by_priority(chosen: Select[Any]) -> Select[Any]:
    g = t.greylisting.c
    return chosen.order_by(g.priority.desc(), g.sender_priority.desc(), g.id)


def _setting(row: Mapping[str, Any]) -> Setting:
    return Setting(
        row["id"],
        row["account"],
        row["sender"],
        row["active"] == 1,  # iRedAPD reads every other number as off
        row["priority"],
        row["sender_priority"],
        row["comment"],
    )
