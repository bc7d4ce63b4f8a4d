"""What SQLite needs for being left in the middle."""

from __future__ import annotations

import sqlite3


class Connection(sqlite3.Connection):
    """Gives up its locks when it is closed.

    A connection that is closed while one of its SELECTs is not read to its end lives on as long as
    somebody holds the cursor, with its transaction and the write lock. That is what a cancelled
    request leaves behind: its exception holds the frames, and these the cursor.
    """

    def close(self) -> None:
        """Roll back, then close."""
        if self.in_transaction:
            self.rollback()
        super().close()
