"""Mail users with more rights than the admin of their domain: what is not for that admin.

Whoever decides on the password, the address or the mail of an account could act as it, or keep its
owner from acting (ADR 13).
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
    """Tell whether a mail user manages a domain that a normal admin does not, or may create more.

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
    """Return the parameters that somebody with fewer rights may not change on this user.

    ``fields`` are the user's attributes behind parameters. What repeats what is there changes
    nothing, and passes: some clients always send everything.
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
