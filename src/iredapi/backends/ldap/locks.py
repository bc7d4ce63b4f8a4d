"""What slapd cannot guard is guarded here: one lock per domain part of an address.

The lock of ``example.com`` guards the domain, its alias domains' addresses, its limits, and every
account ``…@example.com``, standalone admins too. A name that is no domain yet is reserved by the
same lock. Locks are taken in any order: who would have to wait for one out of order gives back all
and begins again with all of them, in order, so nobody waits in a circle.
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
"""The lock of the list of global admins: no domain has such a name."""
WAIT = 20.0
"""Seconds to wait for somebody else's write to the same domain."""
_PREFIX = "ldap "
_log = structlog.get_logger(__name__)


class Contended(RetryUnit):
    """A lock is held by somebody who may wait for ours: begin again with all of them."""

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
        """What is held."""
        return frozenset(self._held)

    async def take(self, *names: str) -> None:
        """Hold these too. Raises Contended, or Overloaded when a lock is not free in time.

        What a writer that is gone had begun under one of them is taken back first.
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
                    raise Overloaded(f"Others are changing {name}: try again.") from None
                raise Contended({*self._held, *wanted}) from None
        await self._clean(wanted)

    async def _clean(self, names: Collection[str]) -> None:
        for record_id, held in await self._state.journal.open():
            if not held.isdisjoint(names):
                if not held <= self._held.keys():
                    raise Contended({*self._held, *held})
                await recover(self._state, self._directory, record_id)

    def check(self) -> None:
        """Raise ServerDown unless all locks are still ours."""
        try:
            for lease in self._held.values():
                lease.check()
        except LockLost:
            raise ServerDown(detail="The state database was away for too long.") from None

    async def release(self) -> None:
        """Give all of them back."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._held.clear()
        await stack.aclose()


@asynccontextmanager
async def quiet(state: State, names: Collection[str]) -> AsyncIterator[None]:
    """Let nobody write to domains meanwhile; nothing is taken back. Raises LockTimeout."""
    async with AsyncExitStack() as stack:
        for name in sorted(names):
            await stack.enter_async_context(state.locks.hold(_PREFIX + name, wait=WAIT))
        yield


async def recover(state: State, directory: Directory, record_id: str) -> None:
    """Take back what a writer that is gone had begun; the locks of the record must be held."""
    record = await state.journal.read(record_id)
    if record is None:
        return
    await undo(directory, load(record.plan))
    await state.journal.erase(record_id)
    _log.warning("ldap_write_taken_back", domains=sorted(record.names))
