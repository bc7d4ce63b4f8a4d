"""Entries as answers show them: LDAP's names and lists of texts, which existing clients rely on."""

from __future__ import annotations

import base64
from typing import Any

from iredapi.backends.ldap import settings_values
from iredapi.backends.ldap.client import Entry
from iredapi.backends.ldap.session import words
from iredapi.backends.protocols import Profile


def shown(entry: Entry) -> Profile:
    """Return all attributes of an entry: lists, sorted; what is no text is base64."""
    found: dict[str, Any] = {
        name: sorted(_text(value) for value in values)
        for name, values in sorted(entry.attributes.items())
        if name.lower() != settings_values.ATTRIBUTE.lower()
    }
    found[settings_values.ATTRIBUTE] = settings_values.shown(
        entry.values(settings_values.ATTRIBUTE)
    )
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def domain_profile(entry: Entry, catchall: Entry | None) -> Profile:
    """Return a domain, with the destinations of its catch-all account."""
    targets = [] if catchall is None else sorted(words(catchall, "mailForwardingAddress"))
    return shown(entry) | {"catchall": targets}
