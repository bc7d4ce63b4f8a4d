"""One request's stores, and what it has to say at its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from iredapi.audit import Event
from iredapi.backends.policy_protocols import Greylists, SpamPolicies, Throttles, Wblists
from iredapi.backends.protocols import (
    Addresses,
    Admins,
    Aliases,
    Domains,
    Lists,
    Satellites,
    Users,
)
from iredapi.domain import domains, users
from iredapi.domain.actors import Actor


@dataclass(frozen=True, slots=True)
class Skipped:
    """A well-formed value that was left out, and why: an item of ``_skipped``."""

    param: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says, in the words of each noun's rules."""

    domains: domains.Rules
    users: users.Rules
    hidden_user_fields: frozenset[str] = frozenset({"password", "userPassword"})
    hidden_admin_fields: frozenset[str] = frozenset({"password", "userPassword"})
    max_keep_days: int = 365
    alias_anywhere: bool = False
    set_password_date: bool = True


@dataclass(slots=True)
class Unit:
    """All roles of one request. A write unit is committed by who opened it (``office``)."""

    actor: Actor
    rules: Rules
    domains: Domains
    users: Users
    admins: Admins
    aliases: Aliases
    lists: Lists
    addresses: Addresses
    satellites: Satellites
    throttles: Throttles
    greylists: Greylists
    spam_policies: SpamPolicies
    wblists: Wblists
    writing: bool = False
    """Whether the unit is to be committed; who writes holds what must not go away meanwhile."""
    events: list[Event] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def note(self, *events: Event) -> None:
        """Remember what the audit log is to say once the change is committed."""
        self.events.extend(events)

    def skip(self, param: str, value: str, reason: str) -> None:
        """Remember a value that was left out."""
        self.skipped.append(Skipped(param, value, reason))
