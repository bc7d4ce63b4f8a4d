"""Throttles: limits of how much mail is sent and received in a period.

Sizes are in bytes, periods in seconds. iRedAPD decides each limit separately: the first row by
priority with a value of 0 or more applies, where 0 is unlimited and -1 means the next account. It
counts per user, also for the row of a domain or of all accounts: users do not share a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from iredapi.domain.scopes import Scope

INHERIT: Final = -1
MAX_PERIOD: Final = 2**32 - 1
MAX_LIMIT: Final = 2**63 - 1
LIMITS: Final = ("msg_size", "max_msgs", "max_quota", "max_rcpts")


class Direction(StrEnum):
    """Values of ``throttle.kind``."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    EXTERNAL = "external"
    """Mail that arrives without a login; the account is the sender's."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """One account's limits in one direction."""

    account: str
    direction: str
    priority: int = 0
    period: int = 0
    """iRedAPD ignores a row with a period of 0."""
    msg_size: int = INHERIT
    max_msgs: int = INHERIT
    max_quota: int = INHERIT
    max_rcpts: int = INHERIT

    def limit(self, name: str) -> int:
        """Return one of ``LIMITS``."""
        return int(getattr(self, name))


def revise(scope: Scope, before: Throttle, changes: Mapping[str, Any]) -> Throttle:
    """Return the changed throttle.

    The parameters describe the whole throttle: a limit that was not sent is inherited. Only
    ``max_rcpts``, which iRedMail's API does not have, keeps its value. Rows of other tools may have
    another scale of priorities, so that the domain's row has precedence, or (on MariaDB) upper-case
    letters: both are corrected.
    """
    limits = {name: changes.get(name, INHERIT) for name in LIMITS if name != "max_rcpts"}
    return replace(
        before,
        account=scope.account,
        priority=scope.iredapd_priority,
        period=changes["period"],
        max_rcpts=changes.get("max_rcpts", before.max_rcpts),
        **limits,
    )


def effective(rows: Sequence[Throttle]) -> dict[str, Throttle | None]:
    """Return the row that decides each limit; None: unlimited.

    ``rows`` are those of all accounts that iRedAPD looks up, by priority.
    """
    active = [row for row in rows if row.period > 0]
    return {
        name: next((row for row in active if row.limit(name) > INHERIT), None) for name in LIMITS
    }
