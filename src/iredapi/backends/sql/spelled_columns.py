"""Columns with an index that are searched for names in any spelling, in any of the databases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_

from iredapi.backends.sql import spellings as other_spellings
from iredapi.backends.sql.exact_spellings import select_other_bytes, select_spellings
from iredapi.database.column_types import MYSQL
from iredapi.database.live_schema import Schema
from iredapi.database.repository import Repository
from iredapi.database.text_matching import in_bytes, is_like
from iredapi.domain.addresses import fold


def names_of(name: str) -> list[str]:
    """Return the stored spelling of a name and its folded one; rows of both belong to it.

    Postfix folds what it looks up to lower case.
    """
    return sorted({name, fold(name)})


class SpellingRepository(Repository):
    """Base of the repositories that look names up in any spelling."""

    async def like(self, column: ColumnElement[Any], names: Collection[str]) -> ColumnElement[bool]:
        """Return the condition ``is_like`` for a large table with an index of the column.

        One statement looks which other spellings are stored.
        """
        if not all(map(str.isascii, names)):
            return is_like(column, names)
        own = {spelling for name in names for spelling in names_of(name)}
        if self.dialect in MYSQL:
            schema = await self._live_schema()
            others = select_other_bytes(column, [*map(fold, names)], own, schema)
            found = own | set(await self.column(others))
            return and_(column.in_(sorted(found)), in_bytes(column, found))
        return column.in_(sorted(own | await self._stored_spellings(column, names)))

    async def exact_spellings(
        self, column: ColumnElement[Any], names: Collection[str]
    ) -> Sequence[str]:
        """Return spellings of folded names that equality on MariaDB and MySQL does not find."""
        chosen = select_spellings(column, names, await self._live_schema())
        return () if chosen is None else await self.column(chosen)

    async def _stored_spellings(
        self, column: ColumnElement[Any], names: Collection[str]
    ) -> set[str]:
        """Return how an indexed column spells some names; not on MariaDB."""
        schema = await self._live_schema()
        _, rows = await self.table(
            ("spellings", column.table, column.name),
            lambda: other_spellings.values(column, self.dialect, schema),
            **other_spellings.spelling_parameters(map(fold, names), self.dialect, schema),
        )
        return {row[0] for row in rows}

    async def _live_schema(self) -> Schema:
        return self.schema or await self.database.schema()


class IredadminSpellings(SpellingRepository):
    """Looks names up in iRedAdmin's database."""

    name = "iredadmin"
