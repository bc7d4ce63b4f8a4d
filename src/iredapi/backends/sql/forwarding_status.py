"""Enabling and disabling rows of ``forwardings``: Postfix reads no other status of a user."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, or_, select

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.routes import is_alias_address, is_forward, is_member
from iredapi.database.dialect import domain_of
from iredapi.database.repository import chunks
from iredapi.database.text_matching import is_like, is_odd
from iredapi.domain.addresses import fold


async def switch_routes(
    store: AccountRepository, *users: ColumnElement[bool], active: bool
) -> None:
    """Set ``active`` of the rows of ``forwardings`` from and to users.

    ``users`` are conditions on ``mailbox``. False: all rows from and to them; otherwise mail to an
    alias with such a member would bounce. True: rows from them, and rows to them unless the source
    account is disabled. Call it after ``mailbox.active`` was written.
    """
    f, m = t.forwardings.c, t.mailbox.c
    chosen = select(m.username).where(*users)
    to_users = [f.forwarding.in_(chosen)]
    to_users += [f.forwarding.in_(some) for some in chunks(await spellings(store, *users))]
    if not active:
        await store.update(t.forwardings, {"active": 0}, or_(f.address.in_(chosen), *to_users))
        return
    owner, group = t.mailbox.alias(), t.alias.alias()
    enabled = or_(
        domain_of(f.address) == f.address,  # no "@": a catch-all
        f.address.like("@%"),  # the same
        is_alias_address(),
        and_(
            is_forward(),
            exists(
                select(owner.c.username).where(owner.c.username == f.address, owner.c.active == 1)
            ),
        ),
        and_(
            is_member(),
            exists(
                select(group.c.address).where(group.c.address == f.address, group.c.active == 1)
            ),
        ),
    )
    await store.update(
        t.forwardings,
        {"active": 1},
        or_(f.address.in_(chosen), and_(or_(*to_users), enabled)),
    )


async def spellings(store: AccountRepository, *users: ColumnElement[bool]) -> set[str]:
    """Return destinations with capitals or blanks that Postfix resolves to these users."""
    f, m = t.forwardings.c, t.mailbox.c
    odd: dict[str, set[str]] = {}
    for value in await store.column(select(f.forwarding).where(is_odd(f.forwarding)).distinct()):
        odd.setdefault(fold(value), set()).add(value)
    found: list[str] = []
    for some in chunks(odd):
        found += await store.column(select(m.username).where(*users, is_like(m.username, some)))
    # Another user may have the folded name: the destination is then that user's.
    folded_names = {fold(name) for name in found} - set(found)
    taken: set[str] = set()
    for some in chunks(folded_names):
        taken.update(await store.column(select(m.username).where(m.username.in_(some))))
    return {
        value
        for name in map(fold, found)
        if name not in folded_names & taken
        for value in odd[name]
    }
