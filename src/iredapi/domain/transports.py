"""Postfix transports and relay hosts: their syntax, and which of them normal admins may set.

Postfix uses these values as next hop. The whole value must match: a newline, a blank or a trailing
word would change the destination of mail.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
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
_MAIL_PORTS: Final = frozenset({25, 465, 587, 2525})
_LOCAL_NAMES: Final = frozenset({"localhost", "localdomain", "localhost6", "localdomain6"})
"""Names and top-level domains that mean this host (RFC 6761 and /etc/hosts)."""
MAX_LENGTH = 255


class InvalidTransport(ValueError):
    """The text is not a transport or relay host that Postfix understands."""


def with_ascii_hosts(text: str) -> str:
    """Return the text with host names in punycode, as Postfix looks them up (IDNA 2008)."""
    if text.isascii():
        return text
    try:
        return _UNICODE_HOST.sub(lambda found: addresses.existing_domain(found[0]), text)
    except addresses.InvalidAddress:
        raise InvalidTransport("not a host name or address") from None


def transport(text: str) -> str:
    """Parse ``name`` or ``name:nexthop`` of a Postfix transport(5) table."""
    value = text.strip()
    if len(value) > MAX_LENGTH or not _TRANSPORT.fullmatch(value):
        raise InvalidTransport("not a Postfix transport such as dovecot or smtp:[192.0.2.1]:25")
    return value


def is_ordinary(value: str, hostname: str = "") -> bool:
    """Tell whether normal admins may set a transport (ADR 13); ``hostname`` is this server's.

    Allowed are local delivery, and ``smtp:``, ``relay:`` and ``lmtp:`` to the mail port of another
    host. Pipes to programs, ``error:`` and ``discard:`` would bypass the server's policy; a
    ``unix:`` socket other than Dovecot's, or a port on loopback, would reach internal services.
    """
    lowered = value.lower()
    if lowered in LOCAL:
        return True
    if not lowered.startswith(_ORDINARY):
        return False
    name, _, hops = lowered.partition(":")
    ports = _MAIL_PORTS
    if name == "lmtp":
        hops, ports = hops.removeprefix("inet:"), _MAIL_PORTS | {24}
    # Without a next hop Postfix looks up the recipient's domain.
    return not hops or all(is_outside(hop, hostname, ports) for hop in hops.split(","))


def is_outside(hop: str, hostname: str = "", ports: Collection[int] = ()) -> bool:
    """Tell whether the text of a next hop names the mail port of another host.

    A name may still resolve to this host. Then only mail ports can be reached, which are open to
    everybody.
    """
    try:
        text = next_hop(hop)
    except InvalidTransport:
        return False
    match = _BRACKETED.fullmatch(text) or _PLAIN.fullmatch(text)
    if match is None or (match[2] and int(match[2]) not in (ports or _MAIL_PORTS)):
        return False
    host = match[1]
    try:
        address = ip_address(host)
    except ValueError:
        return _is_name_of_another(host, hostname)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    local = address.is_loopback or address.is_unspecified or address.is_link_local
    special = address.is_multicast or address.is_reserved
    return not (local or special or str(address).startswith("0."))


def _is_name_of_another(host: str, hostname: str) -> bool:
    labels = host.split(".")
    # ``db`` is a name of the local network; some resolvers read 0x7f.0.0.1 as an address.
    if len(labels) < 2 or labels[-1].isdigit() or labels[-1].startswith("0x"):
        return False
    if labels[-1] in _LOCAL_NAMES:
        return False
    return not is_server(host, hostname)


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
    """Parse an IP address in brackets; Postfix reads ``[2001:db8::1]`` and ``[ipv6:…]``."""
    return _address(text.removeprefix("ipv6:").removeprefix("IPv6:").removeprefix("IPV6:"))


def next_hop(text: str) -> str:
    """Parse a next hop: ``host`` or ``[host]``, optionally ``:port``; brackets IP addresses."""
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
    """Parse a relay host into the value of ``sender_relayhost.relayhost``.

    ``sender_dependent_relayhost_maps`` has no ``transport:`` part: Postfix would read
    ``smtp:[192.0.2.1]`` as a host named ``smtp``. A leading ``smtp:``, ``relay:`` or ``lmtp:`` is
    removed (unless a setting keeps it).
    """
    value = text.strip()
    if value.upper() == "DUNNO":
        return "DUNNO"
    prefix = _PREFIX.match(value)
    rest = next_hop(value[prefix.end() :] if prefix else value)
    return f"{prefix[0].lower()}{rest}" if prefix and keep_prefix else rest


def is_same_relay(text: str, stored: str) -> bool:
    """Tell whether a relay host equals the stored one after normalisation."""
    try:
        return bool(stored) and outbound_relay(text) == outbound_relay(stored)
    except InvalidTransport:
        return text == stored


def backup_mx(primary: str) -> str:
    """Return the transport of a backup MX; without ``primary`` Postfix finds it by DNS."""
    return f"relay:{next_hop(primary)}" if primary else "relay:"


def is_server(domain: str, hostname: str) -> bool:
    """Tell whether a domain is the server's own host name, which is in ``mydestination``."""
    try:
        return bool(hostname) and domain == addresses.domain_name(hostname)
    except addresses.InvalidAddress:
        return False
