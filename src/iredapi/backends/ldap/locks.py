"""Locks of domains, in the state database: slapd has no locks over several entries.

The lock of ``example.com`` protects the domain, addresses of its alias domains, its limits, and
every account ``…@example.com``, standalone admins too. The same lock reserves the name of a new
domain.

A unit waits for a lock only if it comes after all locks that it holds (sorted by name), so that
there is no deadlock. Otherwise it raises Contended: it releases all and is retried with all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from iredapi.backends.ldap.client import Directory
from iredapi.backends.ldap.write_plan import undo
from iredapi.backends.ldap.write_plan_journal import load
from iredapi.backends.protocols.values import RetryUnit
from iredapi.errors import Overloaded, ServerDown
from iredapi.state import Lease, LockLost, LockTimeout, State

GLOBALS = "*globals"
"""Name of the lock of the set of global admins: not a valid domain."""
MAILBOXES = "*mailboxes"
"""Name of the lock of directories that are given to accounts: two domains may want the same one."""
WAIT = 20.0
"""Seconds to wait for another write to the same domain."""
_PREFIX = "ldap "
_log = structlog.get_logger(__name__)


class Contended(RetryUnit):
    """Waiting for a lock could be a deadlock: run the unit again, with all locks at once."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(0.0)
        self.names = frozenset(names)


class UnitLocks:
    """The locks of one unit."""

    def __init__(self, state: State, directory: Directory) -> None:
        self._state = state
        self._directory = directory
        self._held: dict[str, Lease] = {}
        self._stack = AsyncExitStack()

    @property
    def names(self) -> frozenset[str]:
        """Names of the locks that the unit holds."""
        return frozenset(self._held)

    async def take(self, *names: str) -> None:
        """Take further locks. Raises Contended, or Overloaded if one is not free in time.

        Unfinished writes of dead processes under these locks are undone first.
        """
        wanted = sorted(set(names) - self._held.keys())
        if not wanted:
            return
        for name in wanted:
            in_order = not self._held or name > max(self._held)
            lock = self._state.locks.hold(_PREFIX + name, wait=WAIT if in_order else 0.0)
            try:
                self._held[name] = await self._stack.enter_async_context(lock)
            except LockTimeout:
                if in_order:
                    raise Overloaded(f"Another request is changing {name}: try again.") from None
                raise Contended({*self._held, *wanted}) from None
        # Who held the locks before may have written to another server.
        await self._directory.catch_up()
        await self._clean(wanted)

    async def _clean(self, names: Collection[str]) -> None:
        for record_id, held in await self._state.journal.open():
            if not held.isdisjoint(names):
                if not held <= self._held.keys():
                    raise Contended({*self._held, *held})
                await recover(self._state, self._directory, record_id)

    def check(self) -> None:
        """Raise ServerDown unless the unit still holds all its locks."""
        try:
            for lease in self._held.values():
                lease.check()
        except LockLost:
            raise ServerDown(
                detail="The state database could not be reached for too long."
            ) from None

    async def release(self) -> None:
        """Release all locks."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._held.clear()
        await stack.aclose()


@asynccontextmanager
async def quiet(state: State, names: Collection[str]) -> AsyncIterator[None]:
    """Lock domains against writes, without undoing unfinished ones. Raises LockTimeout."""
    async with AsyncExitStack() as stack:
        for name in sorted(names):
            await stack.enter_async_context(state.locks.hold(_PREFIX + name, wait=WAIT))
        yield


async def recover(state: State, directory: Directory, record_id: str) -> None:
    """Undo the unfinished write of a dead process; the caller holds the locks of the record."""
    record = await state.journal.read(record_id)
    if record is None:
        return
    await undo(directory, load(record.plan))
    await state.journal.erase(record_id)
    _log.warning("ldap_write_undone", domains=sorted(record.names))
