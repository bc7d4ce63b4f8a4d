"""Migrations of the state database, safe with any number of replicas that start at once.

A lock of the database serialises them: a transaction-level advisory lock on PostgreSQL,
``GET_LOCK`` on MariaDB, ``BEGIN IMMEDIATE`` on SQLite. When all is up to date no lock is taken, and
Alembic, which needs more memory than the rest of this package, is not imported.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, column, func, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import metadata

TIMEOUT = 300
"""Seconds to wait for another replica's migration, or for our own."""

_LOCK = "iredapi state migration"
_LOCK_NUMBER = int.from_bytes(hashlib.sha256(_LOCK.encode()).digest()[:8], signed=True)
_SCRIPTS = Path(__file__).parent / "migrations"
_VERSIONS = _SCRIPTS / "versions"
_VERSION = table("alembic_version", column("version_num"))
"""Alembic's table of the current revision: one row."""

_IREDMAIL = frozenset(
    {"mailbox", "domain", "forwardings", "policy", "mailaddr", "throttle", "greylisting", "log"}
    | {"domain_ownership", "msgs", "quarantine"}
)
"""Tables of iRedMail's databases that have no name in common with ours."""

# Alembic's ``op`` is global to the process, not to a thread or task.
_alembic = threading.Lock()


class WrongDatabase(Exception):
    """The state database belongs to another program, or to a newer iredapi."""


def revisions() -> list[str]:
    """Return the revisions that this version knows, the newest last: from names of files."""
    return sorted(path.name[1:].partition("_")[0] for path in _VERSIONS.glob("v*.py"))


async def is_current(connections: Connections) -> bool:
    """Return whether the tables are those of this version. Raises WrongDatabase."""

    async def current(connection: AsyncConnection) -> bool:
        return await connection.run_sync(_is_current)

    return await connections.use(current)


async def migrate(connections: Connections) -> None:
    """Create or update the tables; costs two SELECTs when they are up to date."""

    async def upgrade(connection: AsyncConnection) -> None:
        if connections.dialect == "postgresql":
            await connection.execute(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        if not await connection.run_sync(_is_current):
            async with _alone_in_this_process():
                await connection.run_sync(_upgrade)

    if await is_current(connections):
        return
    async with _server_lock(connections):
        await connections.transact(upgrade, seconds=TIMEOUT)


def _is_current(connection: Connection) -> bool:
    """Return whether the tables are up to date. Raises WrongDatabase."""
    inspector = inspect(connection)
    revision: str | None = None
    if inspector.has_table(_VERSION.name):
        revision = connection.scalars(select(_VERSION.c.version_num)).one_or_none()
    if revision is None:
        # iRedAdmin has a table "sessions", too. Read the names of tables before the version table:
        # another replica may be creating our tables, and the version is then visible as well.
        inspector.clear_cache()
        foreign = sorted(set(inspector.get_table_names()) & (set(metadata.tables) | _IREDMAIL))
        if foreign:
            inspector.clear_cache()
            if not inspector.has_table(_VERSION.name):
                raise WrongDatabase(
                    f"The state database has tables that are not ours: {', '.join(foreign)}."
                    " Give iredapi a database of its own."
                )
        return False
    known = revisions()
    if revision not in known:
        raise WrongDatabase(
            f"The state database has revision {revision}, which this iredapi does not know:"
            " it was made by a newer one, or is not ours."
        )
    return bool(revision == known[-1])


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@asynccontextmanager
async def _alone_in_this_process() -> AsyncIterator[None]:
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - shared by several event loops
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _alembic.release()


@asynccontextmanager
async def _server_lock(connections: Connections) -> AsyncIterator[None]:
    """Hold a lock of the session on MariaDB, where DDL commits; elsewhere do nothing."""
    if connections.dialect not in ("mysql", "mariadb"):
        yield
        return
    # Names are shared by all databases of a server, and at most 64 characters.
    name = func.sha2(func.concat(_LOCK, " ", func.database()), 256)  # MySQL 9 has no SHA1()
    async with connections.connect() as connection:
        taken = await connection.scalar(select(func.get_lock(name, TIMEOUT)))
        if taken != 1:
            raise StateUnavailable("Another replica is still migrating the state database.")
        try:
            yield
        finally:
            await connection.execute(select(func.release_lock(name)))
