"""The abstract asynchronous backend: where accounts are kept, with the SQL databases beside it."""

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
    """What one request reads. Its connections refuse to write."""

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        """Return the reading part of all roles."""

    async def close(self) -> None:
        """Give everything back. May be called twice."""


class Transaction(Protocol):
    """One unit of work: everything of it is committed, or nothing."""

    async def unit(self, actor: Actor, rules: Rules) -> UnitOfWork:
        """Return all roles for one request."""

    async def commit(self) -> None:
        """Commit the related databases first, the accounts last: a request can then be repeated."""

    async def close(self) -> None:
        """Undo what was not committed, and give everything back. May be called twice."""


class Backend(Protocol):
    """An account storage of a configuration, ``sql`` or ``ldap``; ``factory`` makes it."""

    features: frozenset[Feature]
    """What it can do that not every storage can."""
    errors: tuple[type[Exception], ...]
    """What its drivers raise: for ``is_transient`` and ``translated``."""

    @property
    def user_batching(self) -> UserBatching | None:
        """What it can do for many users at once; None: nothing, and no unit has the role."""

    async def start(self) -> None:
        """Look whether it can be used. Raises ConfigurationError, or ServerDown."""

    async def begin_read(self) -> ReadTransaction:
        """Begin a unit that only reads."""

    async def begin(self, *, again: RetryUnit | None = None) -> Transaction:
        """Begin a unit of work; ``again`` is why the one before could not go on."""

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the same unit may well succeed when it is run again."""

    def translated(self, error: Exception) -> Exception:
        """Return our error for a driver's; one that nobody foresaw comes back as it is."""

    def probes(self) -> Mapping[str, Probe]:
        """Return how to ask the servers that this storage opened, by name."""

    async def close(self) -> None:
        """Close what this storage opened; the databases have an owner of their own."""
