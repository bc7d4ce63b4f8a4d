"""Events of the audit log: one per change, with the event names of iRedAdmin's table ``log``.

An event names accounts and parameters, never values: no password, hash or token is logged.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def account_event(kind: Kind, what: str, mail: str, detail: str = "") -> Event:
    """Return the event of a change of an account. ``what`` is user, alias or admin."""
    subject = f"{what} ({detail})" if detail else what
    return Event(kind, f"{_VERBS[kind]} {subject}: {mail}.", domain_of(mail), mail)


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
    return Event(kind, messages[kind], domain)


def policy_event(kind: Kind, what: str, scope: Scope, detail: str = "") -> Event:
    """Return the event of a change of a policy. ``what`` is spam policy, throttle and so on."""
    verb = "Delete" if kind is Kind.DELETE else "Update"
    subject = f"{what} ({detail})" if detail else what
    username = scope.name if scope.kind is Width.USER else ""
    return Event(kind, f"{verb} {subject}: {scope.account}.", scope.domain, username)
