"""Suspended users and domains: mail is still received, but nobody logs in or sends.

The services with which a user logs in or sends are off, and their names are held, so that resuming
switches on exactly what was on. A user may be suspended itself, or with its domain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from iredapi.domain import account_settings, services

RECEIVING: Final = frozenset({"deliver", "lda", "lmtp"})
LOGINS: Final = services.MANAGED - RECEIVING
"""Columns of services with which a user logs in or sends."""
DOMAIN_KEY: Final = "suspended"
"""Key in the settings of a suspended domain; its value is ``yes``."""
_NONE: Final = "none"
"""Stands for an empty list in a text: iRedAdmin drops keys without a value."""


class Suspendable(Protocol):
    """What this module needs of a user."""

    @property
    def services(self) -> frozenset[str]:
        """Services that are on, as columns."""

    @property
    def custom_services(self) -> frozenset[str]:
        """Other services that are on (LDAP)."""

    @property
    def held(self) -> frozenset[str] | None:
        """Services that wait until the user is resumed; None: it is not suspended itself."""

    @property
    def held_by_domain(self) -> frozenset[str] | None:
        """Services that wait until the domain is resumed; None: it is not suspended with it."""


def is_login(name: str) -> bool:
    """Tell whether a service lets a user log in or send; in LDAP that is any unknown word."""
    return name not in RECEIVING | services.CONDITIONS | services.INTERNAL | {"domainadmin"}


def released(user: Suspendable) -> tuple[frozenset[str], frozenset[str]]:
    """Return the columns and the other words that are on when nothing is suspended."""
    waiting = (user.held or frozenset()) | (user.held_by_domain or frozenset())
    return (
        user.services | (waiting & services.MANAGED),
        user.custom_services | (waiting - services.MANAGED),
    )


def placed(
    columns: frozenset[str], words: frozenset[str], *, own: bool, with_domain: bool
) -> dict[str, Any]:
    """Return the fields of a user who would have these services if nothing was suspended."""
    if not own and not with_domain:
        return {"services": columns, "custom_services": words, "held": None, "held_by_domain": None}
    waiting = frozenset(name for name in columns | words if is_login(name))
    return {
        "services": columns - waiting,
        "custom_services": words - waiting,
        "held": waiting if own else None,
        "held_by_domain": None if own else waiting,
    }


def is_suspended(settings: account_settings.Settings) -> bool:
    """Tell whether a domain with these settings is suspended."""
    return bool(settings.get(DOMAIN_KEY))


def items_of(text: str) -> frozenset[str]:
    """Return the items in a text of ``text_of``: names, some with ``=`` and a stored value."""
    return frozenset(name.strip() for name in text.split(",")) - {"", _NONE}


def names_of(text: str) -> frozenset[str]:
    """Return the names in a text of ``text_of``."""
    return frozenset(item.partition("=")[0] for item in items_of(text))


def text_of(items: Collection[str]) -> str:
    """Return items as a value of iRedAdmin's settings, which is never empty."""
    return ",".join(sorted(items)) or _NONE


def of_settings(settings: Mapping[str, str | None], key: str) -> frozenset[str] | None:
    """Return the names under a key; None: there is no such key."""
    found = settings.get(key)
    return None if found is None else names_of(found) & LOGINS
