"""A connection of SQLite that releases its locks when it is closed, also after a cancelled read."""

from __future__ import annotations

import sqlite3


class Connection(sqlite3.Connection):
    """A connection that ends its transaction before it is closed.

    SQLite keeps a closed connection, with its transaction and the write lock, as long as a cursor
    with unread rows exists. After a cancelled request there is one: the exception refers to the
    frames, and these to the cursor.
    """

    def close(self) -> None:
        """Roll back, then close."""
        if self.in_transaction:
            self.rollback()
        super().close()
