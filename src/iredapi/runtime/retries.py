"""Retries after deadlocks and lost connections, and errors of a commit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError

from iredapi.backends.protocols.backend import Backend
from iredapi.database.errors import is_collision, is_unknown_commit
from iredapi.errors import ApiError, OutcomeUnknown, ReadOnlyServer, ServerDown
from iredapi.observability import signals

Result = TypeVar("Result")

TRIES: Final = 8
"""Maximum attempts of one operation."""
COLLISION_TRIES: Final = 200
"""Maximum attempts of an operation that a database ends because of another one's changes."""
COLLISION_SHARE: Final = 0.9
"""The share of the time limit of a request after which it is not attempted again."""
_LONGEST_PAUSE: Final = 0.1
"""Seconds. Whoever has lost often must not wait longer than those who have just come."""


async def retry_read(backend: Backend, read: Callable[[], Awaitable[Result]]) -> Result:
    """Run a read, and run it again when its connection was lost (such as by a server's restart).

    Raises ApiError.
    """
    for attempt in range(TRIES):
        try:
            return await read()
        except backend.errors as error:
            if not may_run_again(backend, error, attempt):
                raise backend.translated(error) from error
        signals.unit_retried()
        await asyncio.sleep(backoff(attempt))
    raise AssertionError("unreachable")


def backoff(attempt: int) -> float:
    """Return the seconds to wait after an attempt (0, 1, …): exponential, with jitter."""
    jitter: float = random.uniform(0.005, 0.02)  # noqa: S311 (not a secret)
    if attempt >= TRIES:
        return random.uniform(0.1, 1.0) * _LONGEST_PAUSE  # noqa: S311
    return jitter * (1 << attempt)


def may_run_again(backend: Backend, error: Exception, attempt: int, until: float = 0.0) -> bool:
    """Tell whether a unit that ended with an error is tried again; attempts count from 0.

    A server that takes no writes: once, on a new connection, which may lead to another server. A
    collision with another transaction: up to the moment ``until`` (monotonic), because it is
    nobody's fault; under load on several nodes of Galera a long transaction may have many.
    """
    if not backend.is_transient(error):
        return False
    if until and isinstance(error, DBAPIError) and is_collision(error):
        return attempt < COLLISION_TRIES - 1 and time.monotonic() < until
    return attempt < (1 if isinstance(backend.translated(error), ReadOnlyServer) else TRIES - 1)


def commit_error(backend: Backend, error: Exception) -> Exception:
    """Return the error to raise when a commit failed with ``error``.

    When the connection was lost, or the time is over, it is unknown whether the change was
    committed.
    """
    found = backend.translated(error)
    if isinstance(found, ServerDown | TimeoutError) or is_unknown_commit(error):
        return OutcomeUnknown(
            "A server was lost during the commit, or did not answer in time: it is unknown whether "
            "the change was made. Check that before you repeat it."
        )
    return found


def only_policies_written(error: Exception) -> Exception:
    """Return the error to raise when a unit failed after a related database was committed.

    An answer that says that nothing was changed, such as one with Retry-After, would be wrong.
    """
    if isinstance(error, OutcomeUnknown) or (
        isinstance(error, ApiError) and error.status != 503 and error.code != "CHANGED_MEANWHILE"
    ):
        return error
    return OutcomeUnknown(
        "Policies of the account were written, but not the account itself. Send the request again."
    )
