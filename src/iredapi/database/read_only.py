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


def only_reads(sql: str) -> bool:
    """Tell whether a statement changes nothing; what is not known to read counts as a write."""
    return bool(_READS.match(sql)) and not _WRITES_WITH.match(sql)


def refuse_writes(connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    """Listen to ``before_cursor_execute`` of an engine whose connections have ``OPTION``."""
    if connection.get_execution_options().get(OPTION) and not only_reads(sql):
        raise WriteWhileReading(sql)
