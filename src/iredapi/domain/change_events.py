"""Events that tell other systems what was changed: who, which account, which parameters; no values.

``docs/events.md`` describes them for clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

KINDS: Final = (
    "domain.created", "domain.updated", "domain.deleted",
    "admin.created", "admin.updated", "admin.deleted",
    "user.created", "user.updated", "user.deleted", "user.renamed",
    "users.updated",
    "alias.created", "alias.updated", "alias.deleted", "alias.renamed",
    "list.created", "list.updated", "list.deleted",
    "maillist.created", "maillist.updated", "maillist.deleted",
    "policy.updated", "policy.deleted",
)  # fmt: skip
"""What may have happened. ``users.updated``: all users of a domain."""


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """A change of one account, domain or policy. ``time`` is seconds since the epoch."""

    id: str
    """32 hexadecimal digits."""
    time: float
    kind: str
    account: str
    """An address; of an event of a domain its name; of a policy what it is for."""
    domain: str
    """Empty: of no domain, so only global admins are told."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """``actor``, ``request_id``, ``fields`` …: what else the event says, as JSON."""

    def to_response(self) -> dict[str, Any]:
        """Return the event as clients get it."""
        return {
            "id": self.id,
            "time": utc_milliseconds(self.time),
            "kind": self.kind,
            "account": self.account,
            "domain": self.domain,
            **self.body,
        }


@dataclass(frozen=True, slots=True)
class PublishedEvent(ChangeEvent):
    """An event that others may read. ``position`` grows; only a repeat has an earlier one's id."""

    position: int = 0


def utc_milliseconds(seconds: float) -> str:
    """Return seconds since the epoch as ``2026-11-30T19:20:00.123Z``."""
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
