"""The abstract asynchronous backend: an account storage and its transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from iredapi.backends.protocols.user_batches import UserBatching
from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.unit_of_work import ReadUnit, Rules, UnitOfWork
from iredapi.domain.actors import Actor
from iredapi.domain.features import Feature
from iredapi.observability.health_checks import Probe


class ReadTransaction(Protocol):
    """A unit of a request that only reads. Its connections refuse to write."""

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        """Return the readers of all roles."""

    async def close(self) -> None:
        """Release all connections. May be called twice."""


class Transaction(Protocol):
    """One unit of work: all of it is committed, or nothing."""

    async def unit(self, actor: Actor, rules: Rules) -> UnitOfWork:
        """Return all roles for one request."""

    async def rehearse(self) -> None:
        """Check what a commit would check before it writes anything."""

    async def commit(self) -> None:
        """Commit the related databases first, the accounts last: then a request can be repeated."""

    @property
    def partly_committed(self) -> bool:
        """Whether ``commit`` has committed a related database, but perhaps not the accounts."""

    def is_undone(self, error: Exception) -> bool:
        """Return whether ``commit``, which raised this error, may be tried with a new unit.

        Then nothing was committed for certain, but in related databases, where it can be repeated.
        """

    async def close(self) -> None:
        """Roll back what was not committed, and release all connections. May be called twice."""


class Backend(Protocol):
    """An account storage of a configuration, ``sql`` or ``ldap``; ``factory`` makes it."""

    features: frozenset[Feature]
    """Optional features that this storage supports."""
    errors: tuple[type[Exception], ...]
    """Exceptions of its drivers, the arguments of ``is_transient`` and ``translated``."""

    sees_own_writes: bool
    """Whether a unit reads what it has written before it is committed."""

    created_together: frozenset[str]
    """Fields of new users that one unit can create together (``UserBatches.add_users``)."""

    most_created_together: int
    """How many users at most, so that nobody waits too long for the unit's locks."""

    @property
    def user_batching(self) -> UserBatching | None:
        """What ``UserBatches`` can do for simultaneous requests; None: each has its own unit."""

    async def start(self) -> None:
        """Check that it can be used. Raises ConfigurationError, or ServerDown."""

    async def begin_read(self) -> ReadTransaction:
        """Begin a unit that only reads."""

    async def begin(self, *, retry_reason: RetryUnit | None = None) -> Transaction:
        """Begin a unit of work; ``retry_reason`` is why the previous attempt failed."""

    def is_transient(self, error: Exception) -> bool:
        """Return whether the same unit may succeed when it is run again."""

    def translated(self, error: Exception) -> Exception:
        """Return our error for a driver's; an unknown one is returned unchanged."""

    def probes(self) -> Mapping[str, Probe]:
        """Return health checks of the servers that this storage uses, by name."""

    async def close(self) -> None:
        """Close what this storage opened; the SQL databases are closed by their owner."""
