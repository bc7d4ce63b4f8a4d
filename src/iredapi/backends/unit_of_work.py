"""One request's stores, and what it has to say at its end."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.backends.protocols.accounts import (
    Addresses,
    AddressReader,
    Aliases,
    AliasReader,
    DomainReader,
    Domains,
    Ldif,
    RelatedData,
    RelatedDataReader,
    UserReader,
    Users,
)
from iredapi.backends.protocols.admins import AdminReader, Admins
from iredapi.backends.protocols.lists import ListReader, Lists, MailListReader, MailLists
from iredapi.backends.protocols.policies import (
    GreylistReader,
    Greylists,
    SpamPolicies,
    SpamPolicyReader,
    ThrottleReader,
    Throttles,
    WblistReader,
    Wblists,
)
from iredapi.backends.protocols.user_batches import UserBatches
from iredapi.domain import domains, users
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.features import Feature
from iredapi.errors import InvalidParameters, Problem

NO_EFFECT: Final = "NO_EFFECT"
"""The reason of a value that was stored, and that the mail server's daemon is known to ignore."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A well-formed value that was left out, and why: an item of ``_skipped``."""

    param: str
    value: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return it as answers show it."""
        return {"param": self.param, "value": self.value, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A value that was not stored as it was asked for, and why: an item of ``_adjusted``."""

    param: str
    asked: Any
    stored: Any
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as answers show it."""
        return {
            "param": self.param, "asked": self.asked, "stored": self.stored, "why": self.why,
        }  # fmt: skip


STRICT: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether what would be ignored or adjusted is an error in this request."""


def refuse_unless_exact(ignored: Iterable[str], adjusted: Iterable[Adjusted]) -> None:
    """Raise InvalidParameters that names what would be ignored or adjusted, if there is any."""
    code = "IGNORED_PARAMETER"
    problems = [Problem(name, code, "It has no effect here.") for name in ignored]
    problems += [
        Problem(item.param, "VALUE_ADJUSTED", f"{item.stored} instead of {item.asked}: {item.why}.")
        for item in adjusted
    ]
    if problems:
        raise InvalidParameters(*problems)


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
class AccessRevocations:
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
    exempt_admins: set[str] = field(default_factory=set)
    """Standalone admins with an address in one of those domains."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sessions or self.tokens or self.demoted or self.domains)


@dataclass(slots=True)
class ReadUnit:
    """What a request that only reads may use: no role here has a method that writes.

    Its connections refuse writes as well (``database.connection``, ``ldap.write_plan``).
    """

    actor: Actor
    rules: Rules
    domains: DomainReader
    users: UserReader
    admins: AdminReader
    aliases: AliasReader
    lists: ListReader
    addresses: AddressReader
    related_data: RelatedDataReader
    throttles: ThrottleReader
    greylists: GreylistReader
    spam_policies: SpamPolicyReader
    wblists: WblistReader
    maillists: MailListReader | None = None
    """None on a storage without the feature, as ``ldif``; routes refuse before anybody asks."""
    ldif: Ldif | None = None
    features: frozenset[Feature] = frozenset()
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, param: str, value: str, reason: str) -> None:
        """Remember a value that was left out."""
        self.skipped.append(Skipped(param, value, reason))


@dataclass(slots=True)
class UnitOfWork(ReadUnit):
    """All roles of a request that writes. It is committed by who opened it (``context``)."""

    domains: Domains
    users: Users
    admins: Admins
    aliases: Aliases
    lists: Lists
    addresses: Addresses
    related_data: RelatedData
    throttles: Throttles
    greylists: Greylists
    spam_policies: SpamPolicies
    wblists: Wblists
    maillists: MailLists | None = None
    user_batches: UserBatches | None = None
    """None on a storage that writes each user by itself."""
    affected_account: str = ""
    """The only account whose rights the change may touch; empty: it may touch anybody's."""
    events: list[Event] = field(default_factory=list)
    revocations: AccessRevocations = field(default_factory=AccessRevocations)
    changed: set[str] | None = None
    """Names of what is different now; None: the operation makes or ends something."""
    ignored: list[str] = field(default_factory=list)
    """Parameters that had no effect."""
    adjusted: list[Adjusted] = field(default_factory=list)

    def report_changed(self, names: Iterable[str]) -> bool:
        """Remember what is different now; tells whether it is anything."""
        found = set(names)
        self.changed = found if self.changed is None else self.changed | found
        return bool(found)

    def ignore(self, names: Iterable[str]) -> None:
        """Remember parameters that had no effect."""
        self.ignored.extend(names)

    def adjust(self, param: str, asked: Any, stored: Any, why: str) -> None:
        """Remember a value that is stored as another one, if it is."""
        if asked != stored:
            self.adjusted.append(Adjusted(param, asked, stored, why))

    def note(self, *events: Event) -> None:
        """Remember what the audit log is to say once the change is committed."""
        self.events.extend(events)
