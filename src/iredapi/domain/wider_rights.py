"""Mail users with more rights than an admin of their domain: what that admin may not change.

An admin who could set the password, address or forwarding of such a user could act as the user, or
lock it out (ADR 13).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from iredapi.domain import account_settings, limits
from iredapi.domain.actors import Actor

PERSONAL: Final = frozenset(
    {"name", "gn", "sn", "mobile", "telephone_number", "language", "employeeid", "quota"}
)
"""Parameters of such a user that every admin of the domain may change."""


def has_wider_rights(
    actor: Actor, managed_domains: Collection[str], settings: account_settings.Settings
) -> bool:
    """Tell whether a mail user manages a domain that the admin does not, or has higher limits.

    ``settings`` are the user's limits as an admin.
    """
    if actor.is_global:
        return False
    if not actor.domains.issuperset(managed_domains):
        return True
    if "create_new_domains" not in settings:
        return False
    return not actor.may_create_domains or limits.is_wider(settings, actor.settings)


def guarded(user: Any, fields: Mapping[str, str], changes: Mapping[str, Any]) -> list[str]:
    """Return the parameters that an admin with fewer rights may not change on this user.

    ``fields`` maps parameters to fields of the user. Unchanged values are allowed: some clients
    always send all parameters.
    """
    sets = {"forwarding": user.forwardings, "aliases": user.aliases}
    return [
        name
        for name in changes
        if name not in PERSONAL
        and not (name in fields and changes[name] == getattr(user, fields[name]))
        and not (name in sets and frozenset(changes[name]) == sets[name])
        and not (name == "is_global_admin" and changes[name] == user.is_global)
    ]
