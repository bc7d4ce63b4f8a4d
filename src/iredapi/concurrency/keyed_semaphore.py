"""A few at a time through each gate, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class KeyedSemaphore:
    """Named semaphores that exist while somebody is at them.

    They keep parallel logins of one admin from being taken for guesses: attempts are counted before
    they are verified, and given back when the password was right.
    """

    def __init__(self, width: int = 2) -> None:
        self._width = width
        self._gates: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def enter(self, *names: str) -> AsyncIterator[None]:
        """Pass all gates, in one order, so that nobody waits for each other."""
        async with AsyncExitStack() as stack:
            for name in sorted(names):
                await stack.enter_async_context(self._one(name))
            yield

    @asynccontextmanager
    async def _one(self, name: str) -> AsyncIterator[None]:
        gate, waiting = self._gates.get(name, (asyncio.Semaphore(self._width), 0))
        self._gates[name] = (gate, waiting + 1)
        try:
            async with gate:
                yield
        finally:
            gate, waiting = self._gates.pop(name)
            if waiting > 1:
                self._gates[name] = (gate, waiting - 1)
