"""Records, once a minute, which database servers this process writes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from iredapi.database.topology import Topology
from iredapi.errors import ApiError
from iredapi.state import State, StateUnavailable
from iredapi.state.written_servers import SECONDS

Ask = Callable[[], Awaitable[Topology | None]]
_PATIENCE: Final = 5.0
"""Seconds that a server has to answer."""
_CLOSE: Final = 2.0
"""Seconds that the end of the service waits for what is running."""


class ServersWritten:
    """Asks servers of several kinds, by the names of their databases."""

    def __init__(self, state: State, servers: Mapping[str, Ask]) -> None:
        self._state = state
        self._servers = servers
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look now and then, until ``close``."""
        if self._servers:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        pause = random.uniform(0.1, 0.5) * SECONDS  # noqa: S311 (not a secret)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closing.wait()
                return
            await self.look()
            pause = SECONDS

    async def look(self) -> None:
        """Record what the servers say that can be reached now. Never raises."""
        found = await asyncio.gather(*map(self._ask, self._servers.values()))
        told = {
            name: topology
            for name, topology in zip(self._servers, found, strict=True)
            if topology is not None
        }
        with suppress(StateUnavailable, SQLAlchemyError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._state.written.record(told)

    @staticmethod
    async def _ask(ask: Ask) -> Topology | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await ask()
        except (SQLAlchemyError, OSError, ApiError, StateUnavailable):
            return None  # a TimeoutError is an OSError

    async def close(self) -> None:
        """End, without waiting for a server that does not answer."""
        # The event as well: Python 3.11 may lose a cancellation while aiomysql connects.
        self._closing.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CLOSE)
