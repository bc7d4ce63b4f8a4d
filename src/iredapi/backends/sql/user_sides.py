"""What belongs to a mail user in other tables than ``mailbox``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, String, Table, bindparam, func

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.dialect import domain_of
from iredapi.backends.sql.schema import Schema
from iredapi.backends.sql.store import side


def side_values(schema: Schema, quota_table: Table, *, of_profile: bool) -> CompoundSelect[Any]:
    """Select everything about a user (``:mail``) that is not in its row, as one UNION."""
    mail = bindparam("mail", type_=String(255))
    f, d = t.forwardings.c, t.domain_admins.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    branches = [
        side("forwarding", f.address, f.forwarding, f.address == mail, f.is_forwarding == 1),
        side("alias", f.forwarding, f.address, f.forwarding == mail, f.is_alias == 1),
        side("sender_bcc", sender.username, sender.bcc_address, *_alive(sender, mail)),
        side("recipient_bcc", recipient.username, recipient.bcc_address,
             *_alive(recipient, mail)),
        side("managed", d.username, d.domain, d.username == mail, d.active == 1),
    ]  # fmt: skip
    if of_profile:
        r, q, seen = t.sender_relayhost.c, quota_table.c, t.last_login.c
        branches += [
            side("relay", r.account, r.relayhost, r.account == mail),
            side("bytes", q.username, q.username, q.username == mail, number=q.bytes),
            side("messages", q.username, q.username, q.username == mail, number=q.messages),
        ]
        if schema.has(t.last_login):
            branches += [
                side(name, seen.username, seen.username, seen.username == mail,
                     number=func.coalesce(seen[name], 0))
                for name in ("imap", "pop3", "lda")
            ]  # fmt: skip
    return branches[0].union_all(*branches[1:])


def _alive(columns: Any, mail: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
    """Select a BCC row that Postfix would find: active, and with the user's domain."""
    return (
        columns.username == mail,
        columns.active == 1,
        columns.domain == domain_of(columns.username),
    )
