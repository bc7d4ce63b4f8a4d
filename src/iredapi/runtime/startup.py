"""Open and check the databases at start; in the embedded default create them."""

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
from iredapi.database.server import Server
from iredapi.database.session import Databases
from iredapi.errors import ServerDown
from iredapi.observability.health_checks import NotUsable
from iredapi.runtime.start_errors import file_trouble, reason
from iredapi.state import State, StateUnavailable, WrongDatabase
from iredapi.state.connections import CALL_TIMEOUT, Connections

_log = structlog.get_logger(__name__)

CLOCK_SECONDS: Final = 30.0
"""Maximum difference in seconds between our clock and a database server's without a warning."""
_GRACE: Final = 1.0
"""Seconds after the drivers' own timeout; aiomysql has none for a server that sends nothing."""
_NOW: Final = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
}
_FAILURES: Final = (ServerDown, StateUnavailable, SQLAlchemyError, OSError, TypeError, ValueError)
"""Errors of all drivers for an unusable database. TypeError: an unknown option in the URL."""


async def open_state(settings: Settings) -> State:
    """Open our own database. Raises ConfigurationError, or NotReady."""
    url = make_url(settings.urls()["state"])
    setting = _setting(settings, "state")
    if url.get_backend_name() == "sqlite" and (trouble := file_trouble(Path(url.database or ""))):
        raise ConfigurationError(f"{setting}: {trouble}")
    try:
        await _probe_state(settings)
        state = await State.open(
            settings.urls()["state"],
            session_idle=settings.session_idle,
            session_absolute=settings.session_absolute,
            throttle_limit=settings.login_failures,
            throttle_window=settings.login_window,
            call_timeout=min(settings.request_timeout, CALL_TIMEOUT),
            max_age=settings.connection_max_age,
        )
    except WrongDatabase as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    except _FAILURES as error:
        found = await reason(error, url)
        kind = NotReady if found.unreachable else ConfigurationError
        raise kind(f"{setting}: {found.sentence}") from None
    state.idempotency_keys.retention = settings.idempotency_seconds
    state.events.days = settings.events_days
    return state


async def _probe_state(settings: Settings) -> None:
    """Connect once with a short timeout, to get the driver's own error."""
    connections = await Connections.open(settings.urls()["state"])
    try:
        async with asyncio.timeout(settings.connect_timeout + _GRACE):
            async with connections.connect() as connection:
                server = await Server.ask(connection)
                await check_clock("state", connection)
    finally:
        await connections.close()
    if old := server.too_old():
        raise WrongDatabase(old)


async def check(databases: Databases, settings: Settings) -> None:
    """Check that the databases can be reached and have the tables and columns that we need.

    Raises ConfigurationError, and NotReady when the account database cannot be reached. Other
    databases may be unreachable: operations that need them are answered 503.
    """
    for name, database in databases.by_name.items():
        setting = _setting(settings, name)
        if database.file is not None and not database.file.is_file():
            raise ConfigurationError(f"{setting}: {database.file}: no such file")
        if database.file is not None and (trouble := file_trouble(database.file)):
            raise ConfigurationError(f"{setting}: {trouble}")
        try:
            # ping() raises the driver's own error.
            async with asyncio.timeout(settings.connect_timeout + _GRACE):
                await _ping(database)
            schema = await database.schema()
            async with database.using() as pooled:
                server = await Server.ask(pooled.connection)
                await check_clock(name, pooled.connection)
        except _FAILURES as error:
            await _unusable(database, setting, error, needed=name == "vmail")
            continue
        if old := server.too_old():
            raise ConfigurationError(f"{setting}: {old}")
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


async def _ping(database: Database) -> None:
    """Check that a database answers; only warn when it takes no writes. Raises its errors."""
    try:
        await database.ping()
    except NotUsable as error:
        if error.status != "read-only":
            raise error.__cause__ or error from None
        _log.warning("database_read_only", database=database.name)


async def _unusable(
    database: Database, setting: str, error: BaseException, *, needed: bool
) -> None:
    """Raise ConfigurationError, or NotReady when it may work later; only warn if not needed."""
    found = await reason(error, database.url)
    sentence = f"{setting}: {found.sentence}"
    if not found.unreachable:
        raise ConfigurationError(sentence) from None
    if needed:
        raise NotReady(sentence) from None
    _log.warning("database_unreachable", database=database.name, hint=sentence)


def _setting(settings: Settings, name: str) -> str:
    """Return the name of the setting that determines a database."""
    given = getattr(settings, f"{name}_url").get_secret_value()
    return f"IREDAPI_{name.upper()}_URL" if given else "IREDAPI_DATA_DIR"


async def check_clock(
    name: str, connection: AsyncConnection, clock: Callable[[], float] = time.time
) -> None:
    """Log a warning when our clock differs from a database server's: sessions use both."""
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
            hint="this machine's clock is this many seconds ahead of the database server's: run an "
            "NTP client on both, or sessions and login throttles end early or late",
        )


async def start(backend: Backend) -> None:
    """Start the account storage. Raises ConfigurationError, or NotReady."""
    try:
        await backend.start()
    except ServerDown as error:
        raise NotReady(error.detail) from None


async def create_tables(databases: Databases) -> None:
    """Create missing tables of the embedded default. Raises ConfigurationError."""
    for database in databases.by_name.values():
        if database.file is not None and (trouble := file_trouble(database.file)):
            raise ConfigurationError(f"IREDAPI_DATA_DIR: {trouble}")
        try:
            database.make_file()
            async with database.using(writing=True) as pooled:
                created = await create_all(pooled.connection, database.metadata)
                await policies.seed(pooled.connection, database.metadata, created)
                await pooled.commit()
        except _FAILURES as error:
            await _unusable(database, "IREDAPI_DATA_DIR", error, needed=True)


def make_data_dir(settings: Settings) -> None:
    """Create the directories of SQLite's files and of the spool. Raises ConfigurationError."""
    if not settings.uses_sqlite:
        return
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.spool is not None and not settings.mlmmj_spool:
            settings.spool.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"IREDAPI_DATA_DIR: {settings.data_dir} cannot be created: {error.strerror}"
        ) from None
