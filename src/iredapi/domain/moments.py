"""Times in responses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def utc_text(epoch: Any) -> str | None:
    """Return seconds since the epoch as text in UTC; None for 0 and for invalid times."""
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else None
    except (OverflowError, OSError, ValueError, TypeError):
        return None
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
