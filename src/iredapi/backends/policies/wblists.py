"""White- and blacklists in ``amavisd``: pairs of an account and a remote address.

Each call needs a constant number of statements. An IN has at most 20,000 values (a form accepts
10,000 addresses, each in two spellings), which is below the limits of all databases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    delete,
    insert,
    literal_column,
    not_,
    or_,
    select,
    update,
)

from iredapi.backends.policies import tables as t
from iredapi.backends.policies.accounts_within import behind, within
from iredapi.backends.policies.amavisd_recipients import AmavisdRepository, Recipient
from iredapi.database.dialect import insert_ignore
from iredapi.database.repository import chunks
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import fold
from iredapi.domain.scopes import Scope
from iredapi.domain.wblists import Direction, Kind
from iredapi.errors import Conflict


class SqlWblists(AmavisdRepository):
    """See ``protocols.policies.Wblists``."""

    async def page(
        self, scope: Scope, direction: Direction, kind: Kind, after: str, limit: int
    ) -> list[str]:
        _, rows = await self.table(
            ("wblists.page", direction, kind),
            partial(_page, direction, kind),
            account=scope.accounts[0],
            also=scope.accounts[-1],
            after=after,
            limit=limit,
        )
        return [email for (email,) in rows]

    async def stored(
        self,
        scope: Scope,
        direction: Direction,
        kind: Kind,
        addresses: Collection[str],
        *,
        exact: bool = False,
    ) -> frozenset[str]:
        table, account, address = _table(direction)
        u, m = t.users.c, t.mailaddr.c
        rows = await self.row_objects(
            select(m.email, u.email.label("account"), table.c.wb)
            .join_from(table, t.mailaddr, m.id == address)
            .join(t.users, u.id == account)
            .where(u.email.in_(scope.accounts), _is_on(table, kind), m.email.in_(addresses))
        )
        # Compared here, because MySQL ignores case.
        wanted = (scope.account, kind.mark)
        return frozenset(row.email for row in rows if not exact or (row.account, row.wb) == wanted)

    async def within(
        self,
        domains: Collection[str] | None,
        direction: Direction,
        kind: Kind,
        after: tuple[str, str],
        limit: int,
    ) -> list[tuple[str, str]]:
        table, account, address = _table(direction)
        u, m = t.users.c, t.mailaddr.c
        rows = await self.row_objects(
            select(u.email.label("account"), m.email.label("address"))
            .join_from(table, t.mailaddr, m.id == address)
            .join(t.users, u.id == account)
            .where(within(u.email, domains), _is_on(table, kind), behind(u.email, m.email, after))
            .order_by(u.email, m.email)
            .limit(limit)
        )
        return [(row.account, row.address) for row in rows]

    async def listed(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Collection[str]
    ) -> frozenset[str]:
        if not addresses:
            return frozenset()
        found = set(await self.stored(scope, direction, kind, addresses))
        table, account, address = _table(direction)
        u, m = t.users.c, t.mailaddr.c
        for some in chunks({*map(fold, addresses)} - {*map(fold, found)}):
            rows = await self.row_objects(
                select(m.email)
                .join_from(table, t.mailaddr, m.id == address)
                .join(t.users, u.id == account)
                .where(u.email.in_(scope.accounts), _is_on(table, kind), is_like(m.email, some))
            )
            found |= {row.email for row in rows}
        return frozenset(found)

    async def add(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Mapping[str, int]
    ) -> None:
        recipient = await self.lock_recipient(scope, create=True)
        if recipient is None or not addresses:
            return
        ids = await self._addresses(addresses)
        table, account, address = _table(direction)
        await self.run(delete(table).where(account == recipient.id, address.in_(ids)))
        pairs = [
            {account.name: recipient.id, address.name: number, "wb": kind.mark} for number in ids
        ]
        await self.run(insert(table), pairs)

    async def remove(
        self, scope: Scope, direction: Direction, kind: Kind, addresses: Collection[str]
    ) -> None:
        recipients = await self.lock_all_recipients(scope)
        if not recipients or not addresses:
            return
        m = t.mailaddr.c
        ids = [row.id for row in await self.row_objects(select(m.id).where(m.email.in_(addresses)))]
        await self._delete(recipients, direction, kind, ids)

    async def clear(self, scope: Scope, direction: Direction, kind: Kind) -> None:
        recipients = await self.lock_all_recipients(scope)
        if recipients:
            await self._delete(recipients, direction, kind)

    async def _delete(
        self,
        recipients: Sequence[Recipient],
        direction: Direction,
        kind: Kind,
        ids: Collection[int] | None = None,
    ) -> None:
        table, account, address = _table(direction)
        numbers = [recipient.id for recipient in recipients]
        chosen = delete(table).where(account.in_(numbers), _is_on(table, kind))
        await self.run(chosen if ids is None else chosen.where(address.in_(ids)))

    async def _addresses(self, wanted: Mapping[str, int]) -> list[int]:
        """Lock addresses and return their ids, sorted; missing ones are added.

        A nightly clean-up job removes addresses that are on no list: the lock keeps them.
        """
        found = await self._find(wanted)
        if missing := sorted(wanted.keys() - found.keys()):
            rows = [{"email": email, "priority": wanted[email]} for email in missing]
            await self.run(insert_ignore(t.mailaddr, self.dialect), rows)
            found |= await self._find(missing)
        if len(found) < len(wanted):
            raise Conflict("CHANGED_MEANWHILE")
        wrong: dict[int, list[int]] = defaultdict(list)
        for email, (number, priority) in found.items():
            if priority != wanted[email]:
                wrong[wanted[email]].append(number)
        m = t.mailaddr.c
        for priority, numbers in sorted(wrong.items()):
            await self.run(
                update(t.mailaddr).where(m.id.in_(sorted(numbers))).values(priority=priority)
            )
        return sorted(number for number, _ in found.values())

    async def _find(self, emails: Collection[str]) -> dict[str, tuple[int, int]]:
        m = t.mailaddr.c
        rows = await self.row_objects(
            select(m.id, m.email, m.priority)
            .where(m.email.in_(sorted(emails)))
            .order_by(m.id)
            .with_for_update(read=True, key_share=True)
        )
        return {row.email: (row.id, row.priority) for row in rows}


def _page(direction: Direction, kind: Kind) -> Select[Any]:
    """Select the addresses of a list of ``:account`` that come after ``:after``."""
    table, account, address = _table(direction)
    u, m = t.users.c, t.mailaddr.c
    return (
        select(m.email)
        .distinct()
        .join_from(table, t.mailaddr, m.id == address)
        .join(t.users, u.id == account)
        .where(
            or_(
                u.email == bindparam("account", type_=u.email.type),
                u.email == bindparam("also", type_=u.email.type),
            ),
            _is_on(table, kind),
            m.email > bindparam("after", type_=m.email.type),
        )
        .order_by(m.email)
        .limit(bindparam("limit", type_=Integer))
    )


def _is_on(table: Table, kind: Kind) -> ColumnElement[bool]:
    """Return the condition that a row is on a list, as Amavisd 2.13 reads ``wb``.

    (``white_black_list``.) B, N and F in any case blacklist; a number is added to the score. Any
    other value whitelists; blanks end the lookup in wider lists, so they do not blacklist either.
    iRedAPD reads W and B only.
    """
    wb = f"{table.name}.wb"
    black: ColumnElement[bool] = literal_column(
        f"(rtrim({wb}) IN ('B', 'b', 'N', 'n', 'F', 'f') OR substr(ltrim({wb}), 1, 1)"
        " IN ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+'))",
        Boolean(),
    )
    # The value that we write, first: it needs no string functions.
    usual = table.c.wb == literal_column(f"'{kind.mark}'", String())
    return or_(usual, black if kind is Kind.BLACKLIST else not_(black))


def _table(direction: Direction) -> tuple[Table, Column[Any], Column[Any]]:
    """Return the table of a direction, and its columns of the account and the address."""
    if direction is Direction.INBOUND:
        return t.wblist, t.wblist.c.rid, t.wblist.c.sid
    return t.outbound_wblist, t.outbound_wblist.c.sid, t.outbound_wblist.c.rid
