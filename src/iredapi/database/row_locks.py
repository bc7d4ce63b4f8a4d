"""Rows that are locked by the value of a key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Dialect, bindparam, select

from iredapi.database.compiled_statement import CompiledStatement


@dataclass(frozen=True, slots=True)
class Row:
    """One row to lock, by the value of a key."""

    column: Column[Any]
    value: str
    share: bool = False
    """A shared lock instead of an exclusive one."""

    def lock_statement(self, dialect: Dialect) -> CompiledStatement:
        """Return the statement that locks the row; its parameter is ``value``."""
        return _lock_statement(self.column, self.share, dialect)

    def text(self, share: str) -> str:
        """Return it as SQL text; ``share`` is the driver's clause for shared locks."""
        column, how = self.column, share if self.share else "FOR UPDATE"
        rows = f"{column.table.name} WHERE {column.name} = '{self.value}'"
        return f"SELECT 1 FROM {rows} {how}"  # noqa: S608 (names are the tables')


@lru_cache
def _lock_statement(column: Column[Any], share: bool, dialect: Dialect) -> CompiledStatement:
    chosen = select(column).where(column == bindparam("value"))
    return CompiledStatement.of(chosen.with_for_update(read=share), dialect)
