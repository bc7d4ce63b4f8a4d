"""What belongs to a mail user in other tables than ``mailbox``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, String, Table, bindparam, func

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.dialect import domain_of
from iredapi.backends.sql.schema import Schema
from iredapi.backends.sql.store import side


def side_values(mails: Collection[str] | None = None) -> CompoundSelect[Any]:
    """Select what the record of users holds beside their rows, as one UNION.

    None stands for one user, the parameter ``:mail``.
    """
    first, *others = _of_record(mails)
    return first.union_all(*others)


def profile_values(schema: Schema, quota_table: Table) -> CompoundSelect[Any]:
    """Select everything about a user (``:mail``) that is not in its row, as one UNION."""
    mail = _mail()
    r, q, seen = t.sender_relayhost.c, quota_table.c, t.last_login.c
    first, *others = _of_record(None)
    others += [
        side("relay", r.account, r.relayhost, r.account == mail),
        side("bytes", q.username, q.username, q.username == mail, number=q.bytes),
        side("messages", q.username, q.username, q.username == mail, number=q.messages),
    ]
    if schema.has(t.last_login):
        others += [
            side(name, seen.username, seen.username, seen.username == mail,
                 number=func.coalesce(seen[name], 0))
            for name in ("imap", "pop3", "lda")
        ]  # fmt: skip
    return first.union_all(*others)


def _mail() -> ColumnElement[str]:
    return bindparam("mail", type_=String(255))


def _of_record(mails: Collection[str] | None) -> list[Select[Any]]:
    def own(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == _mail() if mails is None else column.in_(sorted(mails))

    f, d = t.forwardings.c, t.domain_admins.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    return [
        side("forwarding", f.address, f.forwarding, own(f.address), f.is_forwarding == 1),
        side("alias", f.forwarding, f.address, own(f.forwarding), f.is_alias == 1),
        side("sender_bcc", sender.username, sender.bcc_address, own(sender.username),
             *_alive(sender)),
        side("recipient_bcc", recipient.username, recipient.bcc_address,
             own(recipient.username), *_alive(recipient)),
        side("managed", d.username, d.domain, own(d.username), d.active == 1),
    ]  # fmt: skip


def _alive(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Select BCC rows that Postfix would find: active, and with the user's domain."""
    return (columns.active == 1, columns.domain == domain_of(columns.username))
