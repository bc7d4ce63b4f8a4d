"""A time limit for servers behind the API."""

from __future__ import annotations

import asyncio
from typing import Any

from iredapi.errors import ServerDown


class Deadline:
    """An asynchronous context manager that raises ServerDown after some seconds.

    Also a TimeoutError of a shorter limit inside becomes ServerDown.
    """

    __slots__ = ("_limit",)

    def __init__(self, seconds: float) -> None:
        self._limit = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._limit.__aexit__(*error)
            if isinstance(error[1], TimeoutError):
                raise error[1]
        except TimeoutError as late:
            raise ServerDown(detail="A server behind the API did not answer in time.") from late
