"""iRedAdmin's database, ``iredadmin``: its log and its settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import structlog
from sqlalchemy import Dialect, Integer, bindparam, func, insert, literal_column, select

from iredapi.backends.policies import tables as t
from iredapi.database.bulk_parameters import (
    ANY_NUMBER,
    array_parameters,
    label,
    numbered_parameters,
    rows_of_arrays,
)
from iredapi.database.column_types import MYSQL
from iredapi.database.compiled_statement import CompiledStatement
from iredapi.database.repository import Repository, now
from iredapi.domain.actors import Actor
from iredapi.domain.audit_events import Event

_log = structlog.get_logger(__name__)
_LISTS = ("restful_api_clients", "admin_login_ip_list", "global_admin_ip_list")
_SWITCHES = (
    "password_has_letter",
    "password_has_uppercase",
    "password_has_number",
    "password_has_special_char",
)
_NUMBERS = ("min_passwd_length", "max_passwd_length")
_MARK = "[API] "
_LOGGED = ("timestamp", "admin", "ip", "domain", "username", "event", "loglevel", "msg")
_BATCH = 32
_FEW = 32
"""Entries up to this number have parameters of their own on PostgreSQL, too."""
Entry = Mapping[str, Any]
"""A row of iRedAdmin's log."""


@dataclass(frozen=True, slots=True)
class NetworkList:
    """Networks of a setting of iRedAdmin. ``broken``: malformed, so that no address is allowed."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    broken: bool = False


@dataclass(frozen=True, slots=True)
class IredadminDbSettings:
    """Settings of iRedAdmin's web page; for those that are absent the configuration decides."""

    lists: dict[str, NetworkList] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)


def read_settings(rows: Sequence[tuple[str, str]]) -> IredadminDbSettings:
    """Parse rows (key, JSON) of ``iredadmin.settings``."""
    found = IredadminDbSettings()
    for key, text in rows:
        try:
            value = json.loads(text)["value"]
        except (ValueError, TypeError, KeyError):
            value = None
        if key in _LISTS:
            found.lists[key] = _networks(key, value)
        elif key in _SWITCHES and isinstance(value, bool):
            found.switches[key] = value
        elif key in _NUMBERS and isinstance(value, int) and value >= 0:
            found.numbers[key] = value
    return found


def _networks(key: str, value: object) -> NetworkList:
    try:
        if not isinstance(value, list):
            raise ValueError
        return NetworkList(tuple(ip_network(str(item).strip()) for item in value))
    except ValueError:
        _log.error("iredadmin_setting_malformed", key=key, effect="no client is allowed")
        return NetworkList(broken=True)


class SqlIredadmin(Repository):
    """iRedAdmin's settings, and ``protocols.accounts.AuditLog``."""

    name = "iredadmin"

    async def settings(self) -> IredadminDbSettings:
        """Read the global settings in one round trip; empty without the database or its table."""
        if not await self.has(t.settings):
            return IredadminDbSettings()
        s = t.settings.c
        keys = (*_LISTS, *_SWITCHES, *_NUMBERS)
        rows = await self.row_objects(select(s.k, s.v).where(s.account == "global", s.k.in_(keys)))
        return read_settings([(str(row.k), str(row.v)) for row in rows])

    async def write(self, actor: Actor, events: Sequence[Event]) -> None:
        """Append events to the log, with a mark that they come from the API."""
        await self.append([entry(actor, event) for event in events])

    async def append(self, entries: Sequence[Entry], *, with_ids: bool = False) -> list[int]:
        """Append entries to the log; return their ids, or none where the server cannot tell them.

        ``with_ids`` needs the right to read the table. One round trip for each ``_BATCH``, or for
        all on PostgreSQL; two where INSERT has no RETURNING (MySQL, MariaDB before 10.5) and ids
        are asked for.
        """
        if not entries or not self._connections.databases.has(self.name):
            return []
        database = self.database
        schema = await database.schema()
        ids: list[int] = []
        arrays = self.dialect == "postgresql" and len(entries) > _FEW
        size = len(entries) if arrays else _BATCH
        for start in range(0, len(entries), size):
            some = entries[start : start + size]
            count = ANY_NUMBER if arrays else len(some)
            compiled = schema.statement(
                ("iredadmin.append", count, with_ids),
                partial(_insertions, count, database.engine.dialect, with_ids=with_ids),
            )
            values = array_parameters(some) if arrays else numbered_parameters(some)
            rows = await self._connections.run(self.name, compiled, values)
            if with_ids:
                ids += sorted(row[0] for row in rows) or await self._last_ids(len(some))
        return ids

    async def _last_ids(self, count: int) -> list[int]:
        """Return the ids of the rows of the INSERT before: MySQL gives them out in a row."""
        if self.dialect not in MYSQL:
            return []  # SQLite before 3.35
        schema = await self.database.schema()
        compiled = schema.statement(
            "iredadmin.last id",
            lambda: self._compiled(
                select(
                    func.last_insert_id().label("first"),
                    literal_column("@@auto_increment_increment", Integer).label("step"),
                )
            ),
        )
        ((first, step),) = await self._connections.run(self.name, compiled, {})
        return [int(first) + number * int(step) for number in range(count)]


def _insertions(count: int, dialect: Dialect, *, with_ids: bool) -> CompiledStatement:
    types = {name: t.log.c[name].type for name in _LOGGED}
    if count == ANY_NUMBER:
        rows = rows_of_arrays("new", types)
        every = insert(t.log).from_select(_LOGGED, select(*rows.c))
    else:
        every = insert(t.log).values(
            [
                {name: bindparam(label(name, n, count), type_=types[name]) for name in _LOGGED}
                for n in range(count)
            ]
        )
    if with_ids and dialect.insert_returning:
        every = every.returning(t.log.c.id)
    return CompiledStatement.of(every, dialect)


def entry(actor: Actor, event: Event) -> Entry:
    """Return the log row of an event."""
    return {
        "timestamp": now(),
        "admin": actor.username[:255],
        "ip": actor.client[:40],
        "domain": event.domain[:255],
        "username": event.username[:255],
        "event": event.kind.value,
        "loglevel": event.level,
        "msg": _MARK + event.message,
    }
