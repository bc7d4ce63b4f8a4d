"""Mail services of a user: the API's names and their ``enable…`` columns.

Dovecot reads ``enable<protocol><security>`` with its own protocol names, so some API names have
several columns: ManageSieve is ``sieve`` in Dovecot, and ``deliver`` includes LDA and LMTP. There
is no ``enablesmtptls``: submission over TLS is ``smtpsecured``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "smtp": ("smtp",),
    "smtpsecured": ("smtpsecured",),
    "pop3": ("pop3",),
    "pop3secured": ("pop3secured",),
    "pop3tls": ("pop3tls",),
    "imap": ("imap",),
    "imapsecured": ("imapsecured",),
    "imaptls": ("imaptls",),
    "managesieve": ("managesieve", "sieve"),
    "managesievesecured": ("managesievesecured", "sievesecured"),
    "managesievetls": ("sievetls",),
    "deliver": ("deliver", "lda", "lmtp"),
    "sogo": ("sogo",),
    "sogowebmail": ("sogowebmail",),
    "sogocalendar": ("sogocalendar",),
    "sogoactivesync": ("sogoactivesync",),
}
"""API service → columns (without ``enable``); not the internal ones (doveadm, quota-status, …)."""

YES_NO_COLUMNS: Final = frozenset({"sogowebmail", "sogocalendar", "sogoactivesync"})
"""Columns with the values ``y`` and ``n``, which SOGo reads; all others have 1 and 0."""

INTERNAL: Final = frozenset(
    {"internal", "doveadm", "lib-storage", "indexer-worker", "dsync", "quota-status"}
)
"""Services of Dovecot's own processes: every user has them, and no request removes them."""
CONDITIONS: Final = frozenset(
    {"mail", "forward", "senderbcc", "recipientbcc", "shadowaddress"}
    | {"displayedinglobaladdressbook"}
)
"""Services that Postfix and address books look up in LDAP entries; SQL has no columns for them.

A reset (``services``) keeps them: a client that sends the list of a user's logins, as for SQL,
would otherwise stop all mail of the user. ``removeService`` removes them.
"""
LDAP_DEFAULT: Final = CONDITIONS | {"smtptls", "managesievetls"}
"""Services without a column that a new user's entry in LDAP has."""
# Services of LDAP without a column: Dovecot reads ``smtptls`` where SQL has ``smtpsecured``.
_ALSO_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "smtpsecured": ("smtptls",),
    "managesievetls": ("managesievetls",),
}
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ADMIN: Final = "domainadmin"
HELD: Final = "suspended"
HELD_WITH_DOMAIN: Final = "domainsuspended"
"""Words of suspended users in LDAP, alone and before ``-`` and the name of a service that waits."""

MANAGED: Final = frozenset(column for columns in COLUMNS.values() for column in columns)

# Columns to disable together with iRedAdmin's "disabled mail services" of a domain. iRedAdmin knows
# neither the TLS columns nor Dovecot's sieve names; without them the service would stay usable.
_ALSO_DISABLED: Final[dict[str, tuple[str, ...]]] = {
    "imapsecured": ("imaptls",),
    "pop3secured": ("pop3tls",),
    "managesieve": ("sieve",),
    "managesievesecured": ("sievesecured", "sievetls"),
}


def columns(services: Iterable[str]) -> frozenset[str]:
    """Return the columns of API services; unknown names are ignored (as specified)."""
    return frozenset(column for name in services for column in COLUMNS.get(name, ()))


def split_names(names: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the columns of services, and the services without a column (LDAP accepts any word).

    ``domainadmin`` and internal services are left out: clients cannot set them.
    """
    columns_, words = set[str](), set[str]()
    for name in names:
        words.update(_ALSO_WORDS.get(name, ()))
        if name in COLUMNS or name in MANAGED:
            columns_.update(COLUMNS.get(name, (name,)))
        elif name not in INTERNAL and name != _ADMIN:
            words.add(name)
    return frozenset(columns_), frozenset(words)


def is_mark(name: str) -> bool:
    """Tell whether a word in an LDAP entry says what is suspended: only ``suspend`` sets these."""
    return any(name == mark or name.startswith(f"{mark}-") for mark in (HELD, HELD_WITH_DOMAIN))


def without_mark(word: str) -> tuple[str, str]:
    """Split a word in an LDAP entry into its mark with a hyphen, or nothing, and a service."""
    for mark in (HELD, HELD_WITH_DOMAIN):
        if word[: len(mark) + 1].lower() == f"{mark}-":
            return word[: len(mark) + 1].lower(), word[len(mark) + 1 :]
    return "", word


def malformed(names: Iterable[str]) -> list[str]:
    """Return the names that are no valid services in LDAP."""
    return [name for name in names if not _WORD.fullmatch(name)]


def revised(
    present: frozenset[str], words: frozenset[str], changes: Mapping[str, Any]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return columns and other words after a reset, or after removals and then additions."""
    if "services" in changes:
        columns_, named = split_names(changes["services"])
        return columns_, (words & CONDITIONS) | named
    removed, removed_words = split_names(changes.get("remove_service", ()))
    added, added_words = split_names(changes.get("add_service", ()))
    return (present - removed) | added, (words - removed_words) | added_words


def disabled_at_creation(services: Iterable[str]) -> frozenset[str]:
    """Return the columns that are off for new users of a domain that disables these services."""
    return frozenset(
        column
        for name in services
        for column in (*COLUMNS.get(name, ()), *_ALSO_DISABLED.get(name, ()))
    )


def service_names(enabled: Iterable[str], present: Iterable[str]) -> list[str]:
    """Return the API names of services whose columns, as far as they exist, are all enabled."""
    on, there = set(enabled), set(present)
    return [
        name
        for name, needed in COLUMNS.items()
        if there.intersection(needed) and there.intersection(needed) <= on
    ]


def custom(enabled: Iterable[str]) -> frozenset[str]:
    """Return the services of an LDAP entry that SQL has no column for."""
    return frozenset(enabled) - MANAGED - INTERNAL - {_ADMIN}
