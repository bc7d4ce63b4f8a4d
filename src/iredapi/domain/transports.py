"""Postfix transports and relay hosts: what may be stored in which form.

Postfix copies these values into its next hop, so they are matched whole: a newline, a blank or a
trailing word would change where mail goes.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from iredapi.domain import addresses

_TRANSPORT = re.compile(r"[A-Za-z0-9_-]+(?::[!-~]*)?")
_PATH = re.compile(r"[A-Za-z0-9_./-]+")
_PREFIX = re.compile(r"(?:smtp|relay|lmtp):", re.IGNORECASE)
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_UNICODE_HOST = re.compile(r"[^\[\]:,/\s]*[^\x00-\x7f][^\[\]:,/\s]*")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_PLAIN = re.compile(r"([^\[\]:]+)(?::([0-9]{1,5}))?")
LOCAL: Final = frozenset({"dovecot", "lmtp:unix:private/dovecot-lmtp", "lmtp:inet:127.0.0.1:24"})
_ORDINARY: Final = ("smtp:", "relay:", "lmtp:")
MAX_LENGTH = 255


class InvalidTransport(ValueError):
    """Not a transport or relay host that Postfix would understand."""


def with_ascii_hosts(text: str) -> str:
    """Return the text with the names of hosts as Postfix asks the DNS for them (IDNA 2008)."""
    if text.isascii():
        return text
    try:
        return _UNICODE_HOST.sub(lambda found: addresses.existing_domain(found[0]), text)
    except addresses.InvalidAddress:
        raise InvalidTransport("not a host name or address") from None


def transport(text: str) -> str:
    """Return a ``name`` or ``name:nexthop`` of a Postfix transport(5) table."""
    value = text.strip()
    if len(value) > MAX_LENGTH or not _TRANSPORT.fullmatch(value):
        raise InvalidTransport("not a Postfix transport such as dovecot or smtp:[192.0.2.1]:25")
    return value


def is_ordinary(value: str) -> bool:
    """Tell whether normal admins may use it.

    Only local delivery, ``smtp:``, ``relay:`` and ``lmtp:`` over the network. Pipes to programs,
    ``error:`` and ``discard:`` would be a way around the server's policy, and a ``unix:`` socket
    other than Dovecot's one to its inner services.
    """
    lowered = value.lower()
    if lowered in LOCAL:
        return True
    return lowered.startswith(_ORDINARY) and not lowered.startswith("lmtp:unix:")


def _address(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise InvalidTransport("not a host name or address")
    if text.replace(".", "").isdigit():
        raise InvalidTransport("not an IP address")
    return text.lower()


def _port(text: str | None) -> str:
    if text is None:
        return ""
    if not 1 <= int(text) <= 65535:
        raise InvalidTransport("not a port number")
    return f":{int(text)}"


def _ipv6(text: str) -> str | None:
    """Postfix writes IPv6 next hops as ``[2001:db8::1]``; ``[ipv6:…]`` is understood too."""
    return _address(text.removeprefix("ipv6:").removeprefix("IPv6:").removeprefix("IPV6:"))


def next_hop(text: str) -> str:
    """Return ``host``, ``host:port``, ``[host]``, ``[host]:port``, IP addresses in brackets."""
    value = text.strip()
    if len(value) > MAX_LENGTH - len("relay:"):
        raise InvalidTransport("too long")
    if bare := _address(value):
        return f"[{bare}]"
    if bracketed := _BRACKETED.fullmatch(value):
        inner = _ipv6(bracketed[1]) or _host(bracketed[1])
        return f"[{inner}]{_port(bracketed[2])}"
    if plain := _PLAIN.fullmatch(value):
        if bare := _address(plain[1]):
            return f"[{bare}]{_port(plain[2])}"
        return f"{_host(plain[1])}{_port(plain[2])}"
    raise InvalidTransport("not a host, [host], host:port or [host]:port")


def outbound_relay(text: str, *, keep_prefix: bool = False) -> str:
    """Return what ``sender_relayhost.relayhost`` holds.

    ``sender_dependent_relayhost_maps`` knows no ``transport:`` part: Postfix would read
    ``smtp:[192.0.2.1]`` as a host named ``smtp``, so one leading ``smtp:``, ``relay:`` or ``lmtp:``
    is dropped (unless a setting keeps it).
    """
    value = text.strip()
    if value.upper() == "DUNNO":
        return "DUNNO"
    prefix = _PREFIX.match(value)
    rest = next_hop(value[prefix.end() :] if prefix else value)
    return f"{prefix[0].lower()}{rest}" if prefix and keep_prefix else rest


def backup_mx(primary: str) -> str:
    """Return the transport of a backup MX; empty: Postfix asks the DNS for the primary."""
    return f"relay:{next_hop(primary)}" if primary else "relay:"


def is_server(domain: str, hostname: str) -> bool:
    """Tell whether the domain is the mail server's own name, which is in ``mydestination``."""
    try:
        return bool(hostname) and domain == addresses.domain_name(hostname)
    except addresses.InvalidAddress:
        return False
