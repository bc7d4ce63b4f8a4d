"""iRedAdmin's log, to read: newest first, by the primary key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, false, func, literal, or_, select
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies import tables as t
from iredapi.database.dialect import domain_of
from iredapi.database.errors import is_refused
from iredapi.database.repository import Repository
from iredapi.database.session import Connections
from iredapi.database.text_matching import as_bytes, contains, folded, is_like
from iredapi.domain.log import LogEntry, LogQuery
from iredapi.errors import NotSupported

CreationTimes = Callable[[Collection[str]], Awaitable[Mapping[str, datetime]]]
"""Returns when domains were created (UTC), by their names; those without a date are missing."""
Like = Callable[[ColumnElement[Any], Collection[str]], Awaitable[ColumnElement[bool]]]
"""Returns the condition ``is_like`` for a column with an index."""


class SqlLog(Repository):
    """See ``protocols.log.LogReader``."""

    name = "iredadmin"

    def __init__(self, connections: Connections, created: CreationTimes, like: Like) -> None:
        super().__init__(connections)
        self._created = created
        self._like = like

    async def page(self, wanted: LogQuery, before: int | None, limit: int) -> list[LogEntry]:
        c = t.log.c
        where = await self._conditions(wanted)
        if before is not None:
            where.append(c.id < before)
        chosen = select(
            c.id, c.timestamp, c.admin, c.ip, c.domain, c.username, c.event, c.loglevel, c.msg
        ).where(*where)
        return [_entry(row) for row in await self._read(chosen.order_by(c.id.desc()).limit(limit))]

    async def count(self, wanted: LogQuery) -> int:
        where = await self._conditions(wanted)
        chosen = select(func.count().label("number")).select_from(t.log).where(*where)
        return int((await self._read(chosen))[0]["number"])

    async def created(self, domains: Collection[str]) -> Mapping[str, datetime]:
        return await self._created(domains) if domains else {}

    async def _read(self, chosen: Select[Any]) -> Sequence[Mapping[str, Any]]:
        try:
            return await self.rows(chosen)
        except DBAPIError as error:
            if is_refused(error):
                # A login that may only insert is enough to write the log.
                raise NotSupported(
                    detail="The login of IREDAPI_IREDADMIN_URL may not read the table log."
                ) from error
            raise

    async def _conditions(self, wanted: LogQuery) -> list[ColumnElement[bool]]:
        # Raises NotSupported where the database is not configured.
        c, _ = t.log.c, self.database
        where: list[ColumnElement[bool]] = []
        if wanted.domains is not None:
            own = await self._like(c.domain, wanted.domains) if wanted.domains else false()
            where.append(own)
            if wanted.own and wanted.domains:
                where += self._since_creation(await self._created(wanted.domains))
        if wanted.admin:
            where.append(await self._like(c.admin, [wanted.admin]))
        if wanted.account:
            where.append(await self._like(c.username, [wanted.account]))
        if wanted.events:
            where.append(is_like(c.event, wanted.events))
        if wanted.ips:
            where.append(is_like(c.ip, wanted.ips))
        if wanted.known_to is not None:
            actor = wanted.known_to
            where.append(
                or_(
                    is_like(c.admin, [actor.username]),
                    and_(contains(c.admin, "@"), is_like(domain_of(c.admin), actor.domains))
                    if actor.domains
                    else false(),
                )
            )
        if wanted.since is not None:
            where.append(c.timestamp >= wanted.since)
        if wanted.until is not None:
            where.append(c.timestamp < wanted.until)
        if wanted.search:
            where.append(contains(c.msg, wanted.search))
        return where

    @staticmethod
    def _since_creation(created: Mapping[str, datetime]) -> list[ColumnElement[bool]]:
        """Match entries that are later than the creation of their domain; all times are in UTC.

        Not those of the same second: an earlier domain may have been removed in it.
        """
        if not created:
            return []
        c = t.log.c
        moments = [
            (as_bytes(literal(name)), literal(moment, c.timestamp.type))
            for name, moment in sorted(created.items())
        ]
        born = case(*moments, value=as_bytes(folded(c.domain)), else_=None)
        return [or_(born.is_(None), c.timestamp > born)]


def _entry(row: Mapping[str, Any]) -> LogEntry:
    moment = row["timestamp"]
    return LogEntry(
        id=int(row["id"]),
        timestamp=moment if isinstance(moment, datetime) else None,
        admin=row["admin"] or "",
        ip=row["ip"] or "",
        domain=row["domain"] or "",
        account=row["username"] or "",
        event=row["event"] or "",
        level=row["loglevel"] or "",
        message=row["msg"] or "",
    )
