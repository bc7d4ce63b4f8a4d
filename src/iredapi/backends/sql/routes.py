"""Conditions that tell to which account a row of ``forwardings`` belongs.

Postfix reads ``address`` and ``active``, never the flags ``is_*``, which other programs set
differently or not at all. So a row belongs to the user or the alias account with its address; when
both exist, the flags decide. A row from an address without an account to a user is an alias address
of that user. The key ``@domain`` is a second form of a catch-all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, literal_column, or_, select

from iredapi.backends.sql import tables as t


def _has(table: Table, column: str, address: ColumnElement[Any]) -> ColumnElement[bool]:
    other = table.alias()
    return exists(select(other.c[column]).where(other.c[column] == address))


def is_forward() -> ColumnElement[bool]:
    """Match, among rows with a user's address, those that are forwardings of the user."""
    return _or_unflagged(t.forwardings.c.is_forwarding, ~_has(t.alias, "address", _address()))


def may_be_forward() -> ColumnElement[bool]:
    """Match the rows of ``is_forward``, and those that only other tables can decide about."""
    return _or_unflagged(t.forwardings.c.is_forwarding)


def _address() -> ColumnElement[str]:
    return t.forwardings.c.address


def _or_unflagged(flag: ColumnElement[int], *where: ColumnElement[bool]) -> ColumnElement[bool]:
    return or_(flag == 1, and_(t.forwardings.c.is_maillist == 0, *where))


def is_member() -> ColumnElement[bool]:
    """Match, among rows with an alias account's address, those that name its members."""
    f = t.forwardings.c
    free = ~_has(t.mailbox, "username", f.address)
    return or_(f.is_list == 1, and_(f.is_maillist == 0, free))


def leads_to_a_user() -> ColumnElement[bool]:
    """Match rows whose destination is a user."""
    return _has(t.mailbox, "username", t.forwardings.c.forwarding)


def is_alias_address() -> ColumnElement[bool]:
    """Match, among rows to a user, those whose address is an alias address of the user."""
    unused = ~or_(
        _has(t.mailbox, "username", _address()),
        _has(t.alias, "address", _address()),
        _has(t.maillists, "address", _address()),
    )
    other, *is_mail = _is_other_address()
    f = t.forwardings.c
    # Rows of an account with the address are its forwardings or members, whatever their flags.
    of_account = or_(
        and_(_has(t.mailbox, "username", f.address), is_forward()),
        and_(_has(t.alias, "address", f.address), is_member()),
    )
    marked = and_(f.is_alias == 1, ~of_account)
    return and_(other, or_(marked, and_(f.is_maillist == 0, *is_mail, unused)))


def may_be_alias_address() -> ColumnElement[bool]:
    """Match the rows of ``is_alias_address``, and those that only other tables can decide about."""
    other, *is_mail = _is_other_address()
    f = t.forwardings.c
    return and_(other, or_(f.is_alias == 1, and_(f.is_maillist == 0, *is_mail)))


def _is_other_address() -> Sequence[ColumnElement[bool]]:
    # Without a local part it is a catch-all. SQLite prepares a statement again for each value of a
    # parameter of LIKE.
    at_sign: ColumnElement[str] = literal_column("'%@%'")
    catch_all: ColumnElement[str] = literal_column("'@%'")
    # The user's own row is the most frequent one.
    other = _address() != t.forwardings.c.forwarding
    return other, _address().like(at_sign), ~_address().like(catch_all)
