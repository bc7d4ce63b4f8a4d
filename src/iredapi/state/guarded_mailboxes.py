"""Mailboxes of removed users who were global admins: only global admins may give them back.

The tables of iRedMail do not say whose mailbox it was. Mailboxes that other programs have queued
are not known here.
"""

from collections.abc import Callable

from sqlalchemy import literal, select

from iredapi.state.connections import Connections
from iredapi.state.tables import NAME_LENGTH, as_key, guarded_mailboxes, upsert


class GuardedMailboxes:
    """The paths of these mailboxes. Every method raises ``StateUnavailable``."""

    def __init__(self, connections: Connections, *, clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def add(self, path: str) -> None:
        """Add a directory. It stays: the paths of mailboxes are not used again."""
        row = {"path": _key(path), "since": self._clock()}
        changes = [("since", literal(row["since"]))]
        await self._connections.write(
            upsert(self._connections.dialect, guarded_mailboxes, [row], changes)
        )

    async def has(self, path: str) -> bool:
        """Return whether a directory was added."""
        column = guarded_mailboxes.c.path
        return bool(await self._connections.read(select(column).where(column == _key(path))))


def _key(path: str) -> str:
    return as_key("/".join(part for part in path.lower().split("/") if part), NAME_LENGTH)
