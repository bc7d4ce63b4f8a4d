"""Limits of how much mail is sent and received: the record and its rules.

Sizes are bytes, periods seconds. iRedAPD looks at each limit on its own: the first row by priority
with a value of 0 or more counts, where 0 is unlimited and -1 asks the next account. It counts per
user, also for the rows of a domain and of everybody: there is no budget that users share.
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
    """What arrives without a login; the account is the sender's."""


@dataclass(frozen=True, slots=True)
class Throttle:
    """One account's limits in one direction."""

    account: str
    direction: str
    priority: int = 0
    period: int = 0
    """A row whose period is 0 is skipped by the daemon."""
    msg_size: int = INHERIT
    max_msgs: int = INHERIT
    max_quota: int = INHERIT
    max_rcpts: int = INHERIT

    def limit(self, name: str) -> int:
        """Return one of ``LIMITS``."""
        return int(getattr(self, name))


def revise(scope: Scope, before: Throttle, changes: Mapping[str, Any]) -> Throttle:
    """Return the setting as it is to be.

    What is sent describes the whole setting, so that a limit which is absent is inherited; only
    ``max_rcpts``, which iRedMail's API does not know, stays as it is. Rows of other tools may have
    a priority of another scale, with which they lose against a domain's, and on MariaDB letters in
    upper case: both are corrected.
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
    """Return for each limit the row that decides it; None: nobody limits.

    ``rows`` are those of all accounts that the daemon asks for, by priority.
    """
    alive = [row for row in rows if row.period > 0]
    return {
        name: next((row for row in alive if row.limit(name) > INHERIT), None) for name in LIMITS
    }
