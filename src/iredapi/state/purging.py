"""Removal of old rows by the processes that write new ones."""

import logging
from collections.abc import Awaitable, Callable

from iredapi.state.connections import StateUnavailable

INTERVAL = 600.0
"""Seconds between two removals by one process."""
_logger = logging.getLogger(__name__)


class Purging:
    """Calls ``purge`` now and then, first at the time ``due``.

    ``what`` are the rows, as a log line names them.
    """

    def __init__(self, what: str, purge: Callable[[], Awaitable[object]], due: float) -> None:
        self._what = what
        self._purge = purge
        self._due = due

    async def sometimes(self, now: float) -> None:
        """Remove old rows if it is time. The state database may be away."""
        # A clock that was ahead and has been corrected does not delay the next removal.
        if 0 < self._due - now <= INTERVAL:
            return
        self._due = now + INTERVAL
        try:
            await self._purge()
        except StateUnavailable as error:
            _logger.warning("%s were not removed: %s", self._what, error)
