"""A set of the databases for one test worker: URLs, rights, and a fast reset.

On SQLite, PostgreSQL and MariaDB accounts are in the first of five databases. On OpenLDAP they are
in a directory, and the other four databases on a MariaDB beside it, as iRedMail arranges it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import MetaData, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from iredapi.backends.ldap import iredadmin_mailbox_tables
from iredapi.backends.policies.tables import SEEDS, seed
from iredapi.database.live_schema import create_all

if TYPE_CHECKING:
    from tests.servers.openldap import OpenldapServer

StoreName = Literal["sqlite", "postgresql", "mariadb", "openldap"]
Database = Literal["vmail", "amavisd", "iredapd", "iredadmin", "state"]

ALL_STORES: tuple[StoreName, ...] = get_args(StoreName)
STORES: tuple[StoreName, ...] = ALL_STORES
"""Those that a test without the marker ``stores`` runs on."""
DATABASES: tuple[Database, ...] = get_args(Database)

# Tables that a reset leaves alone.
KEPT_TABLES = frozenset({"alembic_version"})

# Where the product describes the tables of each database. The state database is made empty: the
# product migrates it itself when it starts.
_METADATA: Mapping[Database, tuple[str, str]] = {
    "vmail": ("iredapi.backends.sql.tables", "metadata"),
    "amavisd": ("iredapi.backends.policies.tables", "amavisd_metadata"),
    "iredapd": ("iredapi.backends.policies.tables", "iredapd_metadata"),
    "iredadmin": ("iredapi.backends.policies.tables", "iredadmin_metadata"),
}


def product_metadata(database: Database, kind: StoreName = "mariadb") -> MetaData | None:
    """The product's own description of the tables of one database on a kind of store."""
    if database not in _METADATA or (kind, database) == ("openldap", "vmail"):
        return None
    module, attribute = _METADATA[database]
    metadata: MetaData = getattr(importlib.import_module(module), attribute)
    if kind == "openldap" and database == "iredadmin":
        return iredadmin_mailbox_tables.metadata
    return metadata


async def create_tables(
    connection: AsyncConnection, database: Database, kind: StoreName = "mariadb"
) -> None:
    """Create the tables of one database the way the product does for its embedded default."""
    metadata = product_metadata(database, kind)
    if metadata is not None:
        await create_all(connection, metadata)


class Resetter(ABC):
    """Empties every table of every database; knows the dialect."""

    restarts_ids = True
    """Whether the ids of new rows begin with 1 again."""

    @abstractmethod
    async def empty(self, store: Store) -> None: ...


@dataclass(eq=False)
class Store:
    """Five databases on one kind of server, and the logins that an iRedMail server has.

    ``vmail`` … ``state`` are SQLAlchemy URLs with the restricted logins which the product is
    given; ``admin`` has those of an administrator, for arranging and checking in tests;
    ``vmail_reader`` is the read-only login of Postfix and Dovecot (empty for SQLite). On OpenLDAP
    ``vmail`` and ``vmail_reader`` are empty, and ``directory`` is the server with the accounts.
    """

    name: StoreName
    vmail: str
    amavisd: str
    iredapd: str
    iredadmin: str
    state: str
    admin: Mapping[Database, str]
    vmail_reader: str
    resetter: Resetter = field(repr=False)
    engine_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    openldap: OpenldapServer | None = field(default=None, repr=False)
    _engines: dict[Database, AsyncEngine] = field(default_factory=dict, init=False, repr=False)

    @property
    def dialect(self) -> StoreName:
        """The kind of SQL that its databases speak."""
        return "mariadb" if self.name == "openldap" else self.name

    @property
    def accounts(self) -> Database:
        """The database with ``used_quota``, ``last_login``, ``deleted_mailboxes`` and shares."""
        return "iredadmin" if self.name == "openldap" else "vmail"

    @property
    def directory(self) -> OpenldapServer:
        """The server with the accounts, on OpenLDAP."""
        assert self.openldap is not None, f"accounts of {self.name} are in no directory"
        return self.openldap

    def urls(self) -> dict[Database, str]:
        """The product's URL of each database that there is."""
        urls: dict[Database, str] = {
            "vmail": self.vmail,
            "amavisd": self.amavisd,
            "iredapd": self.iredapd,
            "iredadmin": self.iredadmin,
            "state": self.state,
        }
        return {name: url for name, url in urls.items() if url}

    def settings(self) -> dict[str, str]:
        """The product's settings (without prefix, in lower case) that name where its data is."""
        settings = {f"{name}_url": url for name, url in self.urls().items()}
        if self.openldap is not None:
            settings |= self.openldap.settings()
        return settings

    def admin_engine(self, database: Database = "vmail") -> AsyncEngine:
        """An engine with all rights; made once, disposed of by :meth:`close`."""
        if database not in self.admin:
            raise LookupError(f"the accounts of {self.name} are in no database {database}")
        if database not in self._engines:
            engine = create_async_engine(self.admin[database], pool_size=2, **self.engine_options)
            if self.name == "sqlite":
                event.listen(engine.sync_engine, "connect", _do_not_wait_for_the_disk)
            elif self.name == "postgresql":
                event.listen(engine.sync_engine, "connect", _write_the_first_day)
            self._engines[database] = engine
        return self._engines[database]

    @asynccontextmanager
    async def connect(self, database: Database = "vmail") -> AsyncIterator[AsyncConnection]:
        """A transaction with all rights, committed at the end."""
        async with self.admin_engine(database).begin() as connection:
            yield connection

    async def insert(
        self, table: str, *rows: Mapping[str, Any], database: Database = "vmail"
    ) -> None:
        """Insert hand-written rows; columns that are not named get the table's defaults."""
        async with self.connect(database) as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
            for row in rows:
                columns = ", ".join(quote(name) for name in row)
                names = {f"p{index}": value for index, value in enumerate(row.values())}
                values = ", ".join(f":{name}" for name in names)
                await connection.execute(
                    text(f"INSERT INTO {quote(table)} ({columns}) VALUES ({values})"), names
                )

    async def execute(
        self, statement: str, database: Database = "vmail", /, **parameters: Any
    ) -> None:
        """Run one statement with all rights (``:name`` parameters)."""
        async with self.connect(database) as connection:
            await connection.execute(text(statement), parameters)

    async def rows(
        self, statement: str, database: Database = "vmail", /, **parameters: Any
    ) -> list[dict[str, Any]]:
        """The rows that a query gives."""
        async with self.connect(database) as connection:
            result = await connection.execute(text(statement), parameters)
            return [dict(row) for row in result.mappings()]

    async def reset(self) -> None:
        """Empty all tables and put back the rows that a fresh server has."""
        await self.resetter.empty(self)
        await _seed(self)

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.dispose()
        self._engines.clear()


async def _seed(store: Store) -> None:
    """The rows that iRedMail's installer writes; the product knows them."""
    for database in store.admin:
        metadata = product_metadata(database, store.name)
        tables = (
            [metadata.tables[name] for name in SEEDS if name in metadata.tables]
            if metadata is not None
            else []
        )
        if metadata is None or not tables:
            continue
        async with store.connect(database) as connection:
            if store.resetter.restarts_ids:
                await seed(connection, metadata)
                continue
            # The rows refer to each other by the ids of a new database.
            for table in tables:
                rows = [dict(row) for row in SEEDS[table.name]]
                if "id" in table.columns:
                    rows = [{"id": number, **row} for number, row in enumerate(rows, 1)]
                await connection.execute(table.insert(), rows)


def _write_the_first_day(connection: Any, _record: Any) -> None:
    # asyncpg alone writes 0001-01-01, the birthday of nobody, as -infinity.
    first = date(2000, 1, 1)

    def encode(day: date) -> tuple[int]:
        return ((day - first).days,)

    def decode(days: tuple[int]) -> date:
        return first + timedelta(days[0])

    async def prepare(driver: Any) -> None:
        await driver.set_type_codec(
            "date", schema="pg_catalog", encoder=encode, decoder=decode, format="tuple"
        )

    connection.run_async(prepare)


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


class _SqliteResetter(Resetter):
    async def empty(self, store: Store) -> None:
        for database in DATABASES:
            async with store.connect(database) as connection:
                names = await connection.scalars(
                    text(
                        "SELECT name FROM sqlite_master WHERE type = 'table'"
                        " AND name NOT LIKE 'sqlite_%'"
                    )
                )
                deletions = [f'DELETE FROM "{name}";' for name in names if name not in KEPT_TABLES]
                # Only there when a table counts with AUTOINCREMENT.
                if await connection.scalar(
                    text("SELECT name FROM sqlite_master WHERE name = 'sqlite_sequence'")
                ):
                    deletions.append("DELETE FROM sqlite_sequence;")
                # All at once: every single statement would be two changes of threads.
                raw = await connection.get_raw_connection()
                script = "\n".join(["BEGIN;", *deletions, "COMMIT;"])
                driver: Any = raw.driver_connection
                await driver.executescript(script)


async def create_sqlite(directory: Path) -> Store:
    """A store of SQLite files in a directory, with the product's tables."""
    urls: dict[Database, str] = {
        name: f"sqlite+aiosqlite:///{directory / name}.db" for name in DATABASES
    }
    store = Store(
        name="sqlite",
        vmail=urls["vmail"],
        amavisd=urls["amavisd"],
        iredapd=urls["iredapd"],
        iredadmin=urls["iredadmin"],
        state=urls["state"],
        admin=urls,
        vmail_reader="",
        resetter=_SqliteResetter(),
        engine_options={"connect_args": {"timeout": 10}},
    )
    for database in DATABASES:
        async with store.connect(database) as connection:
            await create_tables(connection, database)
    return store
