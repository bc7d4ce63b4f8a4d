"""Whose a row of ``forwardings`` is, whatever its flags say.

Postfix looks at the address and at ``active``, never at the flags, which other programs set in
their own way or not at all. So a row is the user's, or the alias's, whose address it has; where
both have the same address the flags decide. What leads to a user from an address that nobody has is
an alias address of the user. A key of Postfix may also be ``@domain``: a catch-all in another form.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select

from iredapi.backends.sql import tables as t
from iredapi.database.dialect import domain_of


def _has(table: Table, column: str, address: ColumnElement[Any]) -> ColumnElement[bool]:
    other = table.alias()
    return exists(select(other.c[column]).where(other.c[column] == address))


def is_forward() -> ColumnElement[bool]:
    """Choose, of the rows with a user's address, those that are the user's."""
    f = t.forwardings.c
    free = ~_has(t.alias, "address", f.address)
    return or_(f.is_forwarding == 1, and_(f.is_maillist == 0, free))


def is_member() -> ColumnElement[bool]:
    """Choose, of the rows with an alias's address, those that are the alias's."""
    f = t.forwardings.c
    free = ~_has(t.mailbox, "username", f.address)
    return or_(f.is_list == 1, and_(f.is_maillist == 0, free))


def is_alias_address() -> ColumnElement[bool]:
    """Choose, of the rows that lead to a user, those whose address is another one of the user's."""
    f = t.forwardings.c
    nobody = ~or_(
        _has(t.mailbox, "username", f.address),
        _has(t.alias, "address", f.address),
        _has(t.maillists, "address", f.address),
    )
    # Without an "@", or with nothing in front of it, it is a catch-all.
    is_mail = and_(domain_of(f.address) != f.address, ~f.address.like("@%"))
    return or_(f.is_alias == 1, and_(f.is_maillist == 0, is_mail, nobody))
