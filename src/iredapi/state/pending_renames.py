"""Records of renames that have begun, so that an interrupted rename can be repeated.

A rename is committed in several databases, one after the other. After an interruption the policies
may have the new address and the account still the old one. Without a record, repeating the rename
would remove these policies as left-overs of an earlier account.
"""

from collections.abc import Callable

from sqlalchemy import delete, literal, select

from iredapi.state.connections import Connections
from iredapi.state.tables import NAME_LENGTH, as_key, renames, upsert

RETENTION = 7 * 86400.0
"""Seconds after which a rename that was not repeated is removed."""


class Renames:
    """The renames of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def begin(self, old: str, new: str) -> bool:
        """Record a rename; return whether the same one has begun before and not ended."""
        repeated = await self.has_begun(old, new)
        now = self._clock()
        # A repeated rename gets a new time.
        row = {"name": _key(old, new), "begun": now}
        statement = upsert(self._connections.dialect, renames, [row], [("begun", literal(now))])
        await self._connections.write(statement)
        return repeated

    async def has_begun(self, old: str, new: str) -> bool:
        """Return whether a rename has begun before and not ended."""
        found = await self._connections.read(
            select(renames.c.begun).where(renames.c.name == _key(old, new))
        )
        return any(float(one.begun) > self._clock() - RETENTION for one in found)

    async def end(self, old: str, new: str) -> None:
        """Remove a rename that has ended, and expired ones."""
        long_ago = renames.c.begun < self._clock() - RETENTION
        await self._connections.write(
            delete(renames).where((renames.c.name == _key(old, new)) | long_ago)
        )


def _key(old: str, new: str) -> str:
    return as_key(f"{old}>{new}", NAME_LENGTH)
