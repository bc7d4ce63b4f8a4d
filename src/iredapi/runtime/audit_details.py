"""Writes the details of log entries into the state database, in the background (docs/adr/0017)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Final, NamedTuple

import structlog

from iredapi.backends.policies.iredadmin import Entry
from iredapi.domain.log import digest
from iredapi.domain.revisions import About, Revision
from iredapi.state import StateUnavailable
from iredapi.state.log_details import LogDetails, NewDetails

_DELAY: Final = 0.2
"""Seconds for which details are collected."""
_AGAIN: Final = 5.0
"""Seconds after a failure."""
_MOST: Final = 2000
"""Details that wait at most; while the state database is away the oldest are dropped."""
_PATIENCE: Final = 10.0
"""Maximum seconds for which the end of the process, or a reader of the log, waits."""
_log = structlog.get_logger(__name__)


class Detail(NamedTuple):
    """An entry that was written to the panel's log, and what is kept beside it."""

    log_id: int
    entry: Entry
    request_id: str
    revision: Revision | None


class DetailWriter:
    """Collects details, and writes those of a moment in one transaction."""

    def __init__(self, details: LogDetails) -> None:
        self._details = details
        self._waiting: list[Detail] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[bool] | None = None

    @property
    def wanted(self) -> bool:
        """Whether details are kept at all."""
        return self._details.kept

    def add(self, some: Sequence[Detail]) -> None:
        """Keep details until they are written. Never raises, and never waits."""
        self._waiting += some
        self._drop_oldest()
        if self._waiting and self._timer is None and self._task is None:
            self._schedule(_DELAY)

    async def flush(self) -> None:
        """Write what waits, if the state database answers in time."""
        for _ in range(2):  # what is being written, and what has come meanwhile
            if self._task is None:
                self._start()
            task = self._task
            if task is None:
                return
            done, _pending = await asyncio.wait({task}, timeout=_PATIENCE)
            if not done or not task.result():
                return

    async def close(self) -> None:
        """Write what waits. What cannot be written is lost."""
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        # Empty contexts: context variables of a request must not leak into this work.
        self._timer = loop.call_later(seconds, self._start, context=Context())

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None and self._waiting:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._write(), context=Context())

    async def _write(self) -> bool:
        some, self._waiting = self._waiting, []
        again = _DELAY
        try:
            await self._details.write([_row(detail) for detail in some])
        except StateUnavailable as error:
            _log.warning("audit_details_wait", reason=str(error), entries=len(some))
            self._waiting, again = [*some, *self._waiting], _AGAIN
            self._drop_oldest()
            return False
        except Exception as error:
            _log.error("audit_details_lost", reason=repr(error), entries=len(some))
            return False
        finally:
            self._task = None
            if self._waiting:
                self._schedule(again)
        return True

    def _drop_oldest(self) -> None:
        if (lost := len(self._waiting) - _MOST) > 0:
            del self._waiting[:lost]
            _log.error("audit_details_lost", reason="too many wait", entries=lost)


def _row(detail: Detail) -> NewDetails:
    e, revision = detail.entry, detail.revision
    return NewDetails(
        log_id=detail.log_id,
        digest=digest(e["admin"], e["ip"], e["domain"], e["username"], e["event"], e["msg"]),
        request_id=detail.request_id,
        about=About.NOTHING if revision is None else revision.about,
        changes=() if revision is None else revision.described(),
    )
