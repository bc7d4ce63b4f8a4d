"""What belongs to a mail domain in other tables than ``domain``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Table,
    bindparam,
    case,
    func,
    join,
    literal,
    literal_column,
    select,
    true,
)

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, side
from iredapi.database.live_schema import Schema
from iredapi.domain.addresses import fold


def name() -> ColumnElement[str]:
    """Make the parameter that names the domain."""
    return bindparam("name", type_=String(255))


def own(column: ColumnElement[Any], *, account: bool) -> ColumnElement[bool]:
    """Choose what belongs to the domain ``:name``, or to its account in iRedMail's policies."""
    return column == (literal("@", String(1)) + name() if account else name())


def alias_domains(of: Callable[..., ColumnElement[bool]]) -> Select[Any]:
    """Select the alias domains of domains: all of what belongs to one that rules of users read."""
    a = t.alias_domain.c
    return side(
        "alias_domain",
        a.target_domain,
        a.alias_domain,
        of(a.target_domain, account=False),
        number=a.active,
    )


def related_rows(of: Callable[..., ColumnElement[bool]], *more: Select[Any]) -> CompoundSelect[Any]:
    """Select what belongs to domains in other tables, as one UNION, and more."""
    a, f, r = t.alias_domain.c, t.forwardings.c, t.sender_relayhost.c
    sender, recipient = t.sender_bcc_domain.c, t.recipient_bcc_domain.c
    return alias_domains(of).union_all(
        side("catchall", f.address, f.forwarding, of(f.address, account=False), number=f.active),
        # Postfix asks for these keys, too; it finds them when nothing is found before.
        side("catchall_at", f.address, f.forwarding, of(f.address, account=True), number=f.active),
        side("catchall_alias", a.target_domain, f.forwarding, of(a.target_domain, account=False),
             f.address == literal("@", String(1)).concat(a.alias_domain), number=f.active),
        side("sender_bcc", sender.domain, sender.bcc_address, of(sender.domain, account=False)),
        side("recipient_bcc", recipient.domain, recipient.bcc_address,
             of(recipient.domain, account=False)),
        side("relay", r.account, r.relayhost, of(r.account, account=True)),
        side("relay_alias", a.target_domain, r.relayhost, of(a.target_domain, account=False),
             r.account == literal("@", String(1)).concat(a.alias_domain)),
        *more,
    )  # fmt: skip


def whole(schema: Schema, union: CompoundSelect[Any]) -> Select[Any]:
    """Select the domain ``:name`` at once: its row, with a row for each side value of a UNION.

    ``split`` takes the rows apart.
    """
    many = union.subquery("many")
    return (
        select(*schema.columns(t.domain), many.c.kind, many.c.owner, many.c.text, many.c.number)
        .select_from(t.domain.outerjoin(many, true()))
        .where(t.domain.c.domain == name())
    )


def split(
    columns: Sequence[str], rows: Sequence[Any], domain: str
) -> tuple[Mapping[str, Any] | None, list[Any]]:
    """Return the row of a domain, and what belongs to it, as ``RelatedRows`` takes it."""
    at, width = columns.index("domain"), len(columns) - 4
    # MariaDB compares without regard to case, accents and trailing blanks.
    mine = [row for row in rows if fold(row[at]) == fold(domain)]
    if not mine:
        return None, []
    row = dict(zip(columns, mine[0][:width], strict=False))
    return row, [row[width:] for row in mine if row[width] is not None]


def relay(related_rows: RelatedRows, name: str) -> str:
    """Return what relays mail of a domain's senders, or of those in its alias domains."""
    return related_rows.text("@" + name, "relay") or related_rows.text(name, "relay_alias")


def catchall(related_rows: RelatedRows, name: str) -> list[str]:
    """Return where a domain's catch-all leads, in whatever form it is stored."""
    return sorted(
        {
            *related_rows.texts(name, "catchall"),
            *related_rows.texts("@" + name, "catchall_at"),
            *related_rows.texts(name, "catchall_alias"),
        }
    )


def dead_catchall(related_rows: RelatedRows, name: str) -> list[str]:
    """Return which of these destinations Postfix does not use for the domain itself."""
    return sorted(
        set(catchall(related_rows, name))
        - (set(related_rows.texts(name, "catchall")) - set(related_rows.off(name, "catchall")))
        - (
            set(related_rows.texts("@" + name, "catchall_at"))
            - set(related_rows.off("@" + name, "catchall_at"))
        )
    )


def admins(of: Callable[..., ColumnElement[bool]]) -> Select[Any]:
    """Select the admins of domains whose rights are switched on."""
    d = t.domain_admins.c
    return side("admin", d.domain, d.username, of(d.domain, account=False), d.active == 1)


def counts(schema: Schema, quota_table: Table | None = None) -> Select[Any]:
    """Count what is in the domain ``:name``, and with a table of used quotas sum these up."""

    def count(column: ColumnElement[Any], label: str) -> Any:
        return select(func.count()).where(column == name()).scalar_subquery().label(label)

    def total(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.coalesce(func.sum(case((column > 0, column), else_=0)), 0)

    m = t.mailbox.c
    # What comes from one table is summed up in one go: a domain has many users.
    users = select(func.count().label("users"), total(m.quota).label("allocated"))
    mailboxes = users.where(m.domain == name()).subquery("mailboxes")
    columns = [
        *mailboxes.c,
        count(t.alias.c.domain, "aliases"),
        count(t.maillists.c.domain, "lists")
        if schema.has(t.maillists)
        else literal_column("0").label("lists"),
    ]
    if quota_table is None:
        return select(*columns)
    q = quota_table.c
    # Dovecot's rows outlive users that other programs removed.
    living = join(quota_table, t.mailbox, m.username == q.username)
    sums = select(total(q.bytes).label("bytes"), total(q.messages).label("messages"))
    used = sums.select_from(living).where(q.domain == name()).subquery("used")
    return select(*columns, *used.c).select_from(mailboxes.join(used, true()))
