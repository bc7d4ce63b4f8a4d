"""All rows of all databases: to compare before and after, and to go back to a known state.

Everything but the log and the state database; entries of OpenLDAP are the rows of one more table,
``entry``. Arranging rich data anew for each test is slow, so
an :class:`Arrangement` is made once for each store; after a test only the tables that differ are
written back, and whoever emptied the store meanwhile is noticed.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol

from sqlalchemy import Table, text
from sqlalchemy.engine import make_url

from tests.clients import Client, Service
from tests.servers.store import Database, Store, StoreName, product_metadata

LEFT_OUT: Final = frozenset({"log"})
"""The audit log: every write adds to it."""
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "forwardings": ("address", "forwarding"),
    "moderators": ("address", "moderator"),
    "maillists": ("address",),
    "maillist_owners": ("address", "owner"),
    "sender_relayhost": ("account",),
    "domain_ownership": ("admin", "domain", "alias_domain"),
    "entry": ("dn",),
}
"""Tables whose ``id`` nobody refers to: what their rows are recognised by."""
MOMENTS: Final = frozenset({"created", "modified", "expired", "passwordlastchange", "timestamp"})
REPLACED: Final = frozenset(
    {"sender_bcc_user", "recipient_bcc_user", "sender_bcc_domain", "recipient_bcc_domain"}
)
"""Tables whose rows are replaced rather than updated: a new value may come with new times."""

Row = dict[str, Any]
Where = tuple[Database | Literal["openldap"], str]
Dump = dict[Where, list[Row]]
Difference = dict[str, dict[str, Any]]
ENTRIES: Final[Where] = ("openldap", "entry")


def all_tables(kind: StoreName = "mariadb") -> dict[Where, Table]:
    """Return the product's tables on a kind of store, those that refer to others last."""
    names: tuple[Database, ...] = ("vmail", "amavisd", "iredapd", "iredadmin")
    return {
        (database, table.name): table
        for database in names
        if (metadata := product_metadata(database, kind)) is not None
        for table in metadata.sorted_tables
        if table.name not in LEFT_OUT
    }


TABLES: Final = all_tables()
_TABLES_BESIDE_OPENLDAP: Final = all_tables("openldap")


def tables_of(store: Store) -> dict[Where, Table]:
    """Return the product's tables of a store, those that refer to others last."""
    return TABLES if store.openldap is None else _TABLES_BESIDE_OPENLDAP


async def dump(store: Store) -> Dump:
    """Read all rows of all tables, through the driver: this is done often."""
    found: Dump = {}
    databases: tuple[Database, ...] = ("vmail", "amavisd", "iredapd", "iredadmin")
    for database in databases:
        names = [place[1] for place in tables_of(store) if place[0] == database]
        if not names:
            continue
        for name, rows in (await _READ[store.dialect](store, database, names)).items():
            found[database, name] = rows
    if store.openldap is not None:
        tree = store.openldap.dump()
        found[ENTRIES] = [{"dn": dn, **attributes} for dn, attributes in sorted(tree.items())]
    return found


async def _read_sqlite(
    store: Store, database: Database, names: Sequence[str]
) -> dict[str, list[Row]]:
    # Without a thread for each statement.
    path = make_url(store.admin[database]).database or ""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        return {name: _named(connection.execute(f"SELECT * FROM {name}")) for name in names}


def _named(cursor: sqlite3.Cursor) -> list[Row]:
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor]


async def _read_postgresql(
    store: Store, database: Database, names: Sequence[str]
) -> dict[str, list[Row]]:
    async with store.connect(database) as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        return {
            name: [dict(row) for row in await driver.fetch(f"SELECT * FROM {name}")]
            for name in names
        }


async def _read_mariadb(
    store: Store, database: Database, names: Sequence[str]
) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    async with store.connect(database) as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        async with driver.cursor() as cursor:
            for name in names:
                await cursor.execute(f"SELECT * FROM {name}")
                columns = [column[0] for column in cursor.description]
                found[name] = [
                    dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()
                ]
    return found


_READ: Final = {
    "sqlite": _read_sqlite,
    "postgresql": _read_postgresql,
    "mariadb": _read_mariadb,
}


async def restore(store: Store, wanted: Dump) -> None:
    """Write back the tables that differ."""
    present = await dump(store)
    if store.openldap is not None:
        store.openldap.restore(
            {
                row["dn"]: {name: values for name, values in row.items() if name != "dn"}
                for row in wanted[ENTRIES]
            }
        )
    tables = tables_of(store)
    places = [place for place in tables if not _same(present[place], wanted[place])]
    if ("iredapd", "throttle") in places and ("iredapd", "throttle_tracking") not in places:
        places.append(("iredapd", "throttle_tracking"))
    for place in reversed(places):
        await store.execute(f"DELETE FROM {place[1]}", _database(place))
    for place in places:
        if wanted[place]:
            await _insert(store, place, wanted[place])


def _database(place: Where) -> Database:
    assert place[0] != "openldap"
    return place[0]


async def _insert(store: Store, place: Where, rows: list[Row]) -> None:
    async with store.connect(_database(place)) as connection:
        quote = connection.dialect.identifier_preparer.quote_identifier
        names = ", ".join(quote(name) for name in rows[0])
        values = ", ".join(f":p{number}" for number in range(len(rows[0])))
        await connection.execute(
            text(f"INSERT INTO {place[1]} ({names}) VALUES ({values})"),
            [{f"p{number}": value for number, value in enumerate(row.values())} for row in rows],
        )


def _same(one: list[Row], other: list[Row]) -> bool:
    return one == other or _plain(one) == _plain(other)


def _plain(rows: list[Row]) -> list[str]:
    return sorted(str(sorted(row.items(), key=str)) for row in rows)


def _key(place: Where) -> tuple[str, ...]:
    if place[1] in KEYS:
        return KEYS[place[1]]
    table = TABLES[place] if place in TABLES else _TABLES_BESIDE_OPENLDAP[place]
    return tuple(column.name for column in table.primary_key.columns)


def _shown(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, (bytes, memoryview)) else str(value)


def names_of(place: Where, rows: Sequence[Row]) -> list[str]:
    """Return what rows are called in a difference: their table and key."""
    return [f"{place[1]} {' '.join(_shown(row[name]) for name in _key(place))}" for row in rows]


def _indexed(place: Where, rows: list[Row]) -> dict[str, Row]:
    dropped = {"id"} if place[1] in KEYS else set()
    return {
        name: {column: value for column, value in row.items() if column not in dropped}
        for name, row in zip(names_of(place, rows), rows, strict=True)
    }


def difference(before: Dump, after: Dump) -> Difference:
    """Say what changed.

    ``~table key`` holds the new values of changed columns, ``+table key`` what is not 0, empty,
    a time or part of the key in a new row, ``-table key`` is a row that went away.
    """
    found: Difference = {}
    for place in before:
        if before[place] == after[place]:
            continue
        old, new = _indexed(place, before[place]), _indexed(place, after[place])
        not_told = MOMENTS | set(_key(place))
        for name in old.keys() - new.keys():
            found[f"-{name}"] = {}
        for name in new.keys() - old.keys():
            found[f"+{name}"] = {
                column: value
                for column, value in new[name].items()
                if value and column not in not_told
            }
        for name in old.keys() & new.keys():
            # Attributes of an entry come and go.
            was, now = old[name], new[name]
            changed = {
                column: now.get(column)
                for column in was | now
                if now.get(column) != was.get(column)
            }
            if place[1] in REPLACED and changed.keys() - MOMENTS:
                changed = {key: value for key, value in changed.items() if key not in MOMENTS}
            if changed:
                found[f"~{name}"] = changed
    return found


def moment(value: Any) -> datetime:
    """Return a date-time of a row: SQLite gives text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def day(value: Any) -> date | None:
    """Return a date of a row, or None."""
    if value is None:
        return None
    return date.fromisoformat(value) if isinstance(value, str) else value


class Opened(Protocol):
    """What gives the application on a store (``conftest._services``)."""

    async def on(self, store: Store) -> Service: ...


@dataclass
class Arranged:
    """A store with the rows of an arrangement, and a global admin's client."""

    store: Store
    service: Service
    root: Client
    before: Dump
    mark: str = field(repr=False, default="")

    async def changes(self) -> Difference:
        """Say what is different from the arranged rows."""
        return difference(self.before, await dump(self.store))

    async def restore(self) -> None:
        """Go back to the arranged rows."""
        await restore(self.store, self.before)


Build = Callable[[Store, Client], Awaitable[None]]


class Arrangement:
    """Rows that many tests start from. ``build`` gets an empty store and a global admin."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._made: dict[str, Arranged] = {}

    @asynccontextmanager
    async def on(self, store: Store, services: Opened) -> AsyncIterator[Arranged]:
        """Arrange a store, and put everything back at the end."""
        service = await services.on(store)
        service.context.invalidate_caches()
        arranged = self._made.get(store.name)
        if arranged is None or not await self._is_untouched(arranged):
            arranged = await self._arrange(store, service)
            self._made[store.name] = arranged
        try:
            yield arranged
        finally:
            try:
                await arranged.restore()
            except Exception:
                # The next test begins with an empty store.
                del self._made[store.name]
                raise

    async def _is_untouched(self, arranged: Arranged) -> bool:
        # Other tests empty the store, and with it this mark.
        rows = await arranged.store.rows(
            "SELECT domain FROM greylisting_whitelist_domains WHERE domain = :mark",
            "iredapd",
            mark=arranged.mark,
        )
        return rows != []

    async def _arrange(self, store: Store, service: Service) -> Arranged:
        await store.reset()
        mark = f"{secrets.token_hex(8)}.invalid"
        root = await service.root()
        await self._build(store, root)
        await store.insert("greylisting_whitelist_domains", {"domain": mark}, database="iredapd")
        return Arranged(store, service, root, await dump(store), mark)
