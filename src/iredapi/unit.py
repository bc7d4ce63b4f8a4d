"""One request's stores, and what it has to say at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from iredapi.audit import Event
from iredapi.backends.policy_protocols import Greylists, SpamPolicies, Throttles, Wblists
from iredapi.backends.protocols import (
    Addresses,
    Admins,
    Aliases,
    Domains,
    Ldif,
    Lists,
    MailLists,
    Satellites,
    Users,
)
from iredapi.domain import domains, users
from iredapi.domain.actors import Actor
from iredapi.domain.features import Feature

NO_EFFECT: Final = "NO_EFFECT"
"""The reason of a value that was stored, and that the mail server's daemon is known to ignore."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A well-formed value that was left out, and why: an item of ``_skipped``."""

    param: str
    value: str
    reason: str

    def told(self) -> dict[str, str]:
        """Return it as answers show it."""
        return {"param": self.param, "value": self.value, "reason": self.reason}


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
class Endings:
    """Whose sessions and tokens end with a change: told the state database after the commit.

    A crash in between lets nobody in: every request reads the account again.
    """

    sessions: set[str] = field(default_factory=set)
    """Admins who keep their account, but must log in again."""
    tokens: set[str] = field(default_factory=set)
    """Admins with a new password: their tokens end, unless a setting says otherwise."""
    demoted: set[str] = field(default_factory=set)
    """Admins with fewer rights: their tokens end, too."""
    domains: set[str] = field(default_factory=set)
    """Domains that are gone, with all accounts in them."""
    spared: set[str] = field(default_factory=set)
    """Standalone admins with an address in one of those domains."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sessions or self.tokens or self.demoted or self.domains)


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
    maillists: MailLists | None = None
    """None on a storage without the feature, as ``ldif``; routes refuse before anybody asks."""
    ldif: Ldif | None = None
    features: frozenset[Feature] = frozenset()
    writing: bool = False
    """Whether the unit is to be committed; who writes holds what must not go away meanwhile."""
    concerns: str = ""
    """The only account whose rights the change may touch; empty: it may touch anybody's."""
    events: list[Event] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    endings: Endings = field(default_factory=Endings)

    def note(self, *events: Event) -> None:
        """Remember what the audit log is to say once the change is committed."""
        self.events.extend(events)

    def skip(self, param: str, value: str, reason: str) -> None:
        """Remember a value that was left out."""
        self.skipped.append(Skipped(param, value, reason))
