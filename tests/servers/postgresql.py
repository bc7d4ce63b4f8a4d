"""A private PostgreSQL server (or one that runs elsewhere), and stores on it."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers import dovecot
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    is_root,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import (
    DATABASES,
    KEPT_TABLES,
    Database,
    Resetter,
    Store,
    create_tables,
)

ENVIRONMENT = "TEST_POSTGRESQL_URL"
DRIVER = "postgresql+asyncpg"

# The role that owns each database.
OWNERS: dict[Database, str] = {
    "vmail": "vmailadmin",
    "amavisd": "amavisd",
    "iredapd": "iredapd",
    "iredadmin": "iredadmin",
    "state": "iredapi",
}
NAMES: dict[Database, str] = {name: name for name in DATABASES} | {"state": "iredapi_state"}

# Nothing survives the tests, so nothing has to reach the disk.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
    "jit": "off",
    "log_min_messages": "warning",
}

# What a benchmark measures with: a server as Debian installs it.
DURABLE = {"listen_addresses": "127.0.0.1", "max_connections": "200", "max_wal_size": "2GB"}

EMPTY = f"""
DO $$
DECLARE t record;
BEGIN
    SET LOCAL session_replication_role = replica;
    SET LOCAL lock_timeout = '10s';
    FOR t IN SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ({
    ", ".join(f"'{name}'" for name in sorted(KEPT_TABLES))
})
    LOOP
        EXECUTE format('DELETE FROM %I.%I', t.schemaname, t.tablename);
    END LOOP;
    FOR t IN SELECT schemaname, sequencename FROM pg_sequences WHERE last_value IS NOT NULL
    LOOP
        PERFORM setval(format('%I.%I', t.schemaname, t.sequencename), 1, false);
    END LOOP;
END $$
"""
# iRedMail's trigger for Dovecot 2.4, which writes whole sizes. The product's tables have the
# one for 2.3, which adds them.
TRIGGER_OF_24 = (
    "DROP FUNCTION used_quota_add CASCADE",
    """
    CREATE FUNCTION used_quota_domain() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        NEW.domain := split_part(NEW.username, '@', 2);
        RETURN NEW;
    END $body$
    """,
    """
    CREATE TRIGGER used_quota_domain BEFORE INSERT ON used_quota
    FOR EACH ROW EXECUTE FUNCTION used_quota_domain()
    """,
)
KEEPS_COMMITS = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""Beside ``SETTINGS``: what is committed survives a server that is killed."""


def programs() -> Path | None:
    """The directory of ``initdb`` and ``postgres``: the newest release that is installed."""
    debian = Path("/usr/lib/postgresql")
    releases = [path for path in debian.glob("*/bin") if path.parent.name.isdigit()]
    newest_first = sorted(releases, key=lambda path: int(path.parent.name), reverse=True)
    found = find_program("initdb", *map(str, newest_first))
    return Path(found).resolve().parent if found else None


def missing() -> str | None:
    """Why there can be no PostgreSQL here, or None."""
    if os.environ.get(ENVIRONMENT) or programs() is not None:
        return None
    return f"PostgreSQL is not installed and {ENVIRONMENT} is not set"


def _says_ready(pid_file: Path) -> bool:
    return pid_file.exists() and pid_file.read_text(encoding="utf-8").rstrip().endswith("ready")


class _PostgresqlResetter(Resetter):
    async def empty(self, store: Store) -> None:
        for database in DATABASES:
            async with store.connect(database) as connection:
                await connection.exec_driver_sql(EMPTY)


class PostgresqlServer:
    """Starts at construction; ``await create_store(suffix)`` gives a set of databases.

    ``at`` is the administrator's URL of a server that somebody else has started.
    """

    def __init__(self, settings: Mapping[str, str] = SETTINGS, *, at: URL | None = None) -> None:
        self._settings = settings
        self._daemon: Daemon | None = None
        self._directory: Path | None = None
        self._created: list[str] = []
        self._roles: list[str] = []
        external = at or os.environ.get(ENVIRONMENT)
        self.admin = make_url(external).set(drivername=DRIVER) if external else self._start()

    def _start(self) -> URL:
        found = programs()
        if found is None:
            raise ServerError(missing())
        user = "postgres" if is_root() else None
        directory = self._directory = temporary_directory("pg", user)
        data = directory / "data"
        password = secrets.token_hex(16)
        password_file = directory / "password"
        password_file.write_text(password, encoding="ascii")
        password_file.chmod(0o644)
        made = run(
            [
                found / "initdb",
                f"--pgdata={data}",
                f"--pwfile={password_file}",
                "--username=admin",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            user=user,
        )
        password_file.unlink()
        if made.returncode != 0:
            raise ServerError(f"initdb: {made.stdout}{made.stderr}")
        for attempt in range(3):
            port = free_port()
            options = [f"-c{name}={value}" for name, value in self._settings.items()]
            sockets = f"-cunix_socket_directories={directory}"
            self._start_again = partial(
                Daemon.start,
                [found / "postgres", "-D", data, "-p", str(port), sockets, *options],
                log=directory / "log",
                user=user,
                stop_signal=signal.SIGQUIT,
                ready=partial(_says_ready, data / "postmaster.pid"),
            )
            try:
                self._daemon = self._start_again()
            except ServerError:
                # Somebody may have taken the port in between.
                if attempt == 2:
                    raise
                continue
            break
        return URL.create(DRIVER, "admin", password, "127.0.0.1", port, "postgres")

    def halt(self) -> None:
        """Stop the server as an administrator does, with all its connections."""
        assert self._daemon is not None
        # With SIGQUIT what was committed in the last moments would be lost: it does not sync here.
        self._daemon.stop_signal = signal.SIGINT
        self._daemon.stop()
        self._daemon = None

    def restart(self) -> None:
        """Start it again at the same port; one that runs is stopped first, as by a crash."""
        if self._daemon is not None:
            self.halt()
        assert self._directory is not None
        (self._directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._daemon = self._start_again()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to all its processes: SIGSTOP makes a server that answers nothing."""
        assert self._daemon is not None
        parent = self._daemon.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        for pid in (parent, *map(int, children.split())):
            with suppress(ProcessLookupError):  # a backend may end meanwhile
                os.kill(pid, number)

    async def _administer(self, *statements: str) -> None:
        engine = create_async_engine(self.admin, isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                for statement in statements:
                    await connection.exec_driver_sql(statement)
        finally:
            await engine.dispose()

    async def create_store(self, suffix: str) -> Store:
        """New databases ``vmail_<suffix>`` … with roles of the same kind of name.

        As on an iRedMail server each role owns its database and tables, and ``vmail`` may read
        the tables of its database except ``last_login``, and write ``used_quota``. The trigger of
        ``used_quota`` is that for the Dovecot of this host; without one, that for 2.3.
        """
        roles = [*OWNERS.values(), "vmail"]
        passwords = {role: secrets.token_hex(8) for role in roles}
        statements = [
            f"CREATE ROLE {role}_{suffix} LOGIN PASSWORD '{passwords[role]}'" for role in roles
        ]
        for database, owner in OWNERS.items():
            name = f"{NAMES[database]}_{suffix}"
            statements += [
                f"CREATE DATABASE {name} OWNER {owner}_{suffix} TEMPLATE template0",
                f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
                f"GRANT CONNECT ON DATABASE {name} TO {owner}_{suffix}",
            ]
        statements += [
            f"GRANT CONNECT ON DATABASE vmail_{suffix} TO vmail_{suffix}",
            f"ALTER DATABASE amavisd_{suffix} SET bytea_output = 'escape'",
        ]
        self._created += [f"{NAMES[database]}_{suffix}" for database in DATABASES]
        self._roles += [f"{role}_{suffix}" for role in roles]
        await self._administer(*statements)

        def url(database: Database, role: str) -> str:
            return self.admin.set(
                username=f"{role}_{suffix}",
                password=passwords[role],
                database=f"{NAMES[database]}_{suffix}",
            ).render_as_string(hide_password=False)

        store = Store(
            name="postgresql",
            **{str(name): url(name, owner) for name, owner in OWNERS.items()},  # type: ignore[arg-type]
            admin={
                name: self.admin.set(database=f"{NAMES[name]}_{suffix}").render_as_string(
                    hide_password=False
                )
                for name in DATABASES
            },
            vmail_reader=url("vmail", "vmail"),
            resetter=_PostgresqlResetter(),
        )
        for database, owner in OWNERS.items():
            async with store.connect(database) as connection:
                await connection.execute(text(f"SET ROLE {owner}_{suffix}"))
                await create_tables(connection, database)
                if database == "vmail":
                    for statement in TRIGGER_OF_24 if dovecot.version() >= (2, 4) else ():
                        await connection.exec_driver_sql(statement)
                    reader = f"vmail_{suffix}"
                    for grant in (
                        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}",
                        f"REVOKE ALL ON last_login FROM {reader}",
                        f"GRANT SELECT, INSERT, UPDATE, DELETE ON used_quota TO {reader}",
                    ):
                        await connection.execute(text(grant))
                await connection.execute(text("RESET ROLE"))
        return store

    async def drop_stores(self) -> None:
        """Leave nothing behind on a server that runs elsewhere."""
        if self._daemon is None:
            await self._administer(
                *(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in self._created),
                *(f"DROP ROLE IF EXISTS {name}" for name in self._roles),
            )

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
        if self._directory is not None:
            remove_directory(self._directory)
