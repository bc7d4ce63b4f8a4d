"""The unit of work of one request: its roles, and what it reports when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    UserReader,
    Users,
)
from iredapi.backends.protocols.admins import AdminReader, Admins
from iredapi.backends.protocols.deleted_mailboxes import (
    DeletedMailboxes,
    DeletedMailboxReader,
)
from iredapi.backends.protocols.lists import ListReader, Lists, MailListReader, MailLists
from iredapi.backends.protocols.log import LogReader
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
from iredapi.backends.protocols.related_data import RelatedData, RelatedDataReader
from iredapi.backends.protocols.usage import UsageReader
from iredapi.backends.protocols.user_batches import UserBatches
from iredapi.domain import domains, users
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event
from iredapi.domain.features import Feature
from iredapi.domain.revisions import About, Revision
from iredapi.errors import InvalidParameters, Problem

NO_EFFECT: Final = "NO_EFFECT"
"""Reason of a value that was stored although the mail server's daemon ignores it."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A valid value that was not used, and why: an item of ``_skipped`` in the answer."""

    param: str
    value: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return the item of the answer."""
        return {"param": self.param, "value": self.value, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A value that was stored differently from the request, and why: an item of ``_adjusted``."""

    param: str
    asked: Any
    stored: Any
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return the item of the answer."""
        return {
            "param": self.param, "asked": self.asked, "stored": self.stored, "why": self.why,
        }  # fmt: skip


STRICT: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether ignored parameters and adjusted values are errors in this request."""


def refuse_unless_exact(ignored: Iterable[str], adjusted: Iterable[Adjusted]) -> None:
    """Raise InvalidParameters if there are ignored parameters or adjusted values."""
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
    """Settings that the rules of domains, users and admins need."""

    domains: domains.Rules
    users: users.Rules
    hidden_user_fields: frozenset[str] = frozenset({"password", "userPassword"})
    hidden_admin_fields: frozenset[str] = frozenset({"password", "userPassword"})
    max_keep_days: int = 365
    alias_anywhere: bool = False
    set_password_date: bool = True


@dataclass(slots=True)
class AccessRevocations:
    """Sessions and tokens that end with a change; the state database is updated after the commit.

    A crash in between is harmless, because every request reads the account again.
    """

    sessions: set[str] = field(default_factory=set)
    """Admins who must log in again."""
    tokens: set[str] = field(default_factory=set)
    """Admins with a new password: their tokens end, unless a setting says otherwise."""
    demoted: set[str] = field(default_factory=set)
    """Admins who lost rights: their tokens end as well."""
    domains: set[str] = field(default_factory=set)
    """Domains that were removed with all their accounts."""
    exempt_admins: set[str] = field(default_factory=set)
    """Standalone admins with an address in one of those domains."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sessions or self.tokens or self.demoted or self.domains)


@dataclass(slots=True)
class ReadUnit:
    """The roles of a request that only reads: no role here has a method that writes.

    Its connections refuse writes as well (``database.connection``, ``backends.ldap.write_plan``).
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
    deleted_mailboxes: DeletedMailboxReader
    usage: UsageReader
    log: LogReader
    maillists: MailListReader | None = None
    """None on a storage without the feature, as ``ldif``; routes refuse such requests."""
    ldif: Ldif | None = None
    features: frozenset[Feature] = frozenset()
    skipped: list[Skipped] = field(default_factory=list)
    state: bytes = b""
    """What the entity tag of the last profile that was read is made of."""

    def skip(self, param: str, value: str, reason: str) -> None:
        """Report a value that was not used."""
        self.skipped.append(Skipped(param, value, reason))


@dataclass(slots=True)
class UnitOfWork(ReadUnit):
    """All roles of a request that writes; ``runtime.transactions`` commits it."""

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
    deleted_mailboxes: DeletedMailboxes
    maillists: MailLists | None = None
    user_batches: UserBatches | None = None
    """None on a storage without this role."""
    affected_account: str = ""
    """Account whose cached permissions must be invalidated; empty: invalidate all."""
    events: list[Event] = field(default_factory=list)
    unlogged_events: list[Event] = field(default_factory=list)
    """Changes beside those of ``events``, for other systems only."""
    revocations: AccessRevocations = field(default_factory=AccessRevocations)
    changed: set[str] | None = None
    """Names of changed fields; None: the operation creates or removes something."""
    ignored: list[str] = field(default_factory=list)
    """Parameters without an effect."""
    adjusted: list[Adjusted] = field(default_factory=list)
    revision: Revision | None = None
    """What was changed, for the details of the last event."""

    def report_changed(
        self, names: Iterable[str], of: Callable[..., Revision] | None = None, *records: Any
    ) -> bool:
        """Report changed fields; returns whether there are any.

        ``of`` is one of ``domain.revisions``, which is called with the names and ``records``.
        """
        found = set(names)
        self.changed = found if self.changed is None else self.changed | found
        if found:
            if of is None:
                self.revision = Revision(About.POLICY, list(found))
            else:
                self.revision = of(list(found), *records)
        return bool(found)

    def ignore(self, names: Iterable[str]) -> None:
        """Report parameters without an effect."""
        self.ignored.extend(names)

    def adjust(self, param: str, asked: Any, stored: Any, why: str) -> None:
        """Report a value if it is stored differently from the request."""
        if asked != stored:
            self.adjusted.append(Adjusted(param, asked, stored, why))

    def note(self, *events: Event) -> None:
        """Record audit events, which are written after the commit."""
        self.events.extend(events)

    def announce(self, *events: Event) -> None:
        """Record further changes that other systems are told, but not the log."""
        self.unlogged_events.extend(events)
