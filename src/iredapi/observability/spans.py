"""Where traces take their spans from.

The places that are timed know only this module. OpenTelemetry is loaded when traces are on
(``otel_tracer``); otherwise each place compares ``tracer`` with None, and that is all.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

Answer = TypeVar("Answer")
Attributes = Mapping[str, str | int]
Mark = Any
"""What identifies a span, so that another one can be linked to it."""

_LITERAL: Final = re.compile(
    r"""'(?:[^'\\]|''|\\.)*'            # a text
    |(?<![\w$:%.])(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?)\b  # a number, but no $1, :name_1 or %(n)s""",
    re.VERBOSE,
)
_BLANKS: Final = re.compile(r"\s+")
_TARGET: Final = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", re.IGNORECASE)
_FILTER_VALUE: Final = re.compile(r"(=)(?!\*\))[^()]*(?=\))")
_NAME_VALUE: Final = re.compile(r"=(?:[^,\\]|\\.)*")
_ACCOUNT: Final = re.compile(r"(?<=/)[^/?]*(?:@|%40)[^/?]*")


class Tracer(Protocol):
    """What makes spans. A span is a child of the current one, and made only within a request."""

    def log_fields(self) -> Mapping[str, str]:
        """Return the ids of the current span, for lines of the log."""

    def here(self) -> Mark | None:
        """Return the current span; None: there is none, or it is not sampled."""

    def headers(self) -> dict[str, str]:
        """Return ``traceparent`` and so on, for a request to another service."""

    def request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
        """Make the span of a request of a client."""

    def span(
        self, name: str, attributes: Attributes | None = None, *, client: bool = False
    ) -> AbstractContextManager[Any]:
        """Make a span; ``client``: of a call to another server."""

    def batch(self, kind: str, members: Sequence[Mark | None]) -> AbstractContextManager[Any]:
        """Make a span of a batch, with a link to each of its members."""

    def ended(self, name: str, attributes: Attributes, seconds: float, error: str = "") -> None:
        """Make a span of a call to another server that has just ended."""

    def began(self, name: str, start: int, end: int) -> None:
        """Make a span between two times (``time.time_ns``)."""


tracer: Tracer | None = None
"""None: there are no traces."""


def use(chosen: Tracer | None) -> None:
    """Set the tracer of this process; None: there are no traces any more."""
    global tracer  # noqa: PLW0603 (as for logging, there is one for the process)
    tracer = chosen


async def answered(current: Tracer, sql: str, engine: Any, question: Awaitable[Answer]) -> Answer:
    """Wait for a statement to SQLAlchemy's engine, in a span of its own. Raises what it raises."""
    name, attributes = statement(sql, engine.dialect.name, engine.url.database)
    with current.span(name, attributes, client=True):
        return await question


async def operation(
    current: Tracer, function: Callable[..., Any], question: Awaitable[Answer]
) -> Answer:
    """Wait for an operation in its unit of work, in a span with the name of its function."""
    function = getattr(function, "func", function)  # of a partial
    module = getattr(function, "__module__", "").rpartition(".")[2]
    # A function within another one has no name that tells anything.
    name = getattr(function, "__qualname__", "").partition(".<locals>")[0].rpartition(".")[2]
    with current.span(f"operation {module}.{name}"):
        return await question


def statement(sql: str, system: str, database: str | None) -> tuple[str, Attributes]:
    """Return the name and the attributes of a statement's span: its text without values."""
    name, words, operation = _described(sql)
    return name, {
        "db.system.name": system,
        # A SQLite file: its name without the directory.
        "db.namespace": (database or "").rpartition("/")[2],
        "db.operation.name": operation,
        "db.query.text": words,
    }


@lru_cache(maxsize=1024)
def _described(sql: str) -> tuple[str, str, str]:
    words = _BLANKS.sub(" ", _LITERAL.sub("?", sql)).strip()
    operation = words.partition(" ")[0].rstrip(";").upper()
    target = _TARGET.search(words)
    return f"{operation} {target[1]}" if target else operation, words, operation


def directory(operation: str, dn: str, filter_text: str = "") -> tuple[str, Attributes]:
    """Return the name and the attributes of the span of an LDAP operation, without values."""
    found: dict[str, str | int] = {
        "db.system.name": "ldap",
        "db.operation.name": operation,
        "ldap.dn": _NAME_VALUE.sub("=?", dn),
    }
    if filter_text:
        found["ldap.filter"] = filter_without_values(filter_text)
    return f"LDAP {operation}", found


def filter_without_values(text: str) -> str:
    """Return an LDAP filter with ``?`` in place of each value; ``*`` alone (present) stays."""
    return _FILTER_VALUE.sub(r"\1?", text)


def path_without_accounts(path: str) -> str:
    """Return the path of a URL without its query and without addresses."""
    return _ACCOUNT.sub("{address}", path.partition("?")[0])


def first_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers of a request that name its trace."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in {b"traceparent", b"tracestate"}
    }
