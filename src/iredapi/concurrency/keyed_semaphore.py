"""A semaphore per key, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class KeyedSemaphore:
    """Semaphores by name; one exists only while it is held or waited for.

    Logins of one account go through it, so that parallel logins with the right password are not
    counted as guesses: an attempt is counted before it is verified, and undone after a success.
    """

    def __init__(self) -> None:
        self._semaphores: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def enter(self, *names: str, width: int = 2) -> AsyncIterator[None]:
        """Hold the semaphores of all names, each with up to ``width - 1`` other tasks.

        They are taken in sorted order, so none deadlocks. A name has always the same ``width``.
        """
        async with AsyncExitStack() as stack:
            for name in sorted(names):
                await stack.enter_async_context(self._one(name, width))
            yield

    @asynccontextmanager
    async def _one(self, name: str, width: int) -> AsyncIterator[None]:
        semaphore, users = self._semaphores.get(name, (asyncio.Semaphore(width), 0))
        self._semaphores[name] = (semaphore, users + 1)
        try:
            async with semaphore:
                yield
        finally:
            semaphore, users = self._semaphores.pop(name)
            if users > 1:
                self._semaphores[name] = (semaphore, users - 1)
