"""Events of the audit log: one per change, with the event names of iRedAdmin's table ``log``.

An event names accounts and parameters, never values: no password, hash or token is logged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from iredapi.domain.addresses import domain_of
from iredapi.domain.scopes import Kind as Width
from iredapi.domain.scopes import Scope


class Kind(StrEnum):
    """Values of the column ``event`` that iRedAdmin knows."""

    LOGIN = "login"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ACTIVE = "active"
    DISABLE = "disable"
    GRANT = "grant"
    REVOKE = "revoke"
    IREDAPD = "iredapd"
    UPDATE_WBLIST = "update_wblist"


class Subject(StrEnum):
    """What a change is about; the first word of the kind of a change event."""

    DOMAIN = "domain"
    ADMIN = "admin"
    USER = "user"
    USERS = "users"
    """All users of a domain."""
    ALIAS = "alias"
    LIST = "list"
    MAILLIST = "maillist"
    POLICY = "policy"


_VERBS: Final = {
    Kind.CREATE: "Create",
    Kind.UPDATE: "Update",
    Kind.DELETE: "Delete",
    Kind.ACTIVE: "Active",
    Kind.DISABLE: "Disable",
    Kind.GRANT: "Grant",
    Kind.REVOKE: "Revoke",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log, without the admin, client address and time."""

    kind: Kind
    message: str
    domain: str = ""
    username: str = ""
    level: str = "info"
    subject: Subject | None = None
    """What was changed, for other systems (``change_events``); None: nothing that they keep."""
    account: str = ""
    """The address, domain or scope that was changed; of a renamed account the former one."""
    new_account: str = ""
    """The address that an account was renamed to."""
    topic: str = ""
    """Which kind of policy."""
    fields: tuple[str, ...] | None = None
    """Names of what is different now; None: what the unit of work reports."""
    gone: bool = False
    """Whether a policy was removed; the log has other words for that."""


def account_event(
    kind: Kind, what: str, mail: str, detail: str = "", subject: Subject | None = None
) -> Event:
    """Return the event of a change of an account. ``what`` is user, alias or admin."""
    named = f"{what} ({detail})" if detail else what
    text = f"{_VERBS[kind]} {named}: {mail}."
    return Event(kind, text, domain_of(mail), mail, subject=subject, account=mail)


def rename_event(what: str, old: str, new: str, subject: Subject) -> Event:
    """Return the event of an account that has another address now."""
    event = account_event(Kind.UPDATE, what, new, f"change_email from {old}", subject)
    return replace(event, account=old, new_account=new)


def further_change(subject: Subject, account: str, *fields: str, gone: bool = False) -> Event:
    """Return the event of what an operation has changed beside its subject. It is not logged."""
    kind = Kind.DELETE if gone else Kind.UPDATE
    domain = account if subject is Subject.USERS else domain_of(account)
    return Event(kind, "", domain, subject=subject, account=account, fields=fields)


def domain_event(kind: Kind, domain: str, detail: str = "") -> Event:
    """Return the event of a change of a domain."""
    messages = {
        Kind.CREATE: f"New domain: {domain}.",
        Kind.UPDATE: f"Update domain profile: {domain} ({detail}).",
        Kind.DELETE: f"Delete domain: {domain}.",
        Kind.ACTIVE: f"Active domain: {domain}.",
        Kind.DISABLE: f"Disable domain: {domain}.",
        Kind.GRANT: f"Grant admins of domain {domain}: {detail}.",
        Kind.REVOKE: f"Revoke admins of domain {domain}: {detail}.",
    }
    return Event(kind, messages[kind], domain, subject=Subject.DOMAIN, account=domain)


def policy_event(
    kind: Kind, what: str, scope: Scope, detail: str = "", *, gone: bool = False
) -> Event:
    """Return the event of a change of a policy. ``what`` is spam policy, throttle and so on.

    ``gone``: the scope has no policy of its own any more.
    """
    verb = "Delete" if kind is Kind.DELETE else "Update"
    named = f"{what} ({detail})" if detail else what
    return Event(
        kind,
        f"{verb} {named}: {scope.account}.",
        scope.domain,
        scope.name if scope.kind is Width.USER else "",
        subject=Subject.POLICY,
        account=scope.name,
        topic=what,
        gone=gone or kind is Kind.DELETE,
    )
