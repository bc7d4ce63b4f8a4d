"""Tables about mailboxes in the ``iredadmin`` database: an LDAP deployment has no ``vmail``.

Dovecot counts quotas and logins there and looks up shared folders. A cron job of iRedMail removes
the mailboxes in ``deleted_mailboxes``. Tables that do not exist are treated as empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    MetaData,
    Table,
    func,
    or_,
    select,
    update,
)

from iredapi.backends.ldap.mailbox_sizes import MailboxSizes, Used
from iredapi.backends.policies.tables import iredadmin_metadata
from iredapi.backends.protocols.values import Removal
from iredapi.backends.sql import tables as t
from iredapi.database.dialect import domain_of
from iredapi.database.repository import now
from iredapi.database.session import Connections
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.domain.mailbox_paths import MAX_PATH, overlap

_TABLES = (t.deleted_mailboxes, t.used_quota, t.last_login, t.share_folder, t.anyone_shares)
_NAME = "iredadmin"
_Days = Mapping[int, date | None]
"""Days after which mailboxes may be removed from disk, by the ids of their rows."""


def _combined() -> MetaData:
    found = MetaData()
    ours = {table.name: table for table in _TABLES}
    for table in (iredadmin_metadata.tables | ours).values():
        table.to_metadata(found)
    for table in _TABLES:
        # An old iRedAdmin may lack one of them; "since" makes it optional.
        found.tables[table.name].info.setdefault("since", "1.0")
    return found


metadata = _combined()
"""The tables of ``iredadmin`` when accounts are in LDAP."""


class IredadminAccounts(MailboxSizes):
    """The rows of mail users in ``iredadmin``."""

    def __init__(self, connections: Connections, quota_table: Table) -> None:
        super().__init__(connections, quota_table)
        self._held = set[str]()
        """Directories in the queue that an account gets."""

    # -- deleted mailboxes -------------------------------------------------------------------------

    async def queue(
        self, domain: str, paths: Mapping[str, str], removal: Removal, moment: datetime
    ) -> None:
        """Add mailboxes (path by address) to ``deleted_mailboxes``, without a date for removal.

        Without a date they are kept for ever. A path too long for the column is left out.
        """
        fitting = {mail: path for mail, path in paths.items() if path and len(path) <= MAX_PATH}
        if not fitting or not await self.has(t.deleted_mailboxes):
            return
        schema = await self._connections.databases[_NAME].schema()
        used = await self.used(fitting)
        rows = [
            schema.values(
                t.deleted_mailboxes,
                {
                    "timestamp": moment,
                    "username": mail,
                    "domain": domain,
                    "maildir": path,
                    "bytes": used.get(mail, Used()).bytes,
                    "messages": used.get(mail, Used()).messages,
                    "admin": removal.by,
                    "delete_date": None,
                },
            )
            for mail, path in sorted(fitting.items())
        ]
        await self.run(t.deleted_mailboxes.insert(), rows)

    async def date(self, domain: str, removal: Removal, moment: datetime) -> None:
        """Set the removal date of mailboxes queued at ``moment``, once the accounts are removed."""
        if removal.delete_after is None or not await self.has(t.deleted_mailboxes):
            return
        d = t.deleted_mailboxes.c
        await self.run(
            update(t.deleted_mailboxes)
            .where(
                d.domain == domain,
                d.timestamp == moment,
                d.admin == removal.by,
                d.delete_date.is_(None),
            )
            .values(delete_date=removal.delete_after)
        )

    async def date_later(self, domain: str, removal: Removal, moment: datetime) -> None:
        """Call ``date`` in a separate transaction."""
        async with self._separately() as tables:
            await tables.date(domain, removal, moment)

    async def unqueue_later(self, mail: str, removal: Removal, moment: datetime) -> None:
        """Delete the row that ``queue`` added at ``moment``, in a separate transaction.

        The account was not removed, so the cron job must not remove its mailbox.
        """
        d = t.deleted_mailboxes.c
        async with self._separately() as tables:
            await tables.delete(
                t.deleted_mailboxes,
                d.username == mail,
                d.timestamp == moment,
                d.admin == removal.by,
                d.delete_date.is_(None),
            )

    @asynccontextmanager
    async def _separately(self) -> AsyncIterator[IredadminAccounts]:
        connections = await self._connections.databases.open(writing=True)
        try:
            yield IredadminAccounts(connections, self._quota)
            await connections.commit()
        finally:
            await connections.close()

    @staticmethod
    def moment() -> datetime:
        """Return the time at which mailboxes are queued: UTC, no fraction, no zone."""
        return now()

    async def near(self, path: str) -> list[str]:
        """Return queued paths that are the directory, contain it, or are inside it."""
        if not await self.has(t.deleted_mailboxes):
            return []
        column = _tidy(t.deleted_mailboxes.c.maildir)
        parts = path.strip("/").split("/")
        above = ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        found = await self.column(
            select(column).where(
                t.deleted_mailboxes.c.maildir != "",
                or_(
                    column.in_([*above, *(f"{directory}/" for directory in above)]),
                    column.startswith(f"{path}/", autoescape=True),
                ),
            )
        )
        others = (other for other in found if other.rstrip("/") not in self._held)
        return [other for other in others if overlap(other.rstrip("/"), path)]

    async def queued(self, mail: str) -> list[str]:
        """Return the queued paths of an address."""
        if not await self.has(t.deleted_mailboxes):
            return []
        d = t.deleted_mailboxes.c
        found: list[str] = await self.column(select(_tidy(d.maildir)).where(d.username == mail))
        return found

    async def all_queued(self, mails: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return the queued paths of each of some addresses."""
        if not await self.has(t.deleted_mailboxes):
            return {}
        d = t.deleted_mailboxes.c
        rows = await self.row_objects(
            select(d.username, _tidy(d.maildir).label("path")).where(d.username.in_(mails))
        )
        found: dict[str, frozenset[str]] = {}
        for row in rows:
            found[row.username] = found.get(row.username, frozenset()) | {row.path}
        return found

    async def hold(self, path: str) -> _Days:
        """Keep exactly this directory for ever; return the days of its rows, by their ids.

        An account gets its mailbox there. It is in another system: until it exists, the rows stay.
        """
        if not await self.has(t.deleted_mailboxes):
            return {}
        d = t.deleted_mailboxes.c
        own = _tidy(d.maildir).in_([path, f"{path}/"])
        rows = await self.row_objects(select(d.id, d.delete_date).where(own).with_for_update())
        held = {int(row.id): row.delete_date for row in rows}
        await self.run(update(t.deleted_mailboxes).where(own).values(delete_date=None))
        self._held.add(path)
        return held

    async def unqueue_held_later(self, held: _Days) -> None:
        """Delete the rows of ``hold``, in a separate transaction: the account exists."""
        d = t.deleted_mailboxes.c
        async with self._separately() as tables:
            await tables.delete(t.deleted_mailboxes, d.id.in_([*held]))

    async def release_held_later(self, held: _Days) -> None:
        """Give the rows of ``hold`` their days back, in a separate transaction."""
        d = t.deleted_mailboxes.c
        async with self._separately() as tables:
            for number, day in held.items():
                mine = (d.id == number, d.delete_date.is_(None))
                await tables.run(update(t.deleted_mailboxes).where(*mine).values(delete_date=day))

    # -- removed and renamed accounts --------------------------------------------------------------

    async def forget(self, mail: str) -> None:
        """Remove the rows of a user."""
        s, a = t.share_folder.c, t.anyone_shares.c
        for table in (self._quota, t.last_login):
            await self.delete(table, table.c.username == mail)
        await self.delete(t.share_folder, or_(s.from_user == mail, s.to_user == mail))
        await self.delete(t.anyone_shares, a.from_user == mail)

    async def forget_domain(self, names: Sequence[str]) -> None:
        """Remove the rows of all users of a domain and its alias domains."""
        s, a = t.share_folder.c, t.anyone_shares.c
        for table in (self._quota, t.last_login):
            await self.delete(
                table, or_(table.c.domain.in_(names), domain_of(table.c.username).in_(names))
            )
        await self.delete(
            t.share_folder,
            or_(domain_of(s.from_user).in_(names), domain_of(s.to_user).in_(names)),
        )
        await self.delete(t.anyone_shares, domain_of(a.from_user).in_(names))

    async def rename(self, old: str, new: str) -> None:
        """Rename the rows of a user; rows that the new address has already are removed first."""
        await self.forget(new)
        # Dovecot's triggers do not act on UPDATE, so the domain is written too.
        for table in (self._quota, t.last_login):
            await self._rename(table, "username", old, new, domain=domain_part(new))
        await self._rename(t.share_folder, "from_user", old, new)
        await self._rename(t.share_folder, "to_user", old, new)
        await self._rename(t.anyone_shares, "from_user", old, new)

    async def _rename(self, table: Table, column: str, old: str, new: str, **more: str) -> None:
        if await self.has(table):
            await self.run(
                update(table).where(table.c[column] == old).values({column: new, **more})
            )


def _tidy(path: Any) -> Any:
    return func.lower(func.replace(path, "//", "/"))
