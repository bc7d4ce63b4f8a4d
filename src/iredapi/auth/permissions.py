"""The table of permissions: for each action a pure rule over the actor and the path's target.

Rules that depend on parameters or stored data (limits, disabled profiles, "only a global admin may
grant …") are in ``iredapi.domain``. Without rights, the answer for a target that does not exist is
the same as for one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from iredapi.domain.actors import Actor
from iredapi.domain.scopes import EVERYBODY, Kind, Scope
from iredapi.domain.tokens import too_limited
from iredapi.errors import LoginRequired, PermissionDenied


class Action(StrEnum):
    """All actions. Each route has one."""

    ADMINS_LIST = "admins.list"
    ADMIN_CREATE = "admin.create"
    ADMIN_DELETE = "admin.delete"
    ADMIN_READ = "admin.read"
    ADMIN_UPDATE = "admin.update"
    ADMIN_VERIFY_PASSWORD = "admin.verify_password"  # noqa: S105
    ADDRESS_READ = "address.read"
    ALIASES_LIST = "aliases.list"
    ALIAS_DOMAINS_LIST = "alias_domains.list"
    ALIAS_CREATE = "alias.create"
    ALIAS_DELETE = "alias.delete"
    ALIAS_READ = "alias.read"
    ALIAS_RENAME = "alias.rename"
    ALIAS_UPDATE = "alias.update"
    ALL_ALIASES_LIST = "all_aliases.list"
    ALL_MLS_LIST = "all_mls.list"
    ALL_USERS_LIST = "all_users.list"
    DELETED_MAILBOXES_LIST = "deleted_mailboxes.list"
    DELETED_MAILBOXES_READ = "deleted_mailboxes.read"
    DELETED_MAILBOX_UPDATE = "deleted_mailbox.update"
    DOMAINS_LIST = "domains.list"
    DOMAIN_ADMINS = "domain.admins"
    DOMAIN_CREATE = "domain.create"
    DOMAIN_DELETE = "domain.delete"
    DOMAIN_DNS_READ = "domain_dns.read"
    DOMAIN_READ = "domain.read"
    DOMAIN_UPDATE = "domain.update"
    DOMAIN_VERIFY = "domain.verify"
    EVENTS_READ = "events.read"
    EXPORT_LIST = "export.list"
    EXPORT_READ = "export.read"
    GREYLISTINGS_LIST = "greylistings.list"
    GREYLISTING_DELETE = "greylisting.delete"
    GREYLISTING_DOMAINS_READ = "greylisting_domains.read"
    GREYLISTING_DOMAINS_UPDATE = "greylisting_domains.update"
    GREYLISTING_READ = "greylisting.read"
    GREYLISTING_SENDERS_READ = "greylisting_senders.read"
    GREYLISTING_SENDERS_UPDATE = "greylisting_senders.update"
    GREYLISTING_UPDATE = "greylisting.update"
    IMPORT = "accounts.import"
    LOG_READ = "log.read"
    LOGIN = "login"
    LOGOUT = "logout"
    LDIF_ADMIN = "ldif.admin"
    LDIF_ALIAS = "ldif.alias"
    LDIF_CATCHALL = "ldif.catchall"
    LDIF_DOMAIN = "ldif.domain"
    LDIF_MAILLIST = "ldif.maillist"
    LDIF_USER = "ldif.user"
    MAILLISTS_LIST = "maillists.list"
    MAILLIST_CREATE = "maillist.create"
    MAILLIST_DELETE = "maillist.delete"
    MAILLIST_READ = "maillist.read"
    MAILLIST_UPDATE = "maillist.update"
    SEARCH_READ = "search.read"
    SESSIONS_END = "sessions.end"
    SESSIONS_LIST = "sessions.list"
    SESSION_END = "session.end"
    MLS_LIST = "mls.list"
    ML_CREATE = "ml.create"
    ML_DELETE = "ml.delete"
    ML_READ = "ml.read"
    ML_UPDATE = "ml.update"
    SPAMPOLICY_DELETE = "spampolicy.delete"
    SPAMPOLICY_READ = "spampolicy.read"
    SPAMPOLICY_UPDATE = "spampolicy.update"
    THROTTLE_DELETE = "throttle.delete"
    THROTTLE_READ = "throttle.read"
    THROTTLE_UPDATE = "throttle.update"
    TOKENS_LIST = "tokens.list"
    TOKEN_CREATE = "token.create"  # noqa: S105
    TOKEN_READ = "token.read"  # noqa: S105
    TOKEN_REVOKE = "token.revoke"  # noqa: S105
    TOKEN_ROTATE = "token.rotate"  # noqa: S105
    USAGE_LIST = "usage.list"
    USAGE_READ = "usage.read"
    USERS_LIST = "users.list"
    USERS_UPDATE = "users.update"
    USER_CREATE = "user.create"
    USER_DELETE = "user.delete"
    USER_READ = "user.read"
    USER_RENAME = "user.rename"
    USER_UPDATE = "user.update"
    USER_VERIFY_PASSWORD = "user.verify_password"  # noqa: S105
    WBLIST_ADD = "wblist.add"
    WBLIST_CLEAR = "wblist.clear"
    WBLIST_READ = "wblist.read"
    WBLIST_REMOVE = "wblist.remove"
    WEBHOOKS_LIST = "webhooks.list"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_DELIVERIES_LIST = "webhook_deliveries.list"
    WEBHOOK_ENABLE = "webhook.enable"
    WEBHOOK_PING = "webhook.ping"
    WEBHOOK_READ = "webhook.read"
    WEBHOOK_ROTATE = "webhook.rotate"
    WEBHOOK_UPDATE = "webhook.update"
    WHOAMI = "whoami"


@dataclass(frozen=True, slots=True)
class Target:
    """The object that the path names; parts that it does not name are empty."""

    domain: str = ""
    mail: str = ""
    new_mail: str = ""
    scope: Scope | None = None
    """The account, domain or everybody that a policy applies to."""

    @property
    def named(self) -> str:
        """The name of the target, for the log."""
        if self.scope is not None:
            return self.scope.account
        return self.mail or self.domain

    @property
    def whom(self) -> Scope:
        """The scope of a policy, from the path; the global scope when the path has none."""
        if self.scope is not None:
            return self.scope
        if self.mail:
            return Scope(Kind.USER, self.mail)
        return Scope(Kind.DOMAIN, self.domain) if self.domain else Scope(Kind.GLOBAL, EVERYBODY)


@dataclass(frozen=True, slots=True)
class Rule:
    """A named, pure predicate. Rules are combined with ``|`` and ``&``."""

    name: str
    test: Callable[[Actor, Target], bool]

    def __or__(self, other: Rule) -> Rule:
        """Return a rule that needs one of both."""
        return Rule(
            f"({self.name} or {other.name})", lambda a, t: self.test(a, t) or other.test(a, t)
        )

    def __and__(self, other: Rule) -> Rule:
        """Return a rule that needs both."""
        return Rule(
            f"({self.name} and {other.name})", lambda a, t: self.test(a, t) and other.test(a, t)
        )


ANY_ADMIN: Final = Rule("any admin", lambda _actor, _target: True)
GLOBAL: Final = Rule("global admin", lambda actor, _target: actor.is_global)
CREATOR: Final = Rule("may create domains", lambda actor, _target: actor.may_create_domains)
DOMAIN: Final = Rule("manages the domain", lambda actor, target: actor.manages(target.domain))
ACCOUNT: Final = Rule(
    "manages the account's domain", lambda actor, target: actor.manages_account(target.mail)
)
NEW_ACCOUNT: Final = Rule(
    "manages the new address's domain",
    lambda actor, target: actor.manages_account(target.new_mail),
)


def _manages_scope(actor: Actor, target: Target) -> bool:
    # The global scope has no domain, so only a global admin passes.
    return actor.is_global or actor.manages(target.whom.domain)


SCOPE: Final = Rule("manages the scope (global: a global admin)", _manages_scope)

SESSION: Final = Rule("an admin with a login session", lambda actor, _target: not actor.token)

PUBLIC: Final = frozenset({Action.LOGIN, Action.LOGOUT})
"""Actions without a session."""

NAMES_NEW_ACCOUNT: Final = frozenset(
    {Action.DOMAIN_CREATE, Action.USER_CREATE, Action.ALIAS_CREATE, Action.ADMIN_CREATE}
    | {Action.MAILLIST_CREATE, Action.ML_CREATE}
)
"""Actions whose path names a new account: its name must follow the strict grammar.

Existing accounts must stay reachable, whatever their names are.
"""

READING: Final = frozenset(
    action for action in Action if action.endswith((".read", ".list")) or action is Action.WHOAMI
)
"""Actions of a read-only token; not LDIF, which has password hashes."""

LASTING: Final[Mapping[Action, frozenset[str]]] = MappingProxyType(
    {
        Action.ADMIN_CREATE: frozenset(),
        Action.ADMIN_UPDATE: frozenset(
            {"password", "is_global_admin", "account_status", "quota_unit"}
            | {"max_domains", "max_quota", "max_users", "max_aliases", "max_lists"}
            | {"disable_viewing_mail_log", "disable_managing_quarantined_mails"}
        ),
        Action.DOMAIN_ADMINS: frozenset({"add_admin"}),
        Action.TOKEN_CREATE: frozenset(),
        Action.USER_CREATE: frozenset({"is_global_admin"}),
        Action.USER_UPDATE: frozenset({"is_global_admin"}),
        # What is sent to a URL goes on after the token's end.
        Action.WEBHOOK_CREATE: frozenset(),
        Action.WEBHOOK_ENABLE: frozenset(),
        Action.WEBHOOK_ROTATE: frozenset(),
        Action.WEBHOOK_UPDATE: frozenset(),
    }
)
"""Actions that can grant rights which last longer than a limited token: the fields that do so; an
empty set stands for the whole action. Limited tokens may not use them. Passwords and activation of
mail users who are admins depend on the user: see ``domain.users.permit`` and
``operations.users_of_domain.update_all``."""
_TAKEN: Final = frozenset({"is_global_admin", "account_status", "add_admin"})
"""Fields of these that grant nothing when they are "no", "disabled" or empty."""

RULES: Final[Mapping[Action, Rule]] = MappingProxyType(
    {
        Action.ADMINS_LIST: GLOBAL,
        Action.ADMIN_CREATE: GLOBAL,
        Action.ADMIN_DELETE: GLOBAL,
        Action.ADMIN_READ: GLOBAL,
        Action.ADMIN_UPDATE: GLOBAL,
        Action.ADMIN_VERIFY_PASSWORD: GLOBAL,
        Action.ADDRESS_READ: ACCOUNT,
        Action.ALIASES_LIST: DOMAIN,
        Action.ALIAS_DOMAINS_LIST: ANY_ADMIN,
        Action.ALIAS_CREATE: ACCOUNT,
        Action.ALIAS_DELETE: ACCOUNT,
        Action.ALIAS_READ: ACCOUNT,
        Action.ALIAS_RENAME: ACCOUNT & NEW_ACCOUNT,
        Action.ALIAS_UPDATE: ACCOUNT,
        Action.ALL_ALIASES_LIST: ANY_ADMIN,
        Action.ALL_MLS_LIST: ANY_ADMIN,
        Action.ALL_USERS_LIST: ANY_ADMIN,
        Action.DELETED_MAILBOXES_LIST: ANY_ADMIN,
        Action.DELETED_MAILBOXES_READ: DOMAIN,
        Action.DELETED_MAILBOX_UPDATE: ANY_ADMIN,
        Action.DOMAINS_LIST: ANY_ADMIN,
        Action.DOMAIN_ADMINS: DOMAIN,
        Action.DOMAIN_CREATE: CREATOR,
        Action.DOMAIN_DELETE: DOMAIN & CREATOR,
        Action.DOMAIN_DNS_READ: DOMAIN,
        Action.DOMAIN_READ: DOMAIN,
        Action.DOMAIN_UPDATE: DOMAIN,
        Action.DOMAIN_VERIFY: DOMAIN,
        Action.EVENTS_READ: ANY_ADMIN,
        Action.EXPORT_LIST: GLOBAL,
        Action.EXPORT_READ: DOMAIN,
        Action.GREYLISTINGS_LIST: GLOBAL,
        Action.GREYLISTING_DELETE: SCOPE,
        Action.GREYLISTING_DOMAINS_READ: GLOBAL,
        Action.GREYLISTING_DOMAINS_UPDATE: GLOBAL,
        Action.GREYLISTING_READ: SCOPE,
        Action.GREYLISTING_SENDERS_READ: SCOPE,
        Action.GREYLISTING_SENDERS_UPDATE: SCOPE,
        Action.GREYLISTING_UPDATE: SCOPE,
        # Each line is checked as a call of its own.
        Action.IMPORT: ANY_ADMIN,
        Action.LOG_READ: ANY_ADMIN,
        Action.LOGIN: ANY_ADMIN,
        Action.LOGOUT: ANY_ADMIN,
        Action.LDIF_ADMIN: GLOBAL,
        Action.LDIF_ALIAS: ACCOUNT,
        Action.LDIF_CATCHALL: DOMAIN,
        Action.LDIF_DOMAIN: DOMAIN,
        Action.LDIF_MAILLIST: ACCOUNT,
        Action.LDIF_USER: ACCOUNT,
        Action.MAILLISTS_LIST: DOMAIN,
        Action.MAILLIST_CREATE: ACCOUNT,
        Action.MAILLIST_DELETE: ACCOUNT,
        Action.MAILLIST_READ: ACCOUNT,
        Action.MAILLIST_UPDATE: ACCOUNT,
        Action.SEARCH_READ: ANY_ADMIN,
        Action.SESSIONS_END: SESSION,
        Action.SESSIONS_LIST: SESSION,
        Action.SESSION_END: SESSION,
        Action.MLS_LIST: DOMAIN,
        Action.ML_CREATE: ACCOUNT,
        Action.ML_DELETE: ACCOUNT,
        Action.ML_READ: ACCOUNT,
        Action.ML_UPDATE: ACCOUNT,
        Action.SPAMPOLICY_DELETE: SCOPE,
        Action.SPAMPOLICY_READ: SCOPE,
        Action.SPAMPOLICY_UPDATE: SCOPE,
        Action.THROTTLE_DELETE: SCOPE,
        Action.THROTTLE_READ: SCOPE,
        Action.THROTTLE_UPDATE: SCOPE,
        Action.TOKENS_LIST: ANY_ADMIN,
        Action.TOKEN_CREATE: ANY_ADMIN,
        Action.TOKEN_READ: ANY_ADMIN,
        Action.TOKEN_REVOKE: ANY_ADMIN,
        Action.TOKEN_ROTATE: ANY_ADMIN,
        Action.USAGE_LIST: ANY_ADMIN,
        Action.USAGE_READ: DOMAIN,
        Action.USERS_LIST: DOMAIN,
        Action.USERS_UPDATE: DOMAIN,
        Action.USER_CREATE: ACCOUNT,
        Action.USER_DELETE: ACCOUNT,
        Action.USER_READ: ACCOUNT,
        Action.USER_RENAME: ACCOUNT & NEW_ACCOUNT,
        Action.USER_UPDATE: ACCOUNT,
        Action.USER_VERIFY_PASSWORD: GLOBAL,
        Action.WBLIST_ADD: SCOPE,
        Action.WBLIST_CLEAR: SCOPE,
        Action.WBLIST_READ: SCOPE,
        Action.WBLIST_REMOVE: SCOPE,
        # Which ones: domain.webhooks.Webhook.is_known_to.
        Action.WEBHOOKS_LIST: ANY_ADMIN,
        Action.WEBHOOK_CREATE: ANY_ADMIN,
        Action.WEBHOOK_DELETE: ANY_ADMIN,
        Action.WEBHOOK_DELIVERIES_LIST: ANY_ADMIN,
        Action.WEBHOOK_ENABLE: ANY_ADMIN,
        Action.WEBHOOK_PING: ANY_ADMIN,
        Action.WEBHOOK_READ: ANY_ADMIN,
        Action.WEBHOOK_ROTATE: ANY_ADMIN,
        Action.WEBHOOK_UPDATE: ANY_ADMIN,
        Action.WHOAMI: ANY_ADMIN,
    }
)

if missing := set(Action) - RULES.keys():
    raise ImportError(f"actions without a rule: {sorted(missing)}")


def check(actor: Actor | None, action: Action, target: Target) -> None:
    """Check that an actor may do something. Raises LoginRequired or PermissionDenied."""
    if action in PUBLIC:
        return
    if actor is None:
        raise LoginRequired
    if actor.read_only and action not in READING:
        raise PermissionDenied(detail="The token is read-only.")
    if not RULES[action].test(actor, target):
        raise PermissionDenied
    if actor.limited and LASTING.get(action) == frozenset():
        raise too_limited()


def check_form(actor: Actor | None, action: Action, changes: Mapping[str, Any]) -> None:
    """Raise PermissionDenied when a limited token sends fields of ``LASTING`` that grant rights."""
    if actor is None or not actor.limited:
        return
    giving = [
        name
        for name in sorted(LASTING.get(action, frozenset()) & changes.keys())
        if changes[name] or name not in _TAKEN
    ]
    if giving:
        raise too_limited(giving)
