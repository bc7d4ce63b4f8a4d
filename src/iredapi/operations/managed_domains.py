"""Domains that a token or webhook is limited to: the caller must manage each."""

from __future__ import annotations

from collections.abc import Collection

from iredapi.backends.unit_of_work import ReadUnit
from iredapi.errors import problem


async def check(unit: ReadUnit, names: Collection[str]) -> None:
    """Raise InvalidParameters unless the actor manages all, and all exist."""
    if any(not unit.actor.manages(name) for name in names):
        refused = problem("domains", "PERMISSION_DENIED", "That is more than you have.")
        refused.status = 403
        raise refused
    for name in sorted(names):
        if await unit.domains.get(name) is None:
            raise problem("domains", "INVALID_DOMAIN_NAME", f"{name} is no mail domain.")
