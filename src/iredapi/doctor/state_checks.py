"""Checks of the state database: it can be reached, is ours, and has this version's schema.

And of what it remembers: whether several servers are written to at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from iredapi.config.settings import Settings
from iredapi.database import topology
from iredapi.database.topology import Topology
from iredapi.doctor.findings import Finding
from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.migrate import WrongDatabase, is_current
from iredapi.state.written_servers import WrittenServers, at_once


async def examine_state(settings: Settings) -> AsyncIterator[Finding]:
    """Report what is wrong with the state database; nothing is created or migrated."""
    url = make_url(settings.urls()["state"])
    if not await _is_made(url):
        return
    try:
        connections = await Connections.open(url.render_as_string(hide_password=False))
    except StateUnavailable as error:
        yield Finding("SERVER_AWAY", "state", str(error))
        return
    try:
        if await is_current(connections):
            written = WrittenServers(connections, clock=time.time)
            for one, other in at_once(await written.recent()):
                yield Finding("SEVERAL_WRITERS", one.name, f"{one}; {other}")
        else:
            yield Finding("STATE_OUTDATED", "state")
    except (StateUnavailable, WrongDatabase) as error:
        yield Finding("SERVER_AWAY", "state", str(error))
    finally:
        await connections.close()


async def _is_made(url: URL) -> bool:
    """Tell whether there is a database: SQLite's file is made by the first start of the service.

    Opening it would create the file.
    """
    if url.get_backend_name() != "sqlite":
        return True
    return await asyncio.to_thread(Path(url.database or "").is_file)


async def is_usable(settings: Settings) -> bool:
    """Tell whether the state database can be used without a migration."""
    if not await _is_made(make_url(settings.urls()["state"])):
        return False
    found = [finding.code async for finding in examine_state(settings)]
    return set(found) <= {"SEVERAL_WRITERS"}


async def topology_of(settings: Settings) -> Topology | None:
    """Return which server has the state database; None: SQLite, or it cannot be reached."""
    url = settings.urls()["state"]
    if make_url(url).get_backend_name() == "sqlite":
        return None
    try:
        connections = await Connections.open(url)
    except StateUnavailable:
        return None
    try:
        return await connections.use(topology.ask)
    except (StateUnavailable, DBAPIError):
        return None
    finally:
        await connections.close()
