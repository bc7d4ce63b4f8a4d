"""What domains and mail users use: sizes, numbers of accounts, last logins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from iredapi.domain.addresses import fold
from iredapi.domain.moments import utc_text


@dataclass(frozen=True, slots=True)
class UserUsage:
    """What a mail user uses. Times are seconds since 1970; 0: never."""

    mail: str
    domain: str
    active: bool
    """Whether the user and its domain are active: only then mail is received and sent."""
    quota: int
    """MB; 0 is unlimited."""
    stored_bytes: int = 0
    stored_messages: int = 0
    imap: int = 0
    pop3: int = 0
    lda: int = 0
    suspended: bool = False
    """Whether the user is suspended, itself or with its domain."""


def added(one: int, other: int) -> int:
    """Return a sum that an answer can have: at most 2^63 - 1. Others store what they like."""
    return min(one + other, 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Sums:
    """What the accounts of a domain use together."""

    users: int = 0
    aliases: int = 0
    lists: int = 0
    allocated_quota: int = 0
    """MB."""
    stored_bytes: int = 0
    stored_messages: int = 0
    last_login: int = 0
    """The latest of IMAP and POP3 of any user, seconds since 1970; 0: never."""

    def plus(self, other: Sums) -> Sums:
        """Return both together."""
        return Sums(
            self.users + other.users,
            self.aliases + other.aliases,
            self.lists + other.lists,
            added(self.allocated_quota, other.allocated_quota),
            added(self.stored_bytes, other.stored_bytes),
            added(self.stored_messages, other.stored_messages),
            max(self.last_login, other.last_login),
        )


@dataclass(frozen=True, slots=True)
class DomainUsage:
    """What a domain and its accounts use; limits are 0 for unlimited, -1 for none."""

    stored: str
    """The name as it is stored; answers have it folded."""
    active: bool
    suspended: bool
    quota: int
    """The limit of ``allocated_quota``; both in MB."""
    max_users: int
    max_aliases: int
    max_lists: int
    sums: Sums = field(default_factory=Sums)

    @property
    def domain(self) -> str:
        """The folded name."""
        return fold(self.stored)


def _status(*, active: bool, suspended: bool) -> str:
    if not active:
        return "disabled"
    return "suspended" if suspended else "active"


def of_user(found: UserUsage, hidden: Collection[str] = ()) -> dict[str, Any]:
    """Return a user's usage for an answer, without hidden fields."""
    shown = {
        "mail": found.mail,
        "domain": found.domain,
        "status": _status(active=found.active, suspended=found.suspended),
        "quota": found.quota,
        "stored_bytes": found.stored_bytes,
        "stored_messages": found.stored_messages,
        "last_login": utc_text(max(found.imap, found.pop3)),
        "last_login_imap": utc_text(found.imap),
        "last_login_pop3": utc_text(found.pop3),
        "last_delivery": utc_text(found.lda),
    }
    return _visible(shown, _HIDDEN_WITH, hidden)


def of_domain(found: DomainUsage, hidden: Collection[str] = ()) -> dict[str, Any]:
    """Return a domain's usage for an answer, without hidden fields of its users."""
    sums = found.sums
    shown = {
        "domain": found.domain,
        "status": _status(active=found.active, suspended=found.suspended),
        "quota": found.quota,
        "allocated_quota": sums.allocated_quota,
        "stored_bytes": sums.stored_bytes,
        "stored_messages": sums.stored_messages,
        "numberOfUsers": found.max_users,
        "num_existing_users": sums.users,
        "numberOfAliases": found.max_aliases,
        "num_existing_aliases": sums.aliases,
        "numberOfLists": found.max_lists,
        "num_existing_maillists": sums.lists,
        "last_login": utc_text(sums.last_login),
    }
    return _visible(shown, _HIDDEN_WITH_OF_DOMAIN, hidden)


def columns(*, of_users: bool, hidden: Collection[str]) -> list[str]:
    """Return the names of the columns of a table, in their order."""
    if of_users:
        return [*of_user(UserUsage("", "", active=True, quota=0), hidden)]
    return [*of_domain(DomainUsage("", True, False, 0, 0, 0, 0), hidden)]


_HIDDEN_WITH: Final[Mapping[str, frozenset[str]]] = {
    "status": frozenset({"accountstatus"}),
    "quota": frozenset({"quota"}),
    "stored_bytes": frozenset({"stored_bytes"}),
    "stored_messages": frozenset({"stored_messages"}),
    "last_login": frozenset({"last_login"}),
    # The later one of the two is ``last_login``.
    "last_login_imap": frozenset({"last_login_imap", "last_login", "last_login_by_service"}),
    "last_login_pop3": frozenset({"last_login_pop3", "last_login", "last_login_by_service"}),
    "last_delivery": frozenset({"last_delivery", "last_login_by_service"}),
}
"""Hidden fields of profiles with which a column is hidden, too."""
_HIDDEN_WITH_OF_DOMAIN: Final = {"last_login": _HIDDEN_WITH["last_login"]}
"""Sizes and numbers are those of the domain's own profile."""


def _visible(
    shown: dict[str, Any], hidden_with: Mapping[str, frozenset[str]], hidden: Collection[str]
) -> dict[str, Any]:
    for name, fields in hidden_with.items():
        if not fields.isdisjoint(hidden):
            del shown[name]
    return shown


NAMES: Final = frozenset({"mail", "domain"})
"""Keys that an item with ``with=usage`` has already."""


def within(item: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an item of a list, or a profile, with its usage; None: the account is gone."""
    if found is None:
        return {**item, "usage": None}
    return {**item, "usage": {name: found[name] for name in found if name not in NAMES}}
