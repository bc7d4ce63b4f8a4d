"""What belongs to a mail user in other tables than ``mailbox``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Table,
    and_,
    bindparam,
    select,
    true,
)

from iredapi.backends.sql import spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import side
from iredapi.backends.sql.routes import is_alias_address, is_forward
from iredapi.database.dialect import domain_of
from iredapi.database.live_schema import Schema
from iredapi.database.text_matching import in_ascii


def side_values(mails: Collection[str] | None = None) -> CompoundSelect[Any]:
    """Select what the record of users holds beside their rows, as one UNION.

    None stands for one user, the parameter ``:mail``.
    """
    first, *others = of_record(mails)
    return first.union_all(*others)


def _mail() -> ColumnElement[str]:
    return bindparam("mail", type_=String(255))


def of_record(mails: Collection[str] | None) -> list[Select[Any]]:
    """Select the same, not yet united."""

    def own(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == _mail() if mails is None else column.in_(sorted(mails))

    def manages() -> ColumnElement[bool]:
        if mails is None:
            return d.username == in_ascii(_mail())
        return d.username.in_(sorted(filter(str.isascii, mails)))

    f, d = t.forwardings.c, t.domain_admins.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    return [
        side("forwarding", f.address, f.forwarding, own(f.address), is_forward()),
        side("alias", f.forwarding, f.address, own(f.forwarding), is_alias_address()),
        side("sender_bcc", sender.username, sender.bcc_address, own(sender.username),
             *_alive(sender)),
        side("recipient_bcc", recipient.username, recipient.bcc_address,
             own(recipient.username), *_alive(recipient)),
        side("managed", d.username, d.domain, manages(), d.active == 1),
    ]  # fmt: skip


def _alive(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Select BCC rows that Postfix would find: active, and with the user's domain."""
    return (columns.active == 1, columns.domain == domain_of(columns.username))


def other_aliases(dialect: str) -> Select[Any]:
    """Select the alias addresses of a user (``:mail``) that lead to it in another spelling.

    ``spellings.spelled`` has further parameters.
    """
    f = t.forwardings.c
    found = spellings.leading_to("alias", f.forwarding, f.address, dialect)
    return found.where(is_alias_address(), f.address != _mail())


def profile(schema: Schema, quota_table: Table, dialect: str) -> Select[Any]:
    """Select all of a user (``:mail``) at once: its row, with a row for each side value.

    MariaDB's comparisons are wider than equality, so each table's own name of the user is selected.
    """
    mail = _mail()
    m, q, r, seen = t.mailbox.c, quota_table.c, t.sender_relayhost.c, t.last_login.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    f, d = t.forwardings.c, t.domain_admins.c
    many = (
        side("forwarding", f.address, f.forwarding, f.address == mail, is_forward())
        .union_all(
            side("alias", f.forwarding, f.address, f.forwarding == mail, is_alias_address()),
            other_aliases(dialect),
            side("managed", d.username, d.domain, d.username == in_ascii(mail), d.active == 1),
        )
        .subquery("many")
    )
    columns: list[ColumnElement[Any]] = [
        q.username.label("quota_of"),
        q.bytes,
        q.messages,
        r.account.label("relay_of"),
        r.relayhost,
        sender.username.label("sender_of"),
        sender.bcc_address.label("sender_bcc"),
        recipient.username.label("recipient_of"),
        recipient.bcc_address.label("recipient_bcc"),
        many.c.kind,
        many.c.owner,
        many.c.text,
    ]
    joined: Any = (
        t.mailbox.outerjoin(quota_table, q.username == mail)
        .outerjoin(t.sender_relayhost, r.account == mail)
        .outerjoin(t.sender_bcc_user, and_(sender.username == mail, *_alive(sender)))
        .outerjoin(t.recipient_bcc_user, and_(recipient.username == mail, *_alive(recipient)))
        .outerjoin(many, true())
    )
    if schema.has(t.last_login):
        joined = joined.outerjoin(t.last_login, seen.username == mail)
        columns += [seen.username.label("seen_by"), seen.imap, seen.pop3, seen.lda]
    return (
        select(*schema.columns(t.mailbox), *columns).select_from(joined).where(m.username == mail)
    )
