"""What domains and mail users use: sizes, numbers of accounts, last logins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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


@dataclass(frozen=True, slots=True)
class DomainUsage:
    """What a domain and its accounts use; limits are 0 for unlimited, -1 for none."""

    domain: str
    active: bool
    quota: int
    """The limit of ``allocated_quota``; both in MB."""
    max_users: int
    max_aliases: int
    max_lists: int
    users: int = 0
    aliases: int = 0
    lists: int = 0
    allocated_quota: int = 0
    stored_bytes: int = 0
    stored_messages: int = 0
    last_login: int = 0
    """The latest of IMAP and POP3 of any user, seconds since 1970; 0: never."""


def _status(*, active: bool) -> str:
    return "active" if active else "disabled"


def of_user(found: UserUsage) -> dict[str, Any]:
    """Return a user's usage for an answer."""
    return {
        "mail": found.mail,
        "domain": found.domain,
        "status": _status(active=found.active),
        "quota": found.quota,
        "stored_bytes": found.stored_bytes,
        "stored_messages": found.stored_messages,
        "last_login": utc_text(max(found.imap, found.pop3)),
        "last_login_imap": utc_text(found.imap),
        "last_login_pop3": utc_text(found.pop3),
        "last_delivery": utc_text(found.lda),
    }


def of_domain(found: DomainUsage) -> dict[str, Any]:
    """Return a domain's usage for an answer."""
    return {
        "domain": found.domain,
        "status": _status(active=found.active),
        "quota": found.quota,
        "allocated_quota": found.allocated_quota,
        "stored_bytes": found.stored_bytes,
        "stored_messages": found.stored_messages,
        "numberOfUsers": found.max_users,
        "num_existing_users": found.users,
        "numberOfAliases": found.max_aliases,
        "num_existing_aliases": found.aliases,
        "numberOfLists": found.max_lists,
        "num_existing_maillists": found.lists,
        "last_login": utc_text(found.last_login),
    }


NAMES: Final = frozenset({"mail", "domain"})
"""Keys that an item with ``with=usage`` has already."""


def within(item: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an item of a list, or a profile, with its usage; None: the account is gone."""
    if found is None:
        return {**item, "usage": None}
    return {**item, "usage": {name: found[name] for name in found if name not in NAMES}}
