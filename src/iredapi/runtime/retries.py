"""Retries after deadlocks and lost connections, and errors of a commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from iredapi.backends.protocols.backend import Backend
from iredapi.database.errors import is_unknown_commit
from iredapi.errors import OutcomeUnknown, ReadOnlyServer, ServerDown

Result = TypeVar("Result")

TRIES: Final = 8
"""Maximum attempts of one operation."""


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
        await asyncio.sleep(backoff(attempt))
    raise AssertionError("unreachable")


def backoff(attempt: int) -> float:
    """Return the seconds to wait after an attempt (0, 1, …): exponential, with jitter."""
    jitter: float = random.uniform(0.005, 0.02)  # noqa: S311 (not a secret)
    return jitter * (1 << attempt)


def may_run_again(backend: Backend, error: Exception, attempt: int) -> bool:
    """Tell whether a unit that ended with an error is tried again; attempts count from 0.

    A server that takes no writes: once, on a new connection, which may lead to another server.
    """
    if not backend.is_transient(error):
        return False
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
