"""Validators of parameters about deleted mailboxes; see ``field_validators``."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from pydantic_core import PydanticCustomError

from iredapi.schemas.field_validators import fail, filled, yes_no

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAX_DIGITS = 18


def yes(value: Any) -> bool:
    return yes_no(value) or fail("INVALID_VALUE", "Only yes is expected.")


def restore(value: Any) -> str:
    """Parse "yes", or the id of a deleted mailbox; "no" is the empty text."""
    text = filled(value)
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text):
        return str(int(text))
    try:
        return "yes" if yes_no(value) else ""
    except PydanticCustomError:
        fail("INVALID_VALUE", "yes, no, or the id of a deleted mailbox is expected.")


def day(value: Any) -> date:
    """Parse a date such as ``2026-12-31``."""
    text = filled(value)
    try:
        return date.fromisoformat(text if _DATE.fullmatch(text) else "")
    except ValueError:
        fail("INVALID_VALUE", "A date such as 2026-12-31 is expected.")
