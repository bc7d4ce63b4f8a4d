"""Events that tell other systems what was changed: who, which account, which parameters; no values.

``docs/events.md`` describes them for clients.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from iredapi.domain.audit_events import Event, Kind, Subject

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


UNCONFIRMED: Final = "unconfirmed"
"""A member of a body: nobody knows whether the change was made. The account has to be read."""
_VERBS: Final = {Kind.CREATE: "created", Kind.DELETE: "deleted"}
_GLOBAL: Final = frozenset({Subject.ADMIN})
"""Subjects that only global admins are told about."""


def changes_of(
    events: Iterable[Event], fields: Collection[str] | None, actor: str, request_id: str
) -> list[ChangeEvent]:
    """Return what other systems are told of a write, without ids and times.

    ``fields`` are the names of what is different now; None: not known, or nothing was before.
    What a write has done to one account is one event.
    """
    found: dict[tuple[str, str], ChangeEvent] = {}
    for event in events:
        if event.subject is None:
            continue
        verb = "renamed" if event.new_account else _VERBS.get(event.kind, "updated")
        names = fields if event.fields is None else event.fields
        body: dict[str, Any] = {"actor": actor, "request_id": request_id}
        body["fields"] = sorted(names or ()) if verb == "updated" else []
        if event.new_account:
            body["new_account"] = event.new_account
        if event.topic:
            body["policy"] = event.topic
        kind = f"{event.subject}.{verb}"
        domain = "" if event.subject in _GLOBAL else event.domain
        one = ChangeEvent("", 0.0, kind, event.account, domain, body)
        found.setdefault((kind, event.account + event.topic), one)
    return list(found.values())


def unconfirmed(event: ChangeEvent) -> ChangeEvent:
    """Return an event of which nobody knows whether its change was made."""
    return replace(event, body={**event.body, UNCONFIRMED: True})


def utc_milliseconds(seconds: float) -> str:
    """Return seconds since the epoch as ``2026-11-30T19:20:00.123Z``."""
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
