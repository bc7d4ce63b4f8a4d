"""Statements that select what other tables than ``mailbox`` store of a user."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    literal_column,
    or_,
    select,
    true,
)

from iredapi.backends.sql import spellings
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import select_related
from iredapi.backends.sql.routes import (
    is_alias_address,
    is_forward,
    may_be_alias_address,
    may_be_forward,
)
from iredapi.database.column_types import MYSQL
from iredapi.database.dialect import domain_of
from iredapi.database.live_schema import Schema
from iredapi.database.text_matching import in_ascii


def select_related_rows(mails: Collection[str] | None = None) -> CompoundSelect[Any]:
    """Select the related rows of users' records as one UNION.

    None: of one user, the parameter ``:mail``.
    """
    first, *others = related_branches(mails)
    return first.union_all(*others)


def _mail() -> ColumnElement[str]:
    return bindparam("mail", type_=String(255))


def related_branches(mails: Collection[str] | None) -> list[Select[Any]]:
    """Return the branches of ``select_related_rows``."""

    def own(column: ColumnElement[Any]) -> ColumnElement[bool]:
        return column == _mail() if mails is None else column.in_(sorted(mails))

    def manages() -> ColumnElement[bool]:
        if mails is None:
            return d.username == in_ascii(_mail())
        return d.username.in_(sorted(filter(str.isascii, mails)))

    f, d = t.forwardings.c, t.domain_admins.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    return [
        select_related("forwarding", f.address, f.forwarding, own(f.address), is_forward()),
        select_related("alias", f.forwarding, f.address, own(f.forwarding), is_alias_address()),
        select_related("sender_bcc", sender.username, sender.bcc_address, own(sender.username),
             *_used_by_postfix(sender)),
        select_related("recipient_bcc", recipient.username, recipient.bcc_address,
             own(recipient.username), *_used_by_postfix(recipient)),
        select_related("managed", d.username, d.domain, manages(), d.active == 1),
    ]  # fmt: skip


def _used_by_postfix(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """Match BCC rows that Postfix finds: active, and with the domain of the user."""
    return (columns.active == 1, columns.domain == domain_of(columns.username))


def other_aliases(dialect: str, schema: Schema) -> Select[Any]:
    """Select alias addresses of the user ``:mail`` whose rows name it in another spelling.

    Further parameters are those of ``spellings.spelling_parameters``.
    """
    f = t.forwardings.c
    found = spellings.select_leading_to("alias", f.forwarding, f.address, dialect, schema)
    return found.where(is_alias_address(), f.address != _mail())


UNDECIDED: Final = "undecided"
"""Kind of rows of ``profile`` of which only ``routes`` tells what they are."""


def _forms() -> list[ColumnElement[str]]:
    return [_mail(), *spellings.forms_with_blanks()]


def _of_others(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Leave out rows from the user to another spelling of it."""
    f = t.forwardings.c
    return or_(column != _mail(), f.forwarding == _mail())


def routes() -> CompoundSelect[Any]:
    """Select forwardings and alias addresses of the user ``:mail`` (MariaDB)."""
    f = t.forwardings.c
    aliases = (f.forwarding.in_(_forms()), is_alias_address(), _of_others(f.address))
    return select_related(
        "forwarding", f.address, f.forwarding, f.address == _mail(), is_forward()
    ).union_all(select_related("alias", f.forwarding, f.address, *aliases))


def _flagged_routes() -> list[Select[Any]]:
    """Return ``routes`` without other tables: MariaDB plans each table again for each request.

    They would be 40 % of what reading a profile costs the server, and most users have neither
    alias addresses nor rows without a flag.
    """
    f = t.forwardings.c
    forwarding = case(
        (f.is_forwarding == 1, literal_column("'forwarding'")),
        else_=literal_column(f"'{UNDECIDED}'"),
    )
    aliases = (f.forwarding.in_(_forms()), may_be_alias_address(), _of_others(f.address))
    return [
        select_related(forwarding, f.address, f.forwarding, f.address == _mail(), may_be_forward()),
        select_related(UNDECIDED, f.forwarding, f.address, *aliases),
    ]


def _routes_and_spellings(dialect: str, schema: Schema) -> list[Select[Any]]:
    if dialect in MYSQL:
        return _flagged_routes()
    f = t.forwardings.c
    return [
        select_related("forwarding", f.address, f.forwarding, f.address == _mail(), is_forward()),
        select_related(
            "alias", f.forwarding, f.address, f.forwarding == _mail(), is_alias_address()
        ),
        # ``other_aliases`` is a second statement: few users have such rows.
        *spellings.select_other_spellings("spelled", [f.forwarding], dialect, schema),
    ]


def profile(schema: Schema, quota_table: Table, dialect: str) -> Select[Any]:
    """Select the profile of the user ``:mail``: its row, repeated for each related row.

    Kind ``spelled``: ``other_aliases`` may find more (not on MariaDB, where they are included).
    Kind ``undecided``, on MariaDB: ``routes`` has to be asked.

    Each joined table's name of the user is selected, too: MariaDB's equality ignores case, accents
    and trailing blanks.
    """
    mail = _mail()
    m, q, r, seen = t.mailbox.c, quota_table.c, t.sender_relayhost.c, t.last_login.c
    sender, recipient = t.sender_bcc_user.c, t.recipient_bcc_user.c
    d = t.domain_admins.c
    managed = select_related(
        "managed", d.username, d.domain, d.username == in_ascii(mail), d.active == 1
    )
    first, *others = [*_routes_and_spellings(dialect, schema), managed]
    many = first.union_all(*others).subquery("many")
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
        .outerjoin(t.sender_bcc_user, and_(sender.username == mail, *_used_by_postfix(sender)))
        .outerjoin(
            t.recipient_bcc_user, and_(recipient.username == mail, *_used_by_postfix(recipient))
        )
        .outerjoin(many, true())
    )
    if schema.has(t.last_login):
        joined = joined.outerjoin(t.last_login, seen.username == mail)
        columns += [seen.username.label("seen_by"), seen.imap, seen.pop3, seen.lda]
    return (
        select(*schema.columns(t.mailbox), *columns).select_from(joined).where(m.username == mail)
    )
