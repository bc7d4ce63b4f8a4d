"""Entries of the panel's log, as they are read, and what is kept beside them (docs/adr/0017)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from iredapi.domain import canonical
from iredapi.domain.actors import Actor
from iredapi.domain.revisions import SECRET, About

EVENTS: Final = (
    "login", "user_login", "active", "disable", "create", "delete", "update", "grant", "revoke",
    "backup", "delete_mailboxes", "update_wblist", "iredapd", "unban",
)  # fmt: skip
"""What iRedAdmin and this service write into the column ``event``."""
_OPEN: Final = frozenset({About.USER, About.DOMAIN, About.ALIAS, About.LIST})
"""Records whose profiles every admin of their domain may read."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A row of the panel's log; ``timestamp`` None: it is no date."""

    id: int
    timestamp: datetime | None
    admin: str
    ip: str
    domain: str
    account: str
    event: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Details:
    """What is kept beside an entry of this service."""

    digest: str
    """Of the entry that it belongs to."""
    request_id: str
    about: str
    changes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which entries to read; empty fields choose all."""

    domains: Collection[str] | None = None
    """None: of every domain, and of none."""
    own: bool = False
    """Only those since the creation of their domain."""
    admin: str = ""
    account: str = ""
    events: Collection[str] = ()
    ips: Collection[str] = ()
    """Spellings of one address."""
    known_to: Actor | None = None
    """Only entries of admins whom this normal admin may see; None: of all admins."""
    since: datetime | None = None
    until: datetime | None = None
    search: str = ""


def digest(admin: str, ip: str, domain: str, account: str, event: str, message: str) -> str:
    """Return what tells an entry from a later one with the same id."""
    text = f"{admin}\0{ip}\0{domain}\0{account}\0{event}\0{message}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def to_response(
    entry: LogEntry, details: Details | None, actor: Actor, hidden: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """Return the item of an answer; ``hidden`` are the hidden fields of kinds of records."""
    named = actor.may_see_admin(entry.admin)
    if details is not None and details.digest != digest(
        entry.admin, entry.ip, entry.domain, entry.account, entry.event, entry.message
    ):
        details = None
    time = entry.timestamp
    return {
        "id": entry.id,
        "timestamp": "" if time is None else time.isoformat(" ", "seconds"),
        "admin": entry.admin if named else "",
        "ip": entry.ip if named else "",
        "domain": entry.domain,
        "account": entry.account,
        "event": entry.event,
        "level": entry.level,
        "message": entry.message,
        "request_id": (details.request_id or None) if details else None,
        "changes": [] if details is None else _visible(details, actor, hidden),
    }


def _visible(
    details: Details, actor: Actor, hidden: Mapping[str, Collection[str]]
) -> list[Mapping[str, Any]]:
    """Return the changes that an admin may see; fields that profiles hide are left out."""
    if not (actor.is_global or details.about in _OPEN):
        return []
    left_out = hidden.get(details.about, ())
    return [
        item
        for item in details.changes
        # That a password was changed is no secret.
        if item["param"] in SECRET or canonical.without({item["param"]: None}, left_out)
    ]
