"""Mail services of a user: the API's names and the ``enable…`` columns behind them.

Dovecot asks ``enable<protocol><security>`` with its own protocol names, so some API names stand for
several columns: ManageSieve is ``sieve`` to Dovecot, and ``deliver`` has to stop LDA and LMTP too.
There is no ``enablesmtptls``: submission over TLS is ``smtpsecured``.
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
"""API service → columns (without ``enable``). Internal ones (doveadm, quota-status, …) never."""

YES_NO_COLUMNS: Final = frozenset({"sogowebmail", "sogocalendar", "sogoactivesync"})
"""Columns that hold ``y``/``n``, as SOGo wants them; all others hold 1/0."""

INTERNAL: Final = frozenset(
    {"internal", "doveadm", "lib-storage", "indexer-worker", "dsync", "quota-status"}
)
"""What Dovecot's own processes ask for: every user has them, nobody takes them away."""
CONDITIONS: Final = frozenset(
    {"mail", "forward", "senderbcc", "recipientbcc", "shadowaddress"}
    | {"displayedinglobaladdressbook"}
)
"""What Postfix and the address books ask an entry in LDAP for; in SQL nothing stands for these.

A reset (``services``) does not take them: what is a list of logins to a client that knows SQL too
would stop all mail of the user. Naming one in ``removeService`` does.
"""
LDAP_DEFAULT: Final = CONDITIONS | {"smtptls", "managesievetls"}
"""What a user's entry in LDAP has besides."""
# Words of LDAP without a column: Dovecot asks there for ``smtptls`` where SQL has ``smtpsecured``.
_ALSO_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "smtpsecured": ("smtptls",),
    "managesievetls": ("managesievetls",),
}
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ADMIN: Final = "domainadmin"

MANAGED: Final = frozenset(column for columns in COLUMNS.values() for column in columns)

# What the panel's per-domain "disabled mail services" must also switch off for new users: it knows
# neither the TLS columns nor Dovecot's sieve names, and disabling only what it names stops nobody.
_ALSO_DISABLED: Final[dict[str, tuple[str, ...]]] = {
    "imapsecured": ("imaptls",),
    "pop3secured": ("pop3tls",),
    "managesieve": ("sieve",),
    "managesievesecured": ("sievesecured", "sievetls"),
}


def columns(services: Iterable[str]) -> frozenset[str]:
    """Return the columns behind API service names; unknown names have none (as specified)."""
    return frozenset(column for name in services for column in COLUMNS.get(name, ()))


def split_names(names: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the columns and the further words behind names, where any word is a service.

    What is not a client's to give or take (``internal``, ``domainadmin``) is left out.
    """
    columns_, words = set[str](), set[str]()
    for name in names:
        words.update(_ALSO_WORDS.get(name, ()))
        if name in COLUMNS or name in MANAGED:
            columns_.update(COLUMNS.get(name, (name,)))
        elif name not in INTERNAL and name != _ADMIN:
            words.add(name)
    return frozenset(columns_), frozenset(words)


def malformed(names: Iterable[str]) -> list[str]:
    """Return the names that cannot be words in LDAP."""
    return [name for name in names if not _WORD.fullmatch(name)]


def revised(
    present: frozenset[str], words: frozenset[str], changes: Mapping[str, Any]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return columns and further words after ``services``, or removals and then additions."""
    if "services" in changes:
        columns_, named = split_names(changes["services"])
        return columns_, (words & CONDITIONS) | named
    gone, gone_words = split_names(changes.get("remove_service", ()))
    come, come_words = split_names(changes.get("add_service", ()))
    return (present - gone) | come, (words - gone_words) | come_words


def disabled_at_creation(services: Iterable[str]) -> frozenset[str]:
    """Return the columns that are off for a new user whose domain disables these services."""
    return frozenset(
        column
        for name in services
        for column in (*COLUMNS.get(name, ()), *_ALSO_DISABLED.get(name, ()))
    )


def service_names(enabled: Iterable[str], present: Iterable[str]) -> list[str]:
    """Return the API names that are on: all of a service's columns that exist are on."""
    on, there = set(enabled), set(present)
    return [
        name
        for name, needed in COLUMNS.items()
        if there.intersection(needed) and there.intersection(needed) <= on
    ]


def custom(enabled: Iterable[str]) -> frozenset[str]:
    """Return the words of an LDAP entry that SQL has no column for."""
    return frozenset(enabled) - MANAGED - INTERNAL - {_ADMIN}
