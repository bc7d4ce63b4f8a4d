"""Collations of PostgreSQL, by which a database sorts and compares."""

from __future__ import annotations

from typing import Final

from tests.servers.store import Store

COLLATIONS: Final = ("C", "en-US-x-icu", "und-x-icu", "en_US.utf8")
"""The last one is there where the machine has the locale."""
_COLUMNS: Final = (
    ("mailbox", "username"), ("alias", "address"), ("maillists", "address"), ("domain", "domain"),
    ("forwardings", "address"),
)  # fmt: skip


async def collate(store: Store, name: str) -> None:
    """Give the columns of names another collation; ``default`` is the first one."""
    for table, column in _COLUMNS:
        await store.execute(
            f'ALTER TABLE {table} ALTER COLUMN {column} TYPE VARCHAR(255) COLLATE "{name}"'
        )
