"""Builds the probes of ``vmail``, as far as the database has the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    String,
    Table,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.sql.functions import FunctionElement

from iredapi.backends.sql import tables as t
from iredapi.database.column_types import MYSQL
from iredapi.database.datetimes import is_unknown
from iredapi.database.live_schema import Schema
from iredapi.doctor.probes import DeleteNamed, FixFactory, Judge, Probe, SqlProbe
from iredapi.doctor.vmail_conditions import normalized_path


class VmailProbes:
    """Factory of the probes of one account database."""

    def __init__(self, schema: Schema, dialect: str) -> None:
        self.schema = schema
        self._dialect = dialect

    def probe(
        self,
        code: str,
        table: Table,
        subject: ColumnElement[Any],
        *where: ColumnElement[bool],
        detail: ColumnElement[Any] | None = None,
        extra: tuple[ColumnElement[Any], ...] = (),
        fix: FixFactory | None = None,
        judge: Judge | None = None,
    ) -> Iterator[SqlProbe]:
        """Return a probe for the rows of a table that ``where`` selects; none without the table.

        ``extra`` are further columns that ``judge`` or ``fix`` need.
        """
        if not self.schema.has(table):
            return
        key = tuple(table.primary_key.columns)
        if table is t.last_login:
            key = (table.c.username,)
        columns = [subject.label("subject"), *extra]
        if detail is not None:
            columns.append(_text(detail).label("detail"))
        statement = select(*columns).select_from(table).where(*where)
        repair = None if fix is None else fix(table, key)
        yield SqlProbe(code, "vmail", statement, key, repair, judge)

    def joined(self, *parts: ColumnElement[Any] | str) -> ColumnElement[str]:
        """Return the concatenation of texts, as the dialect spells it."""
        texts = [
            _text(part) if isinstance(part, ColumnElement) else literal(part) for part in parts
        ]
        if self._dialect in MYSQL:
            return func.concat(*texts)
        joined: ColumnElement[str] = texts[0]
        for item in texts[1:]:
            joined = joined.concat(item)
        return joined

    def has_upper(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a value has upper-case letters."""
        if self._dialect in MYSQL:
            # The collation compares without regard to case.
            return func.binary(column) != func.binary(func.lower(column))
        return column != func.lower(column)

    def mailbox_path(self) -> FunctionElement[str]:
        """Return the directory of a mailbox as Dovecot uses it, see ``normalized_path``."""
        m = t.mailbox.c
        return normalized_path(
            self.joined(m.storagebasedirectory, "/", m.storagenode, "/", m.maildir)
        )


def date_probes(schema: Schema, table: Table, database: str) -> Iterator[Probe]:
    """Return the probes of a table's date columns for values that are no dates."""
    key = tuple(table.primary_key.columns)
    for column in schema.columns(table):
        if isinstance(column.type, Date | DateTime):
            where = literal(f"{table.name}.{column.name}").label("detail")
            subject = _text(table.c.get("username", key[0])).label("subject")
            statement = select(subject, where).select_from(table).where(is_unknown(column))
            yield SqlProbe("DATE_UNKNOWN", database, statement, key)


def shared_folder_probes(schema: Schema, database: str) -> Iterator[Probe]:
    """Return the probes of shared folders."""
    s, a = t.share_folder, t.anyone_shares
    anyone = literal("anyone", String(10))
    for table, whom in ((s, s.c.to_user), (a, anyone)):
        if schema.has(table):
            key = tuple(table.primary_key.columns)
            columns = (table.c.from_user.label("subject"), whom.label("detail"))
            fix = DeleteNamed(table, key)
            yield SqlProbe("FOLDER_SHARED", database, select(*columns), key, fix)


def _text(value: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(value, String(255))
