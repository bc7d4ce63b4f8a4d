"""The slowest password hashes of admins, which set the time that a failed login takes."""

from __future__ import annotations

from typing import Final

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.concurrency.ttl_cache import TTLCache
from iredapi.domain import password_costs
from iredapi.domain.actors import SYSTEM
from iredapi.domain.passwords import HASH_SEPARATOR
from iredapi.runtime.transactions import Transactions

_SECONDS: Final = 120.0
"""TTL of the cached hashes."""


class SlowHashes:
    """Caches one hash of each slow scheme and cost that admins have."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._cache = TTLCache[tuple[str, ...]](_SECONDS)

    async def get(self, stored: str) -> tuple[str, ...]:
        """Return the hashes whose verification every failed login of an admin must take time for.

        ``stored`` is the hash of the account that logs in. When its scheme or cost is new, the
        hashes are read again. Raises ApiError.
        """
        found = await self._cache.get_or_load("", self._read) or ()
        if password_costs.rest(password_costs.in_use([stored.split(HASH_SEPARATOR)]), found):
            self._cache.invalidate()
            found = await self._cache.get_or_load("", self._read) or ()
        return found

    def invalidate(self) -> None:
        """Read the hashes again at the next login."""
        self._cache.invalidate()

    async def drain(self) -> None:
        """Wait for a read that is in progress."""
        await self._cache.drain()

    async def _read(self) -> tuple[str, ...]:
        hashes = await self._transactions.read(SYSTEM, _read_slow_hashes)
        return password_costs.in_use(item.split(HASH_SEPARATOR) for item in hashes)


async def _read_slow_hashes(unit: ReadUnit) -> list[str]:
    return await unit.admins.slow_hashes()
