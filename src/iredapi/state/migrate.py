"""Bringing the state database up to date, with any number of replicas doing the same.

The lock is the database's own: an advisory lock of the transaction on PostgreSQL,
``GET_LOCK`` on MariaDB, ``BEGIN IMMEDIATE`` on SQLite. Who finds nothing to do takes none.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.state.connections import Connections, StateUnavailable
from iredapi.state.tables import metadata

PATIENCE = 300
"""Seconds to wait for another replica's migration, or for our own."""

_LOCK = "iredapi state migration"
_LOCK_NUMBER = int.from_bytes(hashlib.sha256(_LOCK.encode()).digest()[:8], signed=True)
_SCRIPTS = Path(__file__).parent / "migrations"

_IREDMAIL = frozenset(
    {"mailbox", "domain", "forwardings", "policy", "mailaddr", "throttle", "greylisting", "log"}
    | {"domain_ownership", "msgs", "quarantine"}
)
"""Tables of iRedMail's databases, whose names are none of ours."""

# Alembic's "op" is one for the whole process, whatever the thread or task.
_alembic = threading.Lock()


class WrongDatabase(Exception):
    """The state URL names a database that is not, or no longer, ours to migrate."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


async def is_current(connections: Connections) -> bool:
    """Tell whether the tables are those of this version. Raises WrongDatabase; changes nothing."""
    scripts = ScriptDirectory.from_config(_config())

    async def current(connection: AsyncConnection) -> bool:
        return await connection.run_sync(_is_current, scripts)

    return await connections.use(current)


async def migrate(connections: Connections) -> None:
    """Create or update the tables; two SELECTs when there is nothing to do."""
    config = _config()
    scripts = ScriptDirectory.from_config(config)

    async def current(connection: AsyncConnection) -> bool:
        return await connection.run_sync(_is_current, scripts)

    async def upgrade(connection: AsyncConnection) -> None:
        if connections.dialect == "postgresql":
            await connection.execute(select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        if not await current(connection):
            async with _alone_in_this_process():
                await connection.run_sync(_upgrade, config)

    if await connections.use(current):
        return
    async with _server_lock(connections):
        await connections.transact(upgrade, patience=PATIENCE)


def _is_current(connection: Connection, scripts: ScriptDirectory) -> bool:
    """Whether there is nothing to do; ``WrongDatabase`` when we must not do it."""
    context = MigrationContext.configure(connection)
    revision = context.get_current_revision()
    if revision is None:
        inspector = inspect(connection)
        # iRedAdmin has a table "sessions", too. The names come first: another replica may be making
        # our tables, and whoever sees them sees their version afterwards.
        foreign = sorted(set(inspector.get_table_names()) & (set(metadata.tables) | _IREDMAIL))
        if foreign:
            inspector.clear_cache()
            if not inspector.has_table(context.version_table):
                raise WrongDatabase(
                    f"The state database has tables that are not ours: {', '.join(foreign)}."
                    " Give iredapi a database of its own."
                )
        return False
    if revision not in {script.revision for script in scripts.walk_revisions()}:
        raise WrongDatabase(
            f"The state database has revision {revision}, which this iredapi does not know:"
            " it was made by a newer one, or is not ours."
        )
    return revision == scripts.get_current_head()


def _upgrade(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@asynccontextmanager
async def _alone_in_this_process() -> AsyncIterator[None]:
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - other loops, too
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _alembic.release()


@asynccontextmanager
async def _server_lock(connections: Connections) -> AsyncIterator[None]:
    """On MariaDB, where DDL commits, a lock that outlives transactions; else nothing."""
    if connections.dialect not in ("mysql", "mariadb"):
        yield
        return
    # Names are shared by all databases of a server, and at most 64 characters.
    name = func.sha1(func.concat(_LOCK, " ", func.database()))
    async with connections.connect() as connection:
        taken = await connection.scalar(select(func.get_lock(name, PATIENCE)))
        if taken != 1:
            raise StateUnavailable("Another replica is still migrating the state database.")
        try:
            yield
        finally:
            await connection.execute(select(func.release_lock(name)))
