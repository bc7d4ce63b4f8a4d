"""Statements that select what other tables than ``domain`` store of a mail domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    select,
    true,
)

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import RelatedRows, select_related
from iredapi.database.dialect import sum_of
from iredapi.database.live_schema import Schema
from iredapi.domain.addresses import fold


def name() -> ColumnElement[str]:
    """Return the parameter ``:name``, the domain."""
    return bindparam("name", type_=String(255))


def own(column: ColumnElement[Any], *, account: bool) -> ColumnElement[bool]:
    """Match a column with the domain ``:name``; ``account``: with ``@domain``."""
    return column == (literal("@", String(1)) + name() if account else name())


def alias_domains(of: Callable[..., ColumnElement[bool]]) -> Select[Any]:
    """Select the alias domains of domains: the only related rows that rules of users read."""
    a = t.alias_domain.c
    return select_related(
        "alias_domain",
        a.target_domain,
        a.alias_domain,
        of(a.target_domain, account=False),
        number=a.active,
    )


def related_rows(of: Callable[..., ColumnElement[bool]], *more: Select[Any]) -> CompoundSelect[Any]:
    """Select the related rows of domains as one UNION, with the branches ``more``."""
    a, f, r = t.alias_domain.c, t.forwardings.c, t.sender_relayhost.c
    sender, recipient = t.sender_bcc_domain.c, t.recipient_bcc_domain.c
    # Other programs store a domain as the alias domain of another one, too: these are its own.
    d = t.domain.alias().c
    is_alias_only = ~exists(select(d.domain).where(d.domain == a.alias_domain))
    at_alias = literal("@", String(1)).concat(a.alias_domain)
    r_of_alias = and_(r.account == at_alias, is_alias_only)
    f_of_alias = and_(f.address == at_alias, is_alias_only)
    of_target = of(a.target_domain, account=False)
    branch = select_related
    return alias_domains(of).union_all(
        branch("catchall", f.address, f.forwarding, of(f.address, account=False), number=f.active),
        # Postfix looks these keys up as well, after those above.
        branch("catchall_at", f.address, f.forwarding, of(f.address, account=True),
               number=f.active),
        branch("catchall_alias", a.target_domain, f.forwarding, of_target, f_of_alias,
               number=f.active),
        branch("sender_bcc", sender.domain, sender.bcc_address, of(sender.domain, account=False)),
        branch("recipient_bcc", recipient.domain, recipient.bcc_address,
               of(recipient.domain, account=False)),
        branch("relay", r.account, r.relayhost, of(r.account, account=True)),
        branch("relay_alias", a.target_domain, r.relayhost, of_target, r_of_alias),
        *more,
    )  # fmt: skip


def whole(schema: Schema, union: CompoundSelect[Any]) -> Select[Any]:
    """Select the row of the domain ``:name``, repeated for each related row of a UNION.

    ``split`` converts the result.
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
    """Return the row of a domain, and its related rows for ``RelatedRows``."""
    at, width = columns.index("domain"), len(columns) - 4
    # MariaDB's equality ignores case, accents and trailing blanks.
    mine = [row for row in rows if fold(row[at]) == fold(domain)]
    if not mine:
        return None, []
    row = dict(zip(columns, mine[0][:width], strict=False))
    return row, [row[width:] for row in mine if row[width] is not None]


def relay(related_rows: RelatedRows, name: str) -> str:
    """Return the relay host of senders in a domain, or else in its alias domains."""
    return related_rows.text("@" + name, "relay") or related_rows.text(name, "relay_alias")


def catchall(related_rows: RelatedRows, name: str) -> list[str]:
    """Return the destinations of a domain's catch-all, in whatever form it is stored."""
    return sorted(
        {
            *related_rows.texts(name, "catchall"),
            *related_rows.texts("@" + name, "catchall_at"),
            *related_rows.texts(name, "catchall_alias"),
        }
    )


def dead_catchall(related_rows: RelatedRows, name: str) -> list[str]:
    """Return the catch-all destinations that Postfix does not use for the domain itself."""
    return sorted(
        set(catchall(related_rows, name))
        - (
            set(related_rows.texts(name, "catchall"))
            - set(related_rows.inactive_texts(name, "catchall"))
        )
        - (
            set(related_rows.texts("@" + name, "catchall_at"))
            - set(related_rows.inactive_texts("@" + name, "catchall_at"))
        )
    )


def admins(of: Callable[..., ColumnElement[bool]]) -> Select[Any]:
    """Select the admins of domains; rows of ``domain_admins`` that are inactive are left out."""
    d = t.domain_admins.c
    return select_related("admin", d.domain, d.username, of(d.domain, account=False), d.active == 1)


def counts(schema: Schema, quota_table: Table | None = None) -> Select[Any]:
    """Count the accounts of the domain ``:name``; with ``quota_table`` also sum used quotas."""

    def count(column: ColumnElement[Any], label: str) -> Any:
        return select(func.count()).where(column == name()).scalar_subquery().label(label)

    def total(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return sum_of(case((column > 0, column), else_=0))

    m = t.mailbox.c
    columns = [
        func.count().label("users"),
        total(m.quota).label("allocated"),
        count(t.alias.c.domain, "aliases"),
        count(t.maillists.c.domain, "lists")
        if schema.has(t.maillists)
        else literal_column("0").label("lists"),
    ]
    if quota_table is None:
        return select(*columns).select_from(t.mailbox).where(m.domain == name())
    q = quota_table.c
    columns += [total(q.bytes).label("bytes"), total(q.messages).label("messages")]
    # Rows of users that other programs removed may be left: only those of users are read.
    users = t.mailbox.outerjoin(quota_table, m.username == q.username)
    return select(*columns).select_from(users).where(m.domain == name())
