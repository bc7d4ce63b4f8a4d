"""Leases that are renewed in the background while the work under them goes on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from iredapi.state.connections import StateUnavailable

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def renewed(
    what: str, lease: float, renew: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """Call ``renew`` three times per ``lease`` seconds, until it returns False: it was lost.

    ``what`` names the lease in the log.
    """
    done = asyncio.Event()

    async def run() -> None:
        held = True
        while held:
            with suppress(TimeoutError):
                async with asyncio.timeout(lease / 3):
                    await done.wait()
                return
            try:
                held = await renew()
            except StateUnavailable as error:
                _logger.warning("%s was not renewed: %s", what, error)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        # Ask the task to end: cancelling a statement would cost its connection.
        done.set()
        await task
