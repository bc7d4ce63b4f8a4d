"""Checks of the state database: it can be reached, is ours, and has this version's schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy.engine import make_url

from iredapi.config.settings import Settings
from iredapi.doctor.findings import Finding
from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.migrate import WrongDatabase, is_current


async def examine_state(settings: Settings) -> AsyncIterator[Finding]:
    """Report what is wrong with the state database; nothing is created or migrated."""
    url = make_url(settings.urls()["state"])
    # Opening would create the file.
    file = Path(url.database or "")
    if url.get_backend_name() == "sqlite" and not await asyncio.to_thread(file.is_file):
        yield Finding("STATE_OUTDATED", "state", "there is no file yet")
        return
    try:
        connections = await Connections.open(url.render_as_string(hide_password=False))
    except StateUnavailable as error:
        yield Finding("SERVER_AWAY", "state", str(error))
        return
    try:
        if not await is_current(connections):
            yield Finding("STATE_OUTDATED", "state")
    except (StateUnavailable, WrongDatabase) as error:
        yield Finding("SERVER_AWAY", "state", str(error))
    finally:
        await connections.close()


async def is_usable(settings: Settings) -> bool:
    """Tell whether the state database can be used without a migration."""
    return not [finding async for finding in examine_state(settings)]
