"""Writes repairs of the doctor to iRedAdmin's log."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.iredadmin import SqlIredadmin
from iredapi.database.session import Databases
from iredapi.domain.actors import SYSTEM
from iredapi.domain.audit_events import Event, Kind
from iredapi.errors import ApiError

_NAMED = 20
"""Maximum number of subjects that one log row names."""


async def log_repairs(databases: Databases, code: str, subjects: Collection[str]) -> None:
    """Write the subjects of repairs to iRedAdmin's log.

    Without the database ``iredadmin``, or when it cannot be reached, nothing is written: the repair
    stays.
    """
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
