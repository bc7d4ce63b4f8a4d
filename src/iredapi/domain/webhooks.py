"""Webhooks: who gets which events, how requests are signed, and when they are sent again."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from iredapi.domain.actors import Actor
from iredapi.domain.change_events import ChangeEvent, utc_milliseconds

PREFIX: Final = "iredapi_wh_"
"""First characters of every secret, so that secret scanners find them."""
PING: Final = "ping"
"""The kind of the event that only tests a webhook."""
MAX_PER_OWNER: Final = 20
GONE: Final = 410
"""The answer of a receiver that wants nothing more."""
_FIRST_DELAY: Final = 1.0
_MAX_DELAY: Final = 3600.0
_MAX_DOUBLINGS: Final = 12


class Reason(StrEnum):
    """Why a webhook was disabled."""

    GAVE_UP = "GAVE_UP"
    """An event was not taken for as long as it is tried."""
    GONE = "GONE"
    """The receiver answered 410."""
    OWNER_GONE = "OWNER_GONE"
    """The owner was disabled or deleted, or is no admin any more."""
    OWNER_DEMOTED = "OWNER_DEMOTED"
    """The owner was a global admin."""
    DOMAINS_LOST = "DOMAINS_LOST"
    """The owner manages none of the webhook's domains any more."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A stored webhook. Times are seconds since the epoch."""

    id: str
    owner: str
    role: str
    """The owner's role at the creation: ``global`` or ``normal``."""
    account: str
    """Identifies the owner's account; a later account of that name differs (64 characters)."""
    label: str
    url: str = field(repr=False)
    kinds: frozenset[str]
    """Empty: all."""
    domains: frozenset[str] | None
    """None: all that the owner manages at the time of an event."""
    secret: str = field(repr=False)
    old_secret: str = field(repr=False)
    old_until: float
    """Until when requests are signed with ``old_secret``, too; 0: they are not."""
    created: float
    enabled: bool
    reason: str
    """Why it is disabled; empty: it is not."""
    changed: float
    """When it was enabled or disabled."""
    generation: int
    """Grows when an admin changes it: what the sender knows of it is old then."""
    position: int
    """Everything up to this position of the events is done."""
    progress: str = field(repr=False)
    """What the sender needs after a restart (JSON); empty: nothing."""
    attempts: int
    """Deliveries so far, with those that failed."""
    delivered: float | None
    """The last delivery that was taken."""
    failing: float | None
    """Since when nothing was taken; None: the last delivery was."""

    def wants(self, event: ChangeEvent) -> bool:
        """Tell whether the event is of a kind and domain that was asked for."""
        if self.kinds and event.kind not in self.kinds:
            return False
        return self.domains is None or event.domain in self.domains

    def is_known_to(self, actor: Actor) -> bool:
        """Tell whether an admin may see and change it.

        A token for some domains knows those that are for some of these domains.
        """
        if actor.is_global:
            return True
        if self.owner != actor.username:
            return False
        if not actor.limited:
            return True
        return self.domains is not None and self.domains <= actor.domains

    def to_response(self, end: int) -> dict[str, Any]:
        """Return it as answers show it; ``end`` is the position of the last event."""
        status = "disabled"
        if self.enabled:
            status = "active" if self.failing is None else "failing"
        return {
            "id": self.id,
            "owner": self.owner,
            "label": self.label,
            "url": self.url,
            "kinds": sorted(self.kinds),
            "domains": None if self.domains is None else sorted(self.domains),
            "status": status,
            "reason": self.reason or None,
            "waiting": max(end - self.position, 0),
            "attempts": self.attempts,
            "created": utc_milliseconds(self.created),
            "changed": utc_milliseconds(self.changed),
            "delivered": None if self.delivered is None else utc_milliseconds(self.delivered),
            "failing_since": None if self.failing is None else utc_milliseconds(self.failing),
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver an event."""

    event: str
    """The event's id."""
    kind: str
    time: float
    attempt: int
    """1 for the first one."""
    status: int | None
    """Of the answer; None: there is none."""
    reason: str
    """Why it was not taken; empty: it was."""
    milliseconds: int

    def to_response(self) -> dict[str, Any]:
        """Return it as answers show it."""
        return {
            "event": self.event,
            "kind": self.kind,
            "time": utc_milliseconds(self.time),
            "attempt": self.attempt,
            "status": self.status,
            "reason": self.reason or None,
            "ms": self.milliseconds,
        }


def new_secret() -> str:
    """Return a random secret."""
    return PREFIX + secrets.token_urlsafe(32)


def signature(keys: Iterable[str], stamp: int, body: bytes) -> str:
    """Return the value of the header ``Iredapi-Signature``: one ``v1`` for each key.

    It is the HMAC-SHA256 of ``<stamp>.<body>``; ``stamp`` is in seconds since the epoch.
    """
    signed = f"{stamp}.".encode() + body
    found = [hmac.new(key.encode(), signed, hashlib.sha256).hexdigest() for key in keys]
    return ",".join([f"t={stamp}", *(f"v1={value}" for value in found)])


def headers(webhook: Webhook, event_id: str, kind: str, now: float, body: bytes) -> dict[str, str]:
    """Return the headers of a request, without those that HTTP itself needs."""
    keys = [webhook.secret]
    if webhook.old_until > now:
        keys.append(webhook.old_secret)
    stamp = int(now)
    return {
        "Content-Type": "application/json",
        "Iredapi-Event": event_id,
        "Iredapi-Kind": kind,
        "Iredapi-Timestamp": str(stamp),
        "Iredapi-Signature": signature(keys, stamp, body),
    }


def delay(attempts: int) -> float:
    """Return the seconds before the next attempt: they double up to an hour, with jitter."""
    most = min(_FIRST_DELAY * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS), _MAX_DELAY)
    return most * random.uniform(0.5, 1)  # noqa: S311 (not a secret)


def ordered_by(event: ChangeEvent) -> Collection[str]:
    """Return the accounts among whose events this one keeps its place."""
    renamed = event.body.get("new_account")
    return (event.account, str(renamed)) if renamed else (event.account,)
