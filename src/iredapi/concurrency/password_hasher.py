"""Password hashing off the event loop: a few threads behind a bounded queue.

Hashes that take microseconds (SSHA512, SSHA) are made in the event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from iredapi.domain import password_costs, passwords
from iredapi.domain.passwords import DEFAULT_BCRYPT_COST, Scheme
from iredapi.errors import Overloaded
from iredapi.observability import spans
from iredapi.observability.query_counter import HASH_POOL, count_other
from iredapi.observability.signals import PoolUse

Result = TypeVar("Result")

_QUICK: Final = frozenset({Scheme.SSHA512, Scheme.SSHA, Scheme.SHA512})
"""Schemes of hashes that are made in microseconds: handing them to a thread would take longer."""
HEAVY_WAITING = 16
"""Calls that may wait for the thread of the heavy hashes."""
NICENESS = 10
"""Nice value of the hashing threads: many logins must not slow other requests down."""


def _lower_priority() -> None:
    # On Linux each thread has a priority of its own; elsewhere this would be the whole process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class PasswordHasher:
    """Makes and verifies hashes, ``max_workers`` at a time.

    More than ``max_waiting`` waiting calls are refused with ``Overloaded``. A caller that is
    cancelled leaves the queue at once; a hash that is being made is finished.

    Hashes that take much more time or memory than usual are verified one after the other, in a
    thread and a queue of their own, so that others do not wait for them. So hashing takes at most
    ``max_workers`` times 64 MiB, and 256 MiB, of memory.
    """

    def __init__(
        self,
        scheme: Scheme = Scheme.SSHA512,
        *,
        bcrypt_cost: int = DEFAULT_BCRYPT_COST,
        max_workers: int = 0,
        max_waiting: int = 200,
    ) -> None:
        workers = max_workers or min(4, os.cpu_count() or 1)
        self.scheme = scheme
        self._bcrypt_cost = bcrypt_cost
        self._usual = _Pool(workers, max_waiting)
        self._heavy = _Pool(1, HEAVY_WAITING)

    async def hash(self, plain: str, scheme: Scheme | None = None) -> str:
        """A new hash of ``scheme``, or of the configured one.

        Raises ``ValueError`` as ``passwords.hash_password``.
        """
        chosen = scheme or self.scheme
        work = partial(passwords.hash_password, plain, chosen, bcrypt_cost=self._bcrypt_cost)
        return await self._run(work, quick=chosen in _QUICK)

    async def verify(self, plain: str, stored: str) -> bool:
        """Whether the password belongs to the stored hash."""
        work = partial(passwords.verify_password, plain, stored)
        items = stored.split(passwords.HASH_SEPARATOR)
        if password_costs.are_too_costly(items):
            return False
        heavy = password_costs.are_heavy(items)
        # Handing what takes microseconds to a thread would take longer.
        return await self._run(work, quick=all(map(password_costs.is_quick, items)), heavy=heavy)

    def outdated(self, stored: str, scheme: Scheme | None = None) -> bool:
        """Whether a new hash of ``scheme``, or of the configured one, would differ, and be no
        weaker."""
        return passwords.outdated(stored, scheme or self.scheme, bcrypt_cost=self._bcrypt_cost)

    async def equalise(self, plain: str, others: Iterable[str]) -> None:
        """Take the time of verifying other hashes, and tell nothing of what comes out."""
        for stored in others:
            await self.verify(plain, stored)

    @property
    def use(self) -> PoolUse:
        """How the threads are used at this moment, without the one of the heavy hashes."""
        return self._usual.use

    def close(self) -> None:
        """Refuse new calls, cancel the waiting ones; does not wait for the running ones."""
        self._usual.close()
        self._heavy.close()

    async def _run(self, work: Callable[[], Result], *, quick: bool, heavy: bool = False) -> Result:
        if quick and not self._usual.closed:
            return work()
        pool = self._heavy if heavy else self._usual
        begun = time.perf_counter()
        try:
            if spans.tracer is not None:
                return await _traced(spans.tracer, pool, work)
            return await asyncio.wrap_future(pool.submit(work))
        finally:
            count_other(HASH_POOL, begun)


async def _traced(tracer: spans.Tracer, pool: _Pool, work: Callable[[], Result]) -> Result:
    """Run a call with a span, and one of the wait for a thread. Raises what it raises."""
    started = 0

    def noted() -> Result:
        nonlocal started
        started = time.time_ns()
        return work()

    with tracer.span("hash a password"):
        queued = time.time_ns()
        try:
            return await asyncio.wrap_future(pool.submit(noted))
        finally:
            tracer.began("wait for a hashing thread", queued, started or time.time_ns())


class _Pool:
    """Threads with a bounded queue in front of them."""

    def __init__(self, workers: int, max_waiting: int) -> None:
        self._workers = workers
        self._places = workers + max_waiting
        self._taken = 0
        self.closed = False
        self._lock = threading.Lock()  # places are also given back by the worker threads
        self._threads = ThreadPoolExecutor(
            workers, thread_name_prefix="passwords", initializer=_lower_priority
        )

    @property
    def use(self) -> PoolUse:
        """How many calls are running and waiting."""
        running = min(self._taken, self._workers)
        return PoolUse(self._workers, running, self._taken - running)

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Queue a call. Raises Overloaded."""
        with self._lock:
            if self.closed or self._taken >= self._places:
                raise Overloaded
            future = self._threads.submit(work)
            self._taken += 1
        # Outside the lock: for a future that is done already this calls back at once.
        future.add_done_callback(self._give_back)
        return future

    def close(self) -> None:
        """Refuse new calls, and cancel those that wait."""
        with self._lock:
            self.closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _give_back(self, _: Future[Result]) -> None:
        with self._lock:
            self._taken -= 1
