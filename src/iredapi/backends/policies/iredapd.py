"""Base of the repositories of iRedAPD's policies: locks on names, and lengths of columns."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from sqlalchemy import func, select

from iredapi.database.column_types import MYSQL
from iredapi.database.repository import Repository

LONGEST: Final = 255
LONGEST_ON_MYSQL: Final = 100


class IredapdRepository(Repository):
    """Base of the repositories of iRedAPD's policies."""

    name = "iredapd"

    @property
    def longest(self) -> int:
        """Maximum length of an account or sender of greylisting."""
        return LONGEST_ON_MYSQL if self.dialect in MYSQL else LONGEST

    async def lock_name(self, *name: str) -> None:
        """Lock a name against our other writers until the unit ends; on PostgreSQL only.

        A row that does not exist cannot be locked, and PostgreSQL has no unique key on
        ``throttle``. An advisory lock needs no rights, is released with the transaction, and blocks
        no other program: ``LOCK TABLE`` would block the writers of all accounts, and backups. On
        MariaDB an insert waits for another one with the same unique key, so the repositories insert
        before they read. SQLite has one writer.
        """
        if self.dialect == "postgresql":
            digest = blake2b("\0".join(("iredapi", *name)).encode(), digest_size=8).digest()
            key = int.from_bytes(digest, "big", signed=True)
            await (await self.connection()).execute(select(func.pg_advisory_xact_lock(key)))
