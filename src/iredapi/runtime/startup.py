"""Opening the databases: what the embedded default makes, and what a server must have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.policies import tables as policies
from iredapi.backends.protocols.backend import Backend
from iredapi.config.errors import ConfigurationError, NotReady
from iredapi.config.settings import Settings
from iredapi.database.database import Database
from iredapi.database.live_schema import OLDEST_IREDMAIL, create_all
from iredapi.database.session import Databases
from iredapi.errors import ServerDown
from iredapi.runtime.start_errors import file_trouble, reason
from iredapi.state import State, StateUnavailable, WrongDatabase
from iredapi.state.connections import Connections

_log = structlog.get_logger(__name__)

CLOCK_SECONDS: Final = 30.0
"""So far may our clock be off a database's before it is said."""
_GRACE: Final = 1.0
"""Seconds beyond the drivers' own limit; aiomysql has none for a server that says nothing."""
_NOW: Final = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
}
_FAILURES: Final = (ServerDown, StateUnavailable, SQLAlchemyError, OSError, TypeError, ValueError)
"""What a database that cannot be used raises, of all drivers; TypeError: an unknown option."""


async def open_state(settings: Settings) -> State:
    """Open our own database. Raises ConfigurationError, or NotReady."""
    url = make_url(settings.urls()["state"])
    setting = _setting(settings, "state")
    if url.get_backend_name() == "sqlite" and (trouble := file_trouble(Path(url.database or ""))):
        raise ConfigurationError(f"{setting}: {trouble}")
    try:
        await _look_at_state(settings)
        state = await State.open(
            settings.urls()["state"],
            session_idle=settings.session_idle,
            session_absolute=settings.session_absolute,
            throttle_limit=settings.login_failures,
            throttle_window=settings.login_window,
        )
    except WrongDatabase as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    except _FAILURES as error:
        found = await reason(error, url)
        kind = NotReady if found.away else ConfigurationError
        raise kind(f"{setting}: {found.sentence}") from None
    return state


async def _look_at_state(settings: Settings) -> None:
    """Connect once, for the driver's own error, and within a time that a person waits."""
    connections = await Connections.open(settings.urls()["state"])
    try:
        async with asyncio.timeout(settings.connect_timeout + _GRACE):
            async with connections.connect() as connection:
                await check_clock("state", connection)
    finally:
        await connections.close()


async def check(databases: Databases, settings: Settings) -> None:
    """Compare what the databases have with what we cannot do without.

    Raises ConfigurationError, and NotReady when the accounts are away; what needs another database
    answers 503 until that is there, and everything else goes on.
    """
    for name, database in databases.by_name.items():
        setting = _setting(settings, name)
        if database.file is not None and not database.file.is_file():
            raise ConfigurationError(f"{setting}: {database.file}: no such file")
        if database.file is not None and (trouble := file_trouble(database.file)):
            raise ConfigurationError(f"{setting}: {trouble}")
        try:
            # Its error is the driver's own.
            async with asyncio.timeout(settings.connect_timeout + _GRACE):
                await database.ping()
            schema = await database.schema()
            async with database.using() as lease:
                await check_clock(name, lease.connection)
        except _FAILURES as error:
            await _unusable(database, setting, error, needed=name == "vmail")
            continue
        lacking = schema.lacking_required()
        if name == "vmail" and settings.used_quota_table != "used_quota":
            lacking = [item for item in lacking if not item.startswith("used_quota")]
        if lacking:
            raise ConfigurationError(
                f"{setting}: this is not the {name} database of iRedMail "
                f"{OLDEST_IREDMAIL} or later; it lacks {', '.join(lacking[:5])}"
            )
        if missing := schema.missing():
            _log.info("older_schema", database=name, without=missing)


async def _unusable(
    database: Database, setting: str, error: BaseException, *, needed: bool
) -> None:
    """Refuse settings that will never work, and to go on without what is needed."""
    found = await reason(error, database.engine.url)
    sentence = f"{setting}: {found.sentence}"
    if not found.away:
        raise ConfigurationError(sentence) from None
    if needed:
        raise NotReady(sentence) from None
    _log.warning("database_away", database=database.name, hint=sentence)


def _setting(settings: Settings, name: str) -> str:
    """Return the setting that says where a database is."""
    given = getattr(settings, f"{name}_url").get_secret_value()
    return f"IREDAPI_{name.upper()}_URL" if given else "IREDAPI_DATA_DIR"


async def check_clock(
    name: str, connection: AsyncConnection, clock: Callable[[], float] = time.time
) -> None:
    """Warn when our clock and a database server's differ: sessions and locks have times of both."""
    dialect = connection.dialect.name
    question = _NOW.get("mysql" if dialect == "mariadb" else dialect)
    if question is None:
        return
    before = clock()
    theirs = float((await connection.execute(text(question))).scalar_one())
    ahead = (before + clock()) / 2 - theirs
    if abs(ahead) > CLOCK_SECONDS:
        _log.warning(
            "clock_differs",
            database=name,
            seconds=round(ahead, 1),
            hint="this machine's clock is so many seconds ahead of the database server's: run an "
            "NTP client on both, or sessions and login throttles end early or late",
        )


async def start(backend: Backend) -> None:
    """Begin to use the account storage. Raises ConfigurationError, or NotReady."""
    try:
        await backend.start()
    except ServerDown as error:
        raise NotReady(error.detail) from None


async def create_tables(databases: Databases) -> None:
    """Make the tables of the embedded default that are missing. Raises ConfigurationError."""
    for database in databases.by_name.values():
        if database.file is not None and (trouble := file_trouble(database.file)):
            raise ConfigurationError(f"IREDAPI_DATA_DIR: {trouble}")
        try:
            database.make_file()
            async with database.using(writing=True) as lease:
                created = await create_all(lease.connection, database.metadata)
                await policies.seed(lease.connection, database.metadata, created)
                await lease.commit()
        except _FAILURES as error:
            await _unusable(database, "IREDAPI_DATA_DIR", error, needed=True)


def make_data_dir(settings: Settings) -> None:
    """SQLite makes its files, but not their directory; nor does mlmmj make its spool."""
    if not settings.uses_sqlite:
        return
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.spool is not None and not settings.mlmmj_spool:
            settings.spool.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"IREDAPI_DATA_DIR: {settings.data_dir} cannot be made: {error.strerror}"
        ) from None
