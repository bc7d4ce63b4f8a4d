"""Recognises SQL text that only reads: a connection for reading refuses all other statements."""

from __future__ import annotations

import re
from typing import Any, Final

from iredapi.errors import WriteWhileReading

OPTION: Final = "iredapi_read_only"
"""The execution option of an SQLAlchemy connection that refuses to write."""
_READS: Final = re.compile(r"\s*(?:SELECT|WITH|PRAGMA|SHOW|VALUES)\b", re.IGNORECASE)
_WRITES_WITH: Final = re.compile(
    r"\s*WITH\b.*\b(?:INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|REPLACE\s+INTO)\b",
    re.IGNORECASE | re.DOTALL,
)
_LOCKS: Final = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b|\bLOCK\s+IN\s+SHARE\s+MODE\b",
    re.IGNORECASE,
)


def locks_rows(sql: str) -> bool:
    """Tell whether a SELECT locks the rows that it finds: it ends with a locking clause."""
    return bool(_LOCKS.search(sql, max(len(sql) - 100, 0)))


def only_reads(sql: str) -> bool:
    """Tell whether a statement changes and locks nothing.

    An unknown statement counts as a write. So does a lock: it lasts as long as its transaction, and
    reads have none; MariaDB refuses locks in a READ ONLY session.
    """
    return bool(_READS.match(sql)) and not _WRITES_WITH.match(sql) and not locks_rows(sql)


def refuse_writes(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    """Listen to ``before_cursor_execute`` of an engine whose connections have ``OPTION``."""
    if connection.get_execution_options().get(OPTION) and not only_reads(sql):
        raise WriteWhileReading(sql)
