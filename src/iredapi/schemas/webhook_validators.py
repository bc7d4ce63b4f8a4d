"""Validators of parameters of webhooks; see ``field_validators``."""

from __future__ import annotations

from typing import Any

from iredapi.domain import http_urls
from iredapi.domain.change_events import KINDS
from iredapi.schemas.field_validators import fail, filled, words_of


def url(value: Any) -> str:
    """Return a URL in its normal form."""
    text = filled(value)
    try:
        return str(http_urls.parse(text))
    except ValueError as error:
        fail("INVALID_URL", f"{str(error)[:1].upper()}{str(error)[1:]}.")


kinds = words_of(KINDS)
"""Kinds of events; empty: all."""
