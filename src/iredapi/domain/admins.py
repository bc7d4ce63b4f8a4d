"""Standalone admins: the record and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from iredapi.domain import account_settings
from iredapi.errors import Conflict, problem

_LIMITS: Final[Mapping[str, str]] = {
    "max_domains": "create_max_domains",
    "max_quota": "create_max_quota",
    "quota_unit": "create_quota_unit",
    "max_users": "create_max_users",
    "max_aliases": "create_max_aliases",
    "max_lists": "create_max_lists",
}
_SWITCHES: Final[Mapping[str, str]] = {
    "disable_viewing_mail_log": "disable_viewing_mail_log",
    "disable_managing_quarantined_mails": "disable_managing_quarantined_mails",
}
_NORMAL_ONLY: Final = frozenset({*_LIMITS.values(), *_SWITCHES.values(), "create_new_domains"})


@dataclass(frozen=True, slots=True)
class Admin:
    """A standalone admin: an account for logging in here, without a mailbox."""

    mail: str
    password: str = field(default="", repr=False)
    name: str = ""
    language: str = ""
    active: bool = True
    is_global: bool = False
    settings: account_settings.Settings = field(default_factory=dict)
    stored_settings: str = field(default="", repr=False, compare=False)
    """The text that ``settings`` were read from (SQL): what does not change stays as it is."""
    managed_domains: frozenset[str] = frozenset()
    """Managed domains. Read only: admins are assigned at the domain."""


def draft(mail: str, changes: Mapping[str, Any], password: str) -> Admin:
    """Return a new admin; ``password`` is the hash."""
    return revise(Admin(mail), changes, password)


def revise(before: Admin, changes: Mapping[str, Any], password: str = "") -> Admin:
    """Return the changed admin; a global admin has no limits, so they are dropped."""
    is_global = changes.get("is_global_admin", before.is_global)
    settings = before.settings
    if is_global and "is_global_admin" in changes:
        settings = {key: value for key, value in settings.items() if key not in _NORMAL_ONLY}
    elif not is_global:
        settings = _limits(settings, changes)
    return replace(
        before,
        password=password or before.password,
        name=changes.get("name", before.name),
        language=changes.get("language", before.language),
        active=changes.get("account_status", before.active),
        is_global=is_global,
        settings=settings,
    )


def without_effect(admin: Admin, changes: Mapping[str, Any]) -> list[str]:
    """Return the sent parameters that have no effect on a global admin."""
    normal = _LIMITS.keys() | _SWITCHES.keys()
    return sorted(normal & changes.keys()) if admin.is_global else []


def _limits(
    settings: account_settings.Settings, changes: Mapping[str, Any]
) -> account_settings.Settings:
    known = "quota_unit" in changes or settings.keys() & {"create_max_quota", "create_quota_unit"}
    if changes.get("max_quota", 0) > 0 and not known:
        raise problem(
            "max_quota",
            "MISSING_COMPANION",
            "maxQuota must be sent together with quotaUnit, unless the admin has a unit already.",
        )
    for name, key in _LIMITS.items():
        if name in changes:
            settings = account_settings.with_value(settings, key, changes[name])
    for name, key in _SWITCHES.items():
        if name in changes:
            settings = account_settings.with_value(settings, key, "yes" if changes[name] else "")
    if "max_domains" in changes:
        # iRedAdmin tests whether the key exists; 0 would mean "unlimited".
        granted = changes["max_domains"] > 0
        settings = account_settings.with_value(
            settings, "create_new_domains", "yes" if granted else ""
        )
    return settings


def keep_one_global_admin(remaining: int) -> None:
    """Raise Conflict ``LAST_GLOBAL_ADMIN`` when no active global admin would remain."""
    if remaining < 1:
        raise Conflict("LAST_GLOBAL_ADMIN")
