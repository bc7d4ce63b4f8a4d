"""What the doctor repaired, in the panel's log."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.iredadmin import SqlIredadmin
from iredapi.database.session import Databases
from iredapi.domain.actors import SYSTEM
from iredapi.domain.audit_events import Event, Kind
from iredapi.errors import ApiError

_NAMED = 20
"""Most subjects that one line of the log names."""


async def note(databases: Databases, code: str, subjects: Collection[str]) -> None:
    """Say in the panel's log what was repaired; a log that is away does not undo it."""
    if not subjects or not databases.has("iredadmin"):
        return
    names = sorted(set(subjects))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    event = Event(Kind.UPDATE, f"Doctor repaired {code}: {', '.join(names[:_NAMED])}{more}.")
    connections = await databases.open(writing=True)
    try:
        await SqlIredadmin(connections).write(SYSTEM, [event])
        await connections.commit()
    except (ApiError, DBAPIError, OSError):
        return
    finally:
        await connections.close()
