"""What the repositories of iRedAPD's policies share: names that are held, and widths."""

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
        """Most characters of an account or sender of greylisting."""
        return LONGEST_ON_MYSQL if self.dialect in MYSQL else LONGEST

    async def hold(self, *name: str) -> None:
        """Hold a name against our other writers until the unit ends: PostgreSQL only.

        What does not exist has no row to lock, and PostgreSQL has no unique key on ``throttle``. An
        advisory lock needs no rights, is released with the transaction, and stops nobody else:
        ``LOCK TABLE`` would make the writers of all accounts wait for each other, and would have to
        be waited for by a backup. On MariaDB the unique keys hold: an insert waits for another one
        of the same key, so the stores insert before they look. SQLite has one writer.
        """
        if self.dialect == "postgresql":
            digest = blake2b("\0".join(("iredapi", *name)).encode(), digest_size=8).digest()
            key = int.from_bytes(digest, "big", signed=True)
            await (await self.connection()).execute(select(func.pg_advisory_xact_lock(key)))
