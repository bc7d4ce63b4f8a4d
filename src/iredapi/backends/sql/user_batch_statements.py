"""Statements that write many users at once without locking them first.

The version of a row is, on PostgreSQL, the transaction that wrote it (``xmin``). It is enough to
compare versions of the two rows: every other change of a user's record writes or locks the user's
own row, or touches only other tables, where its order does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.mysql import BINARY

from iredapi.backends.sql import domain_related_rows
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.user_with_domain import columns
from iredapi.database.bulk_parameters import label, texts
from iredapi.database.column_types import MYSQL
from iredapi.database.compiled_statement import Statement
from iredapi.database.dialect import BY_NAME, differs, domain_of
from iredapi.database.live_schema import Schema


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of ``rows`` for one user."""

    domain: Mapping[str, Any]
    user: Mapping[str, Any]
    versions: tuple[str, str]
    """Of the domain's row and of the user's row."""
    related_rows: Sequence[Any]


def _version(table: str) -> ColumnElement[str]:
    return literal_column(f"CAST({table}.xmin AS TEXT)", String)


def rows(schema: Schema) -> Select[Any]:
    """Select the rows of the domain ``:name`` and the user ``:mail``, and what the user manages."""
    d, mail = t.domain_admins.c, bindparam("mail", type_=String(255))
    managed = and_(d.username == mail, d.active == 1)
    return (
        select(
            *schema.columns(t.domain),
            *schema.columns(t.mailbox),
            _version("domain"),
            _version("mailbox"),
            d.domain.label("managed"),
        )
        .select_from(
            t.domain.join(t.mailbox, t.mailbox.c.username == mail).outerjoin(
                t.domain_admins, managed
            )
        )
        .where(t.domain.c.domain == domain_related_rows.name())
    )


def split_rows(schema: Schema, found: Sequence[Any]) -> Rows | None:
    """Convert the result of ``rows``; None: the domain or the user does not exist."""
    if not found:
        return None
    domain, mailbox = schema.statement("users.columns with domain", lambda: columns(schema))
    first, last = len(domain), len(domain) + len(mailbox)
    row = found[0]
    user = dict(zip(mailbox, row[first:last], strict=True))
    return Rows(
        dict(zip(domain, row, strict=False)),
        user,
        (row[last], row[last + 1]),
        [
            ("managed", user["username"], each[last + 2], 0)
            for each in found
            if each[last + 2] is not None
        ],
    )


def update_unchanged(columns: Sequence[str]) -> Update:
    """Update a user if its row and its domain's row still have the versions that were read.

    Returns one row when the user was updated, none otherwise. SKIP LOCKED: it never waits; a row
    that another transaction has locked counts as changed. The domain's row is compared without a
    lock: only columns of the user are written, which no later change of the domain forbids, and
    removing the domain waits for the user's row.
    """
    m = t.mailbox.c
    domain = select(t.domain.c.domain).where(
        t.domain.c.domain == domain_related_rows.name(),
        _version("domain") == bindparam("domain_version", type_=String),
    )
    own = (
        select(m.username)
        .where(
            m.username == bindparam("mail", type_=String(255)),
            _version("mailbox") == bindparam("user_version", type_=String),
            exists(domain),
        )
        .with_for_update(skip_locked=True, of=t.mailbox)
        .cte("own")
    )
    return (
        update(t.mailbox)
        .where(m.username == own.c.username)
        .values({name: bindparam(f"m_{name}") for name in columns})
        .returning(literal_column("1"))
    )


def _ordinary(mail: ColumnElement[str], name: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """Choose users in the existing domain ``name`` who have no admin rights of any kind."""
    m, d = t.mailbox.c, t.domain_admins.c
    return [
        m.isadmin == literal_column("0"),
        m.isglobaladmin == literal_column("0"),
        ~exists(select(d.username).where(d.username == mail)),
        exists(select(t.domain.c.domain).where(t.domain.c.domain == name)),
    ]


def _wanted(columns: Sequence[str], size: int) -> dict[str, ColumnElement[Any]]:
    """Return the new value of each column: a CASE over the users' addresses."""
    m, mails = t.mailbox.c, texts("mail", size)
    found: dict[str, ColumnElement[Any]] = {}
    for column in columns:
        own = [bindparam(label(f"m_{column}", n, size), type_=m[column].type) for n in range(size)]
        found[column] = (
            own[0]
            if size == 1
            else case(*zip(mails, own, strict=True), value=m.username, else_=m[column])
        )
    return found


def _chosen(size: int, dialect: str) -> list[ColumnElement[bool]]:
    """Choose those of ``size`` users who have no admin rights and whose domain exists."""
    m, mails = t.mailbox.c, texts("mail", size)
    chosen = [m.username.in_(mails), *_ordinary(m.username, domain_of(m.username))]
    if dialect in MYSQL:
        # Its equality ignores case, accents and trailing blanks: compare bytes, too.
        name = cast(func.lower(m.username), BINARY)
        chosen.append(name.in_([cast(mail, BINARY) for mail in mails]))
    return chosen


def compare_without_read(columns: Sequence[str], size: int, dialect: str) -> Select[Any]:
    """Select the users without admin rights, and for each column whether its value differs.

    Then its stored value; NULL for a hash.
    """
    wanted = _wanted(columns, size)
    differences = [
        differs(t.mailbox.c[column], wanted[column], dialect).label(f"d_{column}")
        for column in columns
    ]
    stored = [_shown(column).label(f"o_{column}") for column in columns]
    return select(t.mailbox.c.username, *differences, *stored).where(*_chosen(size, dialect))


def _shown(column: str) -> ColumnElement[Any]:
    return null() if column == "password" else t.mailbox.c[column]


def hold_users(size: int) -> Select[Any]:
    """Lock the rows of users; NOWAIT: fails when another transaction has locked one.

    A column that is in no index: MySQL would scan the whole of one that has all columns.
    """
    m = t.mailbox.c
    chosen = select(m.name).where(m.username.in_(texts("mail", size)))
    return chosen.with_hint(t.mailbox, BY_NAME).with_for_update(nowait=True)


def update_all_without_read(
    columns: Sequence[str], moments: Mapping[str, str], size: int, dialect: str
) -> Statement:
    """Update ordinary users (no admin rights) where a value differs; run it in autocommit.

    ``moments`` maps a column of times to the column whose change it records; empty: any change.
    On PostgreSQL it returns the rows of ``compare_without_read`` and never waits: SKIP LOCKED
    leaves out rows that another transaction has locked. On SQLite it returns the addresses that
    were updated, on MariaDB their number.
    """
    m, wanted = t.mailbox.c, _wanted(columns, size)
    moment = bindparam("moment", type_=m.modified.type)
    chosen = _chosen(size, dialect)
    if dialect == "postgresql":
        found = compare_without_read(columns, size, dialect)
        held = found.with_for_update(skip_locked=True, of=t.mailbox).cte("held")
        different: dict[str, ColumnElement[bool]] = {
            column: held.c[f"d_{column}"] for column in columns
        }
        chosen = [m.username == held.c.username]
    else:
        different = {column: differs(m[column], wanted[column], dialect) for column in columns}
    # MySQL assigns from left to right: times come first, or they would see the new values.
    change = (
        update(t.mailbox)
        .ordered_values(
            *(
                (m[column], case((different[of], moment), else_=m[column]) if of else moment)
                for column, of in moments.items()
            ),
            *((m[column], wanted[column]) for column in columns),
        )
        .where(*chosen, or_(*different.values()))
    )  # fmt: skip
    if dialect in MYSQL:
        return change.with_hint(BY_NAME)
    if dialect == "postgresql":
        done = change.returning(m.username).cte("done")
        stored = [held.c[f"o_{column}"] for column in columns]
        return select(held.c.username, *different.values(), *stored).add_cte(done)
    return change.returning(m.username)
