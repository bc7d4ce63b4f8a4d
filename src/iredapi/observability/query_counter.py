"""Count what one request asks of databases and other servers, and how long it waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import event

from iredapi.observability import spans

DATABASE: Final = "database"
DIRECTORY: Final = "directory"
LIST_SERVER: Final = "list_server"
HASH_POOL: Final = "hash_pool"
"""Threads that hash passwords: waiting for one, and the hashing."""


@dataclass(slots=True)
class Wait:
    """How often one request has asked something behind the API, and the seconds it has waited."""

    calls: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Meter:
    """Counts the statements and LDAP operations of one request, and its other waits."""

    round_trips: int = 0
    """Statements and LDAP operations."""
    seconds: float = 0.0
    """Time of the round trips."""
    others: dict[str, Wait] | None = None
    """Waits that are not for a database. Those for ``DIRECTORY`` are round trips as well."""

    def count(self, seconds: float) -> None:
        """Add one round trip that took ``seconds``."""
        self.round_trips += 1
        self.seconds += seconds

    def count_other(self, backend: str, seconds: float) -> None:
        """Add a wait for something else than a database."""
        if self.others is None:
            self.others = {}
        wait = self.others.setdefault(backend, Wait())
        wait.calls += 1
        wait.seconds += seconds
        if backend == DIRECTORY:
            self.count(seconds)

    def waits(self) -> dict[str, Wait]:
        """Return all waits, by what the request has waited for."""
        others = self.others or {}
        directory = others.get(DIRECTORY, Wait())
        found = dict(others)
        if calls := self.round_trips - directory.calls:
            found[DATABASE] = Wait(calls, max(self.seconds - directory.seconds, 0.0))
        return found


METER: ContextVar[Meter | None] = ContextVar("iredapi_meter", default=None)
"""The meter of the current request; tasks that it starts share it."""


UNCOUNTED: Final = {"iredapi_uncounted": True}
"""Execution options of statements that set up a new connection, or that a timer runs."""
_LISTENERS: list[Callable[[str], None]] = []


def count_other(backend: str, begun: float) -> None:
    """Count a wait of the current request, if there is one, that began at a ``perf_counter``."""
    meter = METER.get()
    if meter is not None:
        meter.count_other(backend, time.perf_counter() - begun)


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
        if spans.tracer is not None:
            made = spans.statement(sql, engine.dialect.name, engine.url.database)
            spans.tracer.ended(*made, seconds)
        count(
            sql, seconds, uncounted="iredapi_uncounted" in getattr(context, "execution_options", ())
        )

    @event.listens_for(engine, "handle_error")
    def _failed(context: Any) -> None:
        begun = getattr(context.execution_context, "iredapi_begun", None)
        if spans.tracer is not None and begun is not None and context.statement:
            made = spans.statement(context.statement, engine.dialect.name, engine.url.database)
            error = type(context.original_exception).__name__
            spans.tracer.ended(*made, time.perf_counter() - begun, error)
