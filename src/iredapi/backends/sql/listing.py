"""Pages of lists in SQL: the keys of a page, read from an index where one has the order.

Names are compared in the order of their column: its collation is also that of its index
(docs/adr/0015).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
)

from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.database.column_types import MYSQL
from iredapi.database.text_matching import contains
from iredapi.domain.addresses import fold
from iredapi.domain.listing import Key, ListQuery

_LONGEST_TIME = 40
"""Characters of a time as text, in any database."""


@dataclass(frozen=True, slots=True)
class Listed:
    """How the accounts of a table are listed."""

    key: ColumnElement[str]
    """The unique column of names."""
    domain: ColumnElement[str]
    table: Any
    """The table, or a join that has each row of it once."""
    texts: tuple[ColumnElement[str], ...]
    """The columns that are searched."""
    sorts: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """What else the list can be sorted by, beside ``address``, ``created`` and ``modified``."""
    where: tuple[ColumnElement[bool], ...] = ()
    """Which rows of the table belong to the list."""

    @property
    def columns(self) -> Any:
        """The columns of the table with the names."""
        return self.key.table.c


class ListingRepository(AccountRepository):
    """Base of the repositories whose accounts are listed in pages."""

    def listed(self, query: ListQuery) -> Listed:
        """Return how the accounts are listed for a query."""
        raise NotImplementedError

    async def keys(
        self, domains: Collection[str] | None, query: ListQuery, after: Key | None, limit: int
    ) -> list[Key]:
        """Return the next keys of a list. One statement, beside those for spellings of domains."""
        listed = self.listed(query)
        value = self._value(listed, query)
        order = [listed.key] if value is None else [value, listed.key]
        columns: list[ColumnElement[Any]] = [listed.key.label("name")]
        if value is not None:
            columns.append(value.label("value"))
        where = await self._conditions(listed, domains, query)
        if after is not None:
            where.append(_follows(listed.key, value, after, descending=query.descending))
        # A constant on PostgreSQL, as the domain is (``within_planned``).
        most = bindparam("most", limit, type_=Integer, literal_execute=self.dialect == "postgresql")
        statement: Select[Any] = (
            select(*columns)
            .select_from(listed.table)
            .where(*where)
            .order_by(*(one.desc() if query.descending else one for one in order))
            .limit(most)
        )
        rows = await self.rows(statement)
        return [Key(row["name"], row.get("value")) for row in rows]

    async def count(self, domains: Collection[str] | None, query: ListQuery) -> int:
        """Count the items of a list. One statement, as ``keys``."""
        listed = self.listed(query)
        where = await self._conditions(listed, domains, query)
        table = listed.key.table
        count = select(func.count().label("number")).select_from(table).where(*where)
        return int((await self.rows(count))[0]["number"])

    async def named(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Return the rows of these names."""
        listed = self.listed(ListQuery())
        columns = self.schema.columns(listed.key.table)
        found = await self.rows(select(*columns).where(listed.key.in_(names)))
        wanted, key = frozenset(names), str(listed.key.key)
        # MariaDB's equality ignores case, accents and trailing blanks.
        return {row[key]: row for row in found if row[key] in wanted}

    def _value(self, listed: Listed, query: ListQuery) -> ColumnElement[Any] | None:
        if not query.by_value:
            return None
        if query.sort in ("created", "modified"):
            return self._time(listed.columns[query.sort])
        return listed.sorts[query.sort]

    def _time(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        """Return a time as a text that sorts like it, also when it is no valid date."""
        text: ColumnElement[str] = cast(column, String(_LONGEST_TIME))
        if self.dialect != "postgresql":
            return func.coalesce(text, "")
        # The text of a time depends on settings of the session; infinite ones have no such form.
        exact = func.to_char(column, "YYYY-MM-DD HH24:MI:SS.US", type_=String)
        return func.coalesce(func.nullif(exact, "", type_=String), text, "").collate("C")

    async def _conditions(
        self, listed: Listed, domains: Collection[str] | None, query: ListQuery
    ) -> list[ColumnElement[bool]]:
        where = list(listed.where)
        if domains is not None:
            names = await self.names_in_scope(listed.domain, domains)
            where.append(self.within_planned(listed.domain, names))
        if query.active is not None:
            active = listed.columns.active
            where.append(active == 1 if query.active else active != 1)
        if query.modified_since is not None:
            where.append(_since(listed.columns, query.modified_since))
        if query.search:
            texts = [c for c in listed.texts if c is listed.key or c.key not in query.hidden]
            where.append(or_(*(contains(column, query.search) for column in texts)))
        return where

    async def names_in_scope(
        self, column: ColumnElement[Any], domains: Collection[str]
    ) -> list[str]:
        """Return the spellings of domains in a column of accounts, as ``domain_names`` does."""
        if len(domains) == 1:
            return await self.domain_names(column, next(iter(domains)))
        own = {spelling for name in domains for spelling in names_of(name)}
        if self.dialect in MYSQL:
            return sorted({*own, *await self.exact_spellings(column, [*map(fold, domains)])})
        found = await self._stored_spellings(column, domains) - own if domains else set()
        return sorted(own | await self.without_other_domains(found, own))


def _follows(
    key: ColumnElement[str], value: ColumnElement[Any] | None, after: Key, *, descending: bool
) -> ColumnElement[bool]:
    """Match rows behind a place of the order."""
    name = literal(after.name, String(255))
    later_name = key < name if descending else key > name
    if value is None:
        return later_name
    place = literal(after.value, value.type)
    later = value < place if descending else value > place
    return or_(later, and_(value == place, later_name))


def _since(columns: Any, moment: datetime) -> ColumnElement[bool]:
    """Match what was created or changed at a time or later; not everybody writes ``modified``."""
    return or_(columns.modified >= moment, columns.created >= moment)
