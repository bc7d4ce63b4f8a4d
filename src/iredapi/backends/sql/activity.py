"""Routes follow the activity of users: Postfix looks at nothing but ``forwardings.active``."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, or_, select

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.dialect import domain_of
from iredapi.backends.sql.routes import is_alias_address, is_forward, is_member
from iredapi.backends.sql.store import Store


async def follow(store: Store, *users: ColumnElement[bool], active: bool) -> None:
    """Switch the routes of users, chosen by conditions on ``mailbox``, off or on.

    Off: everything from and to them; otherwise mail to an alias with such a member would bounce.
    On: what comes from them, and what leads to them unless its own account is disabled, so that a
    disabled alias stays disabled. Call it after ``mailbox.active`` was written.
    """
    f, m = t.forwardings.c, t.mailbox.c
    chosen = select(m.username).where(*users)
    if not active:
        await store.update(
            t.forwardings, {"active": 0}, or_(f.address.in_(chosen), f.forwarding.in_(chosen))
        )
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
        or_(f.address.in_(chosen), and_(f.forwarding.in_(chosen), enabled)),
    )
