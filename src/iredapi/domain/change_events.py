"""Events that tell other systems what was changed: who, which account, which parameters; no values.

``docs/events.md`` describes them for clients.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from iredapi.domain.actors import Actor
from iredapi.domain.addresses import fold
from iredapi.domain.audit_events import Event, Kind, Subject
from iredapi.domain.canonical import without
from iredapi.domain.revisions import SECRET

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

    @property
    def names(self) -> tuple[str, ...]:
        """The addresses whose other events come before or after this one: a rename has two."""
        renamed = str(self.body.get("new_account", ""))
        return (self.account, renamed) if renamed else (self.account,)

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


LATEST: Final = "latest"
"""Stands for the end of all events."""
_NOTHING: Final = "0" * 32
_CURSOR: Final = re.compile(r"(?:([0-9]{1,18})-)?([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where a client has read: the position and the id of an event.

    ``position`` None: the client has sent the id of an event.
    """

    position: int | None = 0
    id: str = _NOTHING

    @classmethod
    def of(cls, text: str) -> Cursor | None:
        """Return what a text stands for; None: it is malformed."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            return None
        return cls(None if found[1] is None else int(found[1]), found[2])

    def __str__(self) -> str:
        """Return the cursor as clients get it."""
        return f"{self.position}-{self.id}"


@dataclass(frozen=True, slots=True)
class Visible:
    """The events that an admin may see, or wants to."""

    actor: Actor
    domains: frozenset[str] | None = None
    """None: of every domain, and of none."""
    since: Mapping[str, float] = field(default_factory=dict)
    """Domain → when it was created. An earlier domain of that name may have been somebody else's.
    """
    kinds: Collection[str] = ()
    """Empty: of all kinds."""
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Subject → names of fields that answers must not tell."""

    def wants(self, event: ChangeEvent) -> bool:
        """Tell whether an event is of a domain and kind that was chosen."""
        if self.kinds and event.kind not in self.kinds:
            return False
        return self.domains is None or event.domain in self.domains

    def shows(self, event: PublishedEvent, deleted: Mapping[str, int]) -> bool:
        """Tell whether an event of ``domains`` is visible.

        ``deleted``: domain → position of the event that says that it was deleted.
        """
        if self.domains is None or self.actor.is_global:
            return True
        if event.position <= deleted.get(event.domain, 0):
            return False
        return event.time >= self.since.get(event.domain, 0.0) - _CLOCKS

    def to_response(self, event: PublishedEvent) -> dict[str, Any]:
        """Return a visible event as the admin gets it."""
        told = event.to_response()
        if not self.actor.may_see_admin(str(told.get("actor", ""))):
            told["actor"] = ""
        if hidden := self.hidden.get(event.kind.partition(".")[0]):
            told["fields"] = [
                name for name in told["fields"] if name in SECRET or without({name: 0}, hidden)
            ]
        return told


_CLOCKS: Final = 2.0
"""Seconds by which the clock of a server that says when a domain was created may be ahead."""
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
    What a write has done to one account is one event. Names are in lower case, however they are
    stored: events of one account have one name, and admins find those of their domains.
    """
    found: dict[tuple[str, str], ChangeEvent] = {}
    for event in events:
        if event.subject is None:
            continue
        verb = "renamed" if event.new_account else _VERBS.get(event.kind, "updated")
        verb = "deleted" if event.gone else verb
        names = fields if event.fields is None else event.fields
        body: dict[str, Any] = {"actor": actor, "request_id": request_id}
        body["fields"] = sorted(names or ()) if verb == "updated" else []
        if event.new_account:
            body["new_account"] = event.new_account
        if event.topic:
            body["policy"] = event.topic
        kind, account = f"{event.subject}.{verb}", fold(event.account)
        domain = "" if event.subject in _GLOBAL else fold(event.domain)
        one = ChangeEvent("", 0.0, kind, account, domain, body)
        found.setdefault((kind, account + event.topic), one)
    return list(found.values())


def unconfirmed(event: ChangeEvent) -> ChangeEvent:
    """Return an event of which nobody knows whether its change was made."""
    return replace(event, body={**event.body, UNCONFIRMED: True})


def utc_milliseconds(seconds: float) -> str:
    """Return seconds since the epoch as ``2026-11-30T19:20:00.123Z``."""
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
