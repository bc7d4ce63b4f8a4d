"""Which SQL text only reads: what a connection that was opened for reading lets pass."""

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
    """Tell whether a SELECT locks the rows that it finds: it ends with the words for it."""
    return bool(_LOCKS.search(sql, max(len(sql) - 100, 0)))


def only_reads(sql: str) -> bool:
    """Tell whether a statement changes and locks nothing.

    What is not known to read counts as a write. (A lock lasts as long as its transaction: reads
    have none, and MariaDB refuses it where a session is READ ONLY.)
    """
    return bool(_READS.match(sql)) and not _WRITES_WITH.match(sql) and not locks_rows(sql)


def refuse_writes(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    """Listen to ``before_cursor_execute`` of an engine whose connections have ``OPTION``."""
    if connection.get_execution_options().get(OPTION) and not only_reads(sql):
        raise WriteWhileReading(sql)
