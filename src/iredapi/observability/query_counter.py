"""Count the statements and LDAP operations of one request, and their time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import event


@dataclass(slots=True)
class Meter:
    """Counts the statements and LDAP operations of one request."""

    round_trips: int = 0
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        """Add one round trip that took ``seconds``."""
        self.round_trips += 1
        self.seconds += seconds


METER: ContextVar[Meter | None] = ContextVar("iredapi_meter", default=None)
"""The meter of the current request; tasks that it starts share it."""


UNCOUNTED: Final = {"iredapi_uncounted": True}
"""Execution options of statements that set up a new connection, or that a timer runs."""
_LISTENERS: list[Callable[[str], None]] = []


def count(statement: str, seconds: float, *, uncounted: bool = False) -> None:
    """Count a statement of the current request, if there is one."""
    meter = METER.get()
    if meter is not None:
        meter.count(seconds)
    if uncounted:
        return
    for listener in _LISTENERS:
        listener(statement)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect the statements of all connections of this process; executemany counts once.

    Without those that set up a new connection or that a timer runs: time and load decide when
    there is one.
    """
    statements: list[str] = []
    _LISTENERS.append(statements.append)
    try:
        yield statements
    finally:
        _LISTENERS.remove(statements.append)


def watch(engine: Any) -> None:
    """Count the statements of a (synchronous) engine."""

    @event.listens_for(engine, "before_cursor_execute")
    def _begin(_c: Any, _cursor: Any, _sql: Any, _values: Any, context: Any, _many: Any) -> None:
        if context is not None:
            context.iredapi_begun = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def _end(_c: Any, _cursor: Any, sql: str, _values: Any, context: Any, _many: Any) -> None:
        begun = getattr(context, "iredapi_begun", None)
        seconds = time.perf_counter() - begun if begun is not None else 0.0
        count(
            sql, seconds, uncounted="iredapi_uncounted" in getattr(context, "execution_options", ())
        )
