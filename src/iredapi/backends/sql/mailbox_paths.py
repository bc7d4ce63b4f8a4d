"""Paths of mailboxes, and ``deleted_mailboxes``: those that a cron job will remove from disk."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, String, func, literal, or_, select

from iredapi.backends.protocols.values import Removal
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.database.repository import now
from iredapi.domain.mailbox_paths import MAX_PATH, overlap


async def queue_for_removal(
    store: AccountRepository, removal: Removal, *where: ColumnElement[bool]
) -> None:
    """Copy mailbox paths and sizes into ``deleted_mailboxes``: a cron job removes them later.

    A path that is too long for the column is not queued and stays on disk.
    """
    m, q = t.mailbox.c, store.quota_table.c
    columns: dict[str, Any] = {
        "timestamp": literal(now(), t.deleted_mailboxes.c.timestamp.type),
        "username": m.username,
        "domain": m.domain,
        "maildir": store.mailbox_path(),
        "bytes": func.coalesce(q.bytes, 0),
        "messages": func.coalesce(q.messages, 0),
        "admin": literal(removal.by, String(255)),
        "delete_date": literal(removal.delete_after, t.deleted_mailboxes.c.delete_date.type),
    }
    columns = store.schema.values(t.deleted_mailboxes, columns)
    source = (
        select(*(value.label(name) for name, value in columns.items()))
        .select_from(t.mailbox.outerjoin(store.quota_table, q.username == m.username))
        .where(*where, func.length(store.mailbox_path()) <= MAX_PATH)
    )
    await store.run(t.deleted_mailboxes.insert().from_select(list(columns), source))


def normalised(path: ColumnElement[Any]) -> ColumnElement[str]:
    """Return SQL for a path in the form in which paths are compared."""
    return func.lower(func.replace(path, "//", "/"))


async def overlapping(
    store: AccountRepository, path: str, *, but: str = "", queued: bool = True
) -> list[str]:
    """Return paths of existing and queued mailboxes that equal, contain or are inside a path."""
    parts = path.strip("/").split("/")
    above = ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    found: list[str] = []
    places = [(normalised(store.mailbox_path()), t.mailbox.c.username != but)]
    if queued:
        waiting = t.deleted_mailboxes.c.maildir
        places.append((normalised(waiting), waiting != ""))
    for column, condition in places:
        found += await store.column(
            select(column).where(
                condition,
                or_(
                    column.in_(above),
                    column.in_([f"{directory}/" for directory in above]),
                    column.startswith(f"{path}/", autoescape=True),
                ),
            )
        )
    return [other for other in found if overlap(other.rstrip("/"), path)]


async def unqueue(store: AccountRepository, path: str) -> None:
    """Remove a directory from the queue: an existing mailbox uses it again."""
    maildir = normalised(t.deleted_mailboxes.c.maildir)
    await store.delete(t.deleted_mailboxes, maildir.in_([path, f"{path}/"]))
