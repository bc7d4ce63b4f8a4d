"""Statements that a test has heard (``query_counter.listening``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_CLOCKED: Final = (
    "settings.k",  # the panel's settings: each second
    "information_schema", "pragma_table_info", "< 'B'",  # the tables: every 30 seconds
    "written_servers",  # which server takes writes: once a minute
    "BEGIN IMMEDIATE",  # the details of the log in SQLite: every 0.2 seconds
    "journal.id",  # a service on OpenLDAP that another test runs in this process: every 15 seconds
)  # fmt: skip


def unclocked(heard: Iterable[str]) -> list[str]:
    """Return the statements without those of which the clock decides when they are sent."""
    return [sql for sql in heard if not any(word in sql for word in _CLOCKED)]
