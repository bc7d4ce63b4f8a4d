"""What one request costs in questions to other servers: how many, and how long they took."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event


@dataclass(slots=True)
class Meter:
    """Counts the statements and LDAP operations of one request."""

    round_trips: int = 0
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        """Add one question that was answered after ``seconds``."""
        self.round_trips += 1
        self.seconds += seconds


METER: ContextVar[Meter | None] = ContextVar("iredapi_meter", default=None)
"""The meter of the request that runs; tasks that it starts share it."""


def watch(engine: Any) -> None:
    """Count the statements of a (synchronous) engine."""

    @event.listens_for(engine, "before_cursor_execute")
    def _begin(_c: Any, _cursor: Any, _sql: Any, _values: Any, context: Any, _many: Any) -> None:
        if context is not None:
            context.iredapi_begun = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def _end(_c: Any, _cursor: Any, _sql: Any, _values: Any, context: Any, _many: Any) -> None:
        meter = METER.get()
        if meter is not None:
            begun = getattr(context, "iredapi_begun", None)
            meter.count(time.perf_counter() - begun if begun is not None else 0.0)
