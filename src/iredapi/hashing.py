"""Hashing off the event loop: a few threads, and a bounded queue in front of them.

Only what takes microseconds is done at once.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from iredapi.domain import passwords
from iredapi.domain.passwords import DEFAULT_BCRYPT_COST, Scheme
from iredapi.errors import Overloaded

Result = TypeVar("Result")


_QUICK = ("{SSHA512}", "{SSHA}", "{SHA512}")
"""Schemes that take microseconds: handing them to a thread would take longer."""
NICENESS = 10
"""Hashing stands back behind everything else: a crowd at the login slows nobody down."""


def _stand_back() -> None:
    # On Linux each thread has a priority of its own; elsewhere this would be the whole process.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


class PasswordHasher:
    """Makes and verifies hashes, ``max_workers`` at a time.

    More than ``max_waiting`` waiting calls are refused with ``Overloaded``. A caller that goes
    away gives its place in the queue back at once; a hash that is being made is finished.
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
        self._scheme = scheme
        self._is_quick = scheme in {Scheme.SSHA512, Scheme.SSHA, Scheme.SHA512}
        self._bcrypt_cost = bcrypt_cost
        self._places = workers + max_waiting
        self._taken = 0
        self._closed = False
        self._lock = threading.Lock()  # places are also given back by the worker threads
        self._threads = ThreadPoolExecutor(
            workers, thread_name_prefix="passwords", initializer=_stand_back
        )

    async def hash(self, plain: str) -> str:
        """A new hash of the configured scheme; ``ValueError`` as ``passwords.hash_password``."""
        work = partial(passwords.hash_password, plain, self._scheme, bcrypt_cost=self._bcrypt_cost)
        return await self._run(work, quick=self._is_quick)

    async def verify(self, plain: str, stored: str) -> bool:
        """Whether the password belongs to the stored hash."""
        quick = all(item.startswith(_QUICK) for item in stored.split(passwords.SEVERAL))
        return await self._run(partial(passwords.verify_password, plain, stored), quick=quick)

    def outdated(self, stored: str) -> bool:
        """Whether a new hash of the configured scheme would be another one, and no weaker."""
        return passwords.outdated(stored, self._scheme, bcrypt_cost=self._bcrypt_cost)

    async def equalise(self, plain: str) -> bool:
        """Take the time of a wrong password, for an account that does not exist. False."""
        work = partial(passwords.equalise, plain, self._scheme, bcrypt_cost=self._bcrypt_cost)
        return await self._run(work, quick=self._is_quick)

    def close(self) -> None:
        """Refuse new calls, cancel the waiting ones; does not wait for the running ones."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result], *, quick: bool) -> Result:
        if quick and not self._closed:
            return work()
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        with self._lock:
            if self._closed or self._taken >= self._places:
                raise Overloaded
            future = self._threads.submit(work)
            self._taken += 1
        # Outside the lock: for a future that is done already this calls back at once.
        future.add_done_callback(self._give_back)
        return future

    def _give_back(self, _: Future[Result]) -> None:
        with self._lock:
            self._taken -= 1
