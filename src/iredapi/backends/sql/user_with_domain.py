"""A user together with its domain: what a change of one user reads."""

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

_SIDE = 4


@dataclass(frozen=True, slots=True)
class UserWithDomain:
    """What ``whole`` found."""

    domain: Mapping[str, Any]
    user: Mapping[str, Any] | None
    related_rows: Sequence[Any]


def whole(schema: Schema) -> Select[Any]:
    """Select the domain ``:name``, the user ``:mail``, and a row for each value of either."""
    mail = bindparam("mail", type_=String(255))
    home = domain_related_rows.alias_domains(domain_related_rows.own)
    many = home.union_all(*user_related_rows.of_record(None)).subquery("many")
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
    """Take the rows of ``whole`` apart; None: no such domain."""
    domain, mailbox = schema.statement("homes.columns", lambda: columns(schema))
    first, last = len(domain), len(domain) + len(mailbox)
    at = domain.index("domain")
    # MariaDB compares without regard to case, accents and trailing blanks.
    mine = [row for row in rows if fold(row[at]) == fold(name)]
    if not mine:
        return None
    at = first + mailbox.index("username")
    own = next((row for row in mine if row[at] is not None and fold(row[at]) == fold(mail)), None)
    return UserWithDomain(
        dict(zip(domain, mine[0], strict=False)),
        None if own is None else dict(zip(mailbox, own[first:last], strict=True)),
        [row[-_SIDE:] for row in mine if row[-_SIDE] is not None],
    )


def columns(schema: Schema) -> tuple[list[str], list[str]]:
    domain, mailbox = schema.columns(t.domain), schema.columns(t.mailbox)
    return [column.name for column in domain], [column.name for column in mailbox]
