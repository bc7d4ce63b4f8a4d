"""The statement that reads a user and its domain together, for a change of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Select,
    String,
    bindparam,
    select,
    true,
)

from iredapi.backends.sql import domain_related_rows, user_related_rows
from iredapi.backends.sql import tables as t
from iredapi.database.live_schema import Schema
from iredapi.domain.addresses import fold

_RELATED_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class UserWithDomain:
    """The result of ``whole``."""

    domain: Mapping[str, Any]
    user: Mapping[str, Any] | None
    related_rows: Sequence[Any]


def whole(schema: Schema) -> Select[Any]:
    """Select the domain ``:name`` and the user ``:mail``, repeated for each related row."""
    mail = bindparam("mail", type_=String(255))
    alias_domains = domain_related_rows.alias_domains(domain_related_rows.own)
    many = alias_domains.union_all(*user_related_rows.related_branches(None)).subquery("many")
    return (
        select(
            *schema.columns(t.domain),
            *schema.columns(t.mailbox),
            many.c.kind,
            many.c.owner,
            many.c.text,
            many.c.number,
        )
        .select_from(
            t.domain.outerjoin(t.mailbox, t.mailbox.c.username == mail).outerjoin(many, true())
        )
        .where(t.domain.c.domain == domain_related_rows.name())
    )


def split(schema: Schema, rows: Sequence[Any], name: str, mail: str) -> UserWithDomain | None:
    """Convert the result of ``whole``; None: no such domain."""
    domain, mailbox = schema.statement("users.columns with domain", lambda: columns(schema))
    first, last = len(domain), len(domain) + len(mailbox)
    at = domain.index("domain")
    # MariaDB's equality ignores case, accents and trailing blanks.
    mine = [row for row in rows if fold(row[at]) == fold(name)]
    if not mine:
        return None
    at = first + mailbox.index("username")
    own = next((row for row in mine if row[at] is not None and fold(row[at]) == fold(mail)), None)
    return UserWithDomain(
        dict(zip(domain, mine[0], strict=False)),
        None if own is None else dict(zip(mailbox, own[first:last], strict=True)),
        [row[-_RELATED_COLUMNS:] for row in mine if row[-_RELATED_COLUMNS] is not None],
    )


def columns(schema: Schema) -> tuple[list[str], list[str]]:
    domain, mailbox = schema.columns(t.domain), schema.columns(t.mailbox)
    return [column.name for column in domain], [column.name for column in mailbox]
