"""Pure judgements of stored values, and the right value where there is one.

Shared by the checks of SQL and LDAP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from iredapi.config.settings import Settings
from iredapi.doctor.probes import Row
from iredapi.domain import transports
from iredapi.domain.addresses import strange_characters

INTERNAL_SERVICES: Final = ("internal", "doveadm", "lib-storage", "quota-status", "indexer-worker")
"""Services that Dovecot itself uses; columns ``enable…`` of ``mailbox``."""


def refused_name(mail: str, settings: Settings) -> str | None:
    """Return the characters of an address that Dovecot refuses in user names, or None."""
    return " ".join(strange_characters(mail, settings.auth_username_chars)) or None


def sogo_switch(name: str) -> Callable[[Row], dict[str, Any]]:
    """Return the repair of a SOGo column that holds 0 or 1: ``n`` or ``y``."""
    return lambda row: {name: "n" if row["switch"] == "0" else "y"}


def unreadable_setting(settings: str | None) -> str | None:
    """Return the first item that iRedAdmin cannot split into a key and a value, or None."""
    for item in (settings or "").split(";"):
        if item.strip() and item.count(":") != 1:
            return item.strip()[:40]
    return None


def bracketed(transport: str) -> str:
    """Return a transport with its IP address in brackets; others unchanged."""
    name, _, rest = transport.partition(":")
    try:
        return f"{name}:{transports.next_hop(rest)}"
    except transports.InvalidTransport:
        return transport


def transport_with_bare_address(row: Row) -> str | None:
    """Return the transport of a row if it names an IP address without brackets."""
    transport: str = row["transport"]
    _, _, rest = transport.partition(":")
    return transport if "[" not in rest and "[" in bracketed(transport) else None


def without_prefix(relay: str) -> str | None:
    """Return a relay host without the transport before it; None: nothing to remove."""
    before, _, rest = relay.partition(":")
    # smtp:25 means port 25 of a host named smtp.
    if before.lower() not in {"smtp", "relay", "lmtp"} or rest.isdigit():
        return None
    try:
        return transports.outbound_relay(relay)
    except transports.InvalidTransport:
        return None


def relay_with_prefix(row: Row) -> str | None:
    """Return the relay host of a row if a transport's name stands before it."""
    value: str = row["relayhost"]
    return None if without_prefix(value) is None else value
