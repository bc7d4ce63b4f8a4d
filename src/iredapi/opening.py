"""Opening the databases: what the embedded default makes, and what a server must have."""

from __future__ import annotations

import structlog

from iredapi.backends.loader import Storage
from iredapi.backends.policies import tables as policies
from iredapi.backends.sql.engine import Databases
from iredapi.backends.sql.schema import OLDEST_IREDMAIL, create_all
from iredapi.errors import ServerDown
from iredapi.settings import ConfigurationError, NotReady, Settings
from iredapi.state import State, StateUnavailable, WrongDatabase

_log = structlog.get_logger(__name__)


async def open_state(settings: Settings) -> State:
    """Open our own database. Raises ConfigurationError."""
    try:
        return await State.open(
            settings.urls()["state"],
            session_idle=settings.session_idle,
            session_absolute=settings.session_absolute,
            throttle_limit=settings.login_failures,
            throttle_window=settings.login_window,
        )
    except StateUnavailable as error:
        raise NotReady(f"IREDAPI_STATE_URL: {error}") from None
    except WrongDatabase as error:
        raise ConfigurationError(f"IREDAPI_STATE_URL: {error}") from None


async def check(databases: Databases, settings: Settings) -> None:
    """Compare what the databases have with what we cannot do without."""
    for name, database in databases.by_name.items():
        if database.file is not None and not database.file.is_file():
            raise ConfigurationError(f"IREDAPI_{name.upper()}_URL: {database.file}: no such file")
        try:
            schema = await database.schema()
        except ServerDown:
            sentence = (
                f"IREDAPI_{name.upper()}_URL: the database cannot be opened: is the server "
                "running, are host, name, user and password right?"
            )
            if name == "vmail":
                raise NotReady(sentence) from None
            # What needs it answers 503 until it is there; everything else goes on.
            _log.warning("database_away", database=name, hint=sentence)
            continue
        lacking = schema.lacking_required()
        if name == "vmail" and settings.used_quota_table != "used_quota":
            lacking = [item for item in lacking if not item.startswith("used_quota")]
        if lacking:
            raise ConfigurationError(
                f"IREDAPI_{name.upper()}_URL: this is not the {name} database of iRedMail "
                f"{OLDEST_IREDMAIL} or later; it lacks {', '.join(lacking[:5])}"
            )
        if missing := schema.missing():
            _log.info("older_schema", database=name, without=missing)


async def start(storage: Storage) -> None:
    """Begin to use the account storage. Raises ConfigurationError, or NotReady."""
    try:
        await storage.start()
    except ServerDown as error:
        raise NotReady(f"IREDAPI_LDAP_URI: {error.detail}") from None


async def create_tables(databases: Databases) -> None:
    for database in databases.by_name.values():
        database.make_file()
        async with database.using(writing=True) as lease:
            created = await create_all(lease.connection, database.metadata)
            await policies.seed(lease.connection, database.metadata, created)
            await lease.commit()


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
