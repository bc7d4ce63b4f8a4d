"""The parameters that a change of an account changes: the difference of two records.

A response has them in ``_changed``. When there are none, nothing is written or logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from iredapi.domain import account_settings, suspension
from iredapi.domain.admins import Admin
from iredapi.domain.aliases import Alias
from iredapi.domain.domains import Domain, primary_mx
from iredapi.domain.maillists import MailList
from iredapi.domain.throttles import LIMITS, Throttle
from iredapi.domain.users import User

Names = tuple[str, ...]

_USER: Final[Mapping[str, str]] = {
    "given_name": "gn",
    "surname": "sn",
    "telephone": "telephoneNumber",
    "employee_id": "employeeid",
    "active": "accountStatus",
    "mailbox_format": "mailboxFormat",
    "mailbox_folder": "mailboxFolder",
    "location": "maildir",
    "is_admin": "isGlobalAdmin",
    "is_global": "isGlobalAdmin",
    "marks_agree": "isGlobalAdmin",
    "custom_services": "services",
    "held": "suspend",
    "forwardings": "forwarding",
    "sender_bcc": "senderBcc",
    "recipient_bcc": "recipientBcc",
}
_OF_SUSPENSION: Final = frozenset({"held", "held_by_domain"})
_DOMAIN: Final[Mapping[str, str]] = {
    "description": "name",
    "active": "accountStatus",
    "users": "numberOfUsers",
    "aliases": "numberOfAliases",
    "lists": "numberOfLists",
    "backupmx": "is_backupmx",
    "sender_bcc": "senderBcc",
    "recipient_bcc": "recipientBcc",
    "outbound_relay": "outboundRelay",
    "dead_catchall": "catchall",
    "alias_domains": "aliasDomains",
    "inactive_alias_domains": "aliasDomains",
}
_OF_DOMAIN_SETTINGS: Final[Mapping[str, str]] = {
    "default_user_quota": "defaultQuota",
    "max_user_quota": "maxUserQuota",
    "min_passwd_length": "minPasswordLength",
    "max_passwd_length": "maxPasswordLength",
    "default_language": "language",
    "enabled_services": "services",
    "disabled_domain_profiles": "disabledDomainProfile",
    "disabled_user_profiles": "disabledUserProfile",
    "disabled_user_preferences": "disabledUserPreference",
    suspension.DOMAIN_KEY: "suspend",
}
_ADMIN: Final[Mapping[str, str]] = {"active": "accountStatus", "is_global": "isGlobalAdmin"}
_OF_ADMIN_SETTINGS: Final[Mapping[str, str]] = {
    "create_new_domains": "maxDomains",
    "create_max_domains": "maxDomains",
    "create_max_quota": "maxQuota",
    "create_quota_unit": "quotaUnit",
    "create_max_users": "maxUsers",
    "create_max_aliases": "maxAliases",
    "create_max_lists": "maxLists",
    "disable_viewing_mail_log": "disableViewingMailLog",
    "disable_managing_quarantined_mails": "disableManagingQuarantinedMails",
}
_ALIAS: Final[Mapping[str, str]] = {"active": "accountStatus", "access_policy": "accessPolicy"}


def of_user(before: User, after: User) -> Names:
    """Return the changed parameters of a user."""
    found = different(before, after)
    if not found & _OF_SUSPENSION:
        return of_user_fields(found)
    rest = found - _OF_SUSPENSION - {"services", "custom_services"}
    if (before.held is None) != (after.held is None):
        rest.add("held")
    if suspension.released(before) != suspension.released(after) or not rest:
        rest.add("services")
    return of_user_fields(rest)


def of_user_fields(names: Iterable[str]) -> Names:
    """Return the parameter names of fields of a user."""
    return _of_user_fields(frozenset(names))


@lru_cache(maxsize=1024)
def _of_user_fields(names: frozenset[str]) -> Names:
    return _named(names, _USER)


def of_domain(before: Domain, after: Domain) -> Names:
    """Return the changed parameters of a domain."""
    found = {_DOMAIN.get(name, name) for name in different(before, after)} - {"settings"}
    if primary_mx(before.transport) != primary_mx(after.transport) and after.backupmx:
        found.add("primarymx")
    return _sorted(found | _of_settings(before.settings, after.settings, _OF_DOMAIN_SETTINGS))


def of_admin(before: Admin, after: Admin) -> Names:
    """Return the changed parameters of a standalone admin."""
    found = {_ADMIN.get(name, name) for name in different(before, after)} - {"settings"}
    return _sorted(found | _of_settings(before.settings, after.settings, _OF_ADMIN_SETTINGS))


def of_alias(before: Alias | MailList, after: Alias | MailList) -> Names:
    """Return the changed parameters of an alias account or an unsubscribable list."""
    return _named(different(before, after), _ALIAS)


def of_throttle(before: Throttle | None, after: Throttle) -> Names:
    """Return the changed parameters of a throttle; None: it did not exist."""
    names = ("period", *LIMITS)
    if before is None:
        return _sorted(names)
    return _sorted(name for name in names if getattr(before, name) != getattr(after, name))


def of_mapping(before: Mapping[str, Any], after: Mapping[str, Any]) -> Names:
    """Return the keys whose values differ."""
    names = before.keys() | after.keys()
    return _sorted(name for name in names if before.get(name) != after.get(name))


def different(before: Any, after: Any) -> set[str]:
    """Return the fields whose values differ in two records of one type."""
    if before is after:
        return set()
    return {
        field.name
        for field in fields(before)
        if getattr(before, field.name) != getattr(after, field.name)
    }


def _of_settings(
    before: account_settings.Settings, after: account_settings.Settings, names: Mapping[str, str]
) -> set[str]:
    if before == after:
        return set()
    old, new = account_settings.to_response(before), account_settings.to_response(after)
    # A missing key equals 0 or an empty list: other tools write these values.
    return {
        names.get(key, key)
        for key in old.keys() | new.keys()
        if (old.get(key) or None) != (new.get(key) or None)
    }


def _named(found: Iterable[str], names: Mapping[str, str]) -> Names:
    return _sorted({names.get(name, name) for name in found})


def _sorted(names: Iterable[str]) -> Names:
    return tuple(sorted(names))
