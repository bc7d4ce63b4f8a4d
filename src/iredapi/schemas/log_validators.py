"""Validators of parameters of the log; see ``field_validators``."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any

from iredapi.domain import log
from iredapi.schemas.field_validators import fail, filled, printable_text, some_words_of

events = some_words_of(log.EVENTS)


def admin_name(value: Any) -> str:
    return printable_text(255)(filled(value))


def client_address(value: Any) -> tuple[str, ...]:
    """Parse an IP address; return how it may be written in a log."""
    text = filled(value)
    try:
        found = ip_address("" if "%" in text else text)  # no zone of IPv6
    except ValueError:
        fail("INVALID_NETWORK", "An IP address is expected.")
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    if mapped is not None:
        found = mapped
    forms = [text.lower(), str(found), found.exploded]
    if found.version == 4:
        forms.append(f"::ffff:{found}")
    return tuple(dict.fromkeys(forms))
