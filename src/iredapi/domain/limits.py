"""Limits of domains and of normal admins.

In iRedMail 0 means unlimited and -1 means none. Quotas are in megabytes (1048576 bytes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from iredapi.domain import account_settings
from iredapi.domain.actors import Actor, Principal
from iredapi.errors import Conflict, PermissionDenied

UNLIMITED: Final = 0
NONE: Final = -1
MAX_QUOTA: Final = 2**43 - 1
"""MB; Dovecot multiplies by 1048576 in 64 bits."""
_UNITS: Final[Mapping[str, int]] = {"MB": 1, "GB": 1024, "TB": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Allocation:
    """Limits of one domain, or the sums of the limits of several domains."""

    quota: int = 0
    users: int = 0
    aliases: int = 0
    lists: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The number of an admin's domains, and the sums of their limits."""

    domains: int
    allocated: Allocation


def check_account_limit(limit: int, existing: int) -> None:
    """Refuse another account when the domain's limit of its kind is reached.

    Raises PermissionDenied ``NOT_ALLOWED`` (limit -1) or Conflict
    ``EXCEEDED_DOMAIN_ACCOUNT_LIMIT``.
    """
    if limit < 0:
        raise PermissionDenied("NOT_ALLOWED")
    if limit and existing >= limit:
        raise Conflict("EXCEEDED_DOMAIN_ACCOUNT_LIMIT", f"The limit is {limit}.")


def is_limited(admin: Actor | Principal) -> bool:
    """Tell whether the admin has a limit that a new or enlarged domain could exceed."""
    return not admin.is_global and any(
        account_settings.number(admin.settings, key)
        for key in (
            "create_max_domains",
            "create_max_quota",
            "create_max_users",
            "create_max_aliases",
            "create_max_lists",
        )
    )


def is_wider(settings: account_settings.Settings, other: account_settings.Settings) -> bool:
    """Tell whether one of these limits allows more than the same one of ``other``."""
    number = account_settings.number
    if is_raised(quota_limit(other), quota_limit(settings)):
        return True
    keys = ("create_max_domains", "create_max_users", "create_max_aliases", "create_max_lists")
    return any(is_raised(number(other, key), number(settings, key)) for key in keys)


def quota_limit(settings: account_settings.Settings) -> int:
    """Return an admin's ``create_max_quota`` in MB; a missing unit is MB."""
    unit = (settings.get("create_quota_unit") or "MB").strip().upper()
    amount = account_settings.number(settings, "create_max_quota")
    return amount * _UNITS.get(unit, 1) if amount > 0 else amount


def _within(limit: int, used: int, wanted: int, code: str) -> None:
    if limit == UNLIMITED:
        return
    if wanted == UNLIMITED or max(used, 0) + max(wanted, 0) > max(limit, 0):
        text = "none" if limit < 0 else str(limit)
        raise Conflict(code, f"The limit over all your domains is {text}; {used} is allocated.")


def check_admin_limits(
    actor: Actor, others: Totals, wanted: Allocation, before: Allocation | None = None
) -> None:
    """Refuse limits of a domain that would exceed the limits of a normal admin.

    ``others`` are the admin's other domains. ``before`` is None for a new domain; otherwise only
    limits that are raised are checked. Raises Conflict ``EXCEED_LIMIT_…``.
    """
    if actor.is_global:
        return
    number = account_settings.number
    if before is None:
        maximum = number(actor.settings, "create_max_domains")
        if maximum < 0 or (maximum and others.domains >= maximum):
            raise Conflict("EXCEED_LIMIT_DOMAIN", f"The limit is {max(maximum, 0)}.")
    allocated = others.allocated
    checks = (
        ("quota", quota_limit(actor.settings), "EXCEED_LIMIT_QUOTA"),
        ("users", number(actor.settings, "create_max_users"), "EXCEED_LIMIT_USERS"),
        ("aliases", number(actor.settings, "create_max_aliases"), "EXCEED_LIMIT_ALIASES"),
        ("lists", number(actor.settings, "create_max_lists"), "EXCEED_LIMIT_LISTS"),
    )
    for name, limit, code in checks:
        new = getattr(wanted, name)
        if before is None or is_raised(getattr(before, name), new):
            _within(limit, getattr(allocated, name), new, code)


def is_raised(before: int, after: int) -> bool:
    """Tell whether a limit was raised; 0 (unlimited) is the highest."""
    return after != before and (after == UNLIMITED or (before != UNLIMITED and after > before))


def quota_of_new_user(
    wanted: int | None, default: int, most_per_user: int, domain_quota: int, allocated: int
) -> int:
    """Return the quota of a new user in MB.

    ``wanted`` is None when no quota was sent: then it is the domain's default, reduced to what the
    domain has left. Raises Conflict ``EXCEEDED_DOMAIN_QUOTA_SIZE`` when the domain has less left.
    """
    quota = default if wanted is None else wanted
    quota = _capped(quota, most_per_user)
    if domain_quota > 0:
        left = domain_quota - allocated
        if left <= 0:
            raise Conflict("EXCEEDED_DOMAIN_QUOTA_SIZE", "The domain's quota is used up.")
        if wanted is None and (quota == UNLIMITED or quota > left):
            return left
        _within_domain(quota, left)
    return quota


def quota_of_user(
    wanted: int, most_per_user: int, domain_quota: int, others: int, before: int | None = None
) -> int:
    """Return the new quota of an existing user in MB.

    ``others`` is the quota of the domain's other users, ``before`` the user's present one (None:
    not known). An unchanged or lower quota is accepted even when the domain's limit is exceeded:
    the limit may have been lowered meanwhile.
    """
    if wanted == before:
        return before
    quota = _capped(wanted, most_per_user)
    if domain_quota > 0 and (before is None or is_raised(before, quota)):
        _within_domain(quota, domain_quota - others)
    return quota


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of a domain's users, for a change that gives most of them the same quota."""

    users: int
    """Number of users that get the quota."""
    raised: int
    """Number of these users whose present quota is lower."""
    quota_kept: int
    """Quota of the other users in MB."""


def quota_of_all(wanted: int, most_per_user: int, domain_quota: int, sizes: Sizes) -> int:
    """Return the quota in MB that most users of a domain get; checked only if it raises one."""
    quota = _capped(wanted, most_per_user)
    if domain_quota > 0 and sizes.raised:
        left = max(domain_quota - sizes.quota_kept, 0)
        if quota == UNLIMITED or quota * sizes.users > left:
            raise Conflict(
                "EXCEEDED_DOMAIN_QUOTA_SIZE", f"The domain has {left} MB for {sizes.users} users."
            )
    return quota


def _capped(quota: int, most: int) -> int:
    return most if most > 0 and (quota == UNLIMITED or quota > most) else quota


def _within_domain(quota: int, left: int) -> None:
    if quota == UNLIMITED or quota > left:
        asked = "The quota 0 is unlimited, and the domain" if quota == UNLIMITED else "The domain"
        raise Conflict("EXCEEDED_DOMAIN_QUOTA_SIZE", f"{asked} has {max(left, 0)} MB left.")
