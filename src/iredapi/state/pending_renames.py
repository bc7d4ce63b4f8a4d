"""Renames that have begun: what one carried over before it broke off is known when it is repeated.

A rename is committed in several databases, one after the other. When it breaks off in between, the
policies are under the new address and the account is still under the old one; without a note the
repetition would take the policies for left-overs of somebody else.
"""

from collections.abc import Callable

from sqlalchemy import delete, literal, select

from iredapi.state.connections import Connections
from iredapi.state.tables import NAME_LENGTH, as_key, renames, upsert

REMEMBERED = 7 * 86400.0
"""Seconds after which a rename that was not repeated is forgotten."""


class Renames:
    """The renames of all replicas. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def begin(self, old: str, new: str) -> bool:
        """Note a rename; tell whether the same one has begun before and has not ended."""
        now = self._clock()
        key = _key(old, new)
        found = await self._connections.read(select(renames.c.begun).where(renames.c.name == key))
        # Again too: it is remembered from now on.
        row = {"name": key, "begun": now}
        statement = upsert(self._connections.dialect, renames, [row], [("begun", literal(now))])
        await self._connections.write(statement)
        return any(float(one.begun) > now - REMEMBERED for one in found)

    async def end(self, old: str, new: str) -> None:
        """Forget a rename that has ended, and those that nobody repeated."""
        long_ago = renames.c.begun < self._clock() - REMEMBERED
        await self._connections.write(
            delete(renames).where((renames.c.name == _key(old, new)) | long_ago)
        )


def _key(old: str, new: str) -> str:
    return as_key(f"{old}>{new}", NAME_LENGTH)
