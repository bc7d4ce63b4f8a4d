"""A private MariaDB or MySQL server (or one that runs elsewhere), and stores on it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from iredapi.database.errors import is_retryable
from tests.servers import mysql
from tests.servers.openldap import OpenldapServer
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

ENVIRONMENT = "TEST_MARIADB_URL"
COLLATION_ENVIRONMENT = "TEST_MARIADB_COLLATION"
"""The collation of the tables of all stores, to run any tests with it."""
DRIVER = "mysql+aiomysql"
QUERY = {"charset": "utf8mb4"}

COLLATION = "utf8mb4_general_ci"
"""Of iRedMail's tables."""

ROWS = "SELECT, INSERT, UPDATE, DELETE"
# Login and rights for each database: no DDL, no temporary tables, no locks in most.
OWNERS: dict[Database, tuple[str, str]] = {
    "vmail": ("vmailadmin", ROWS),
    "amavisd": ("amavisd", ROWS),
    "iredapd": ("iredapd", "ALL PRIVILEGES"),
    "iredadmin": ("iredadmin", ROWS),
    "state": ("iredapi", "ALL PRIVILEGES"),
}
NAMES: dict[Database, str] = {name: name for name in DATABASES} | {"state": "iredapi_state"}

# Nothing survives the tests, so nothing has to reach the disk.
SETTINGS = [
    # The kernel's queues are few, and shared with every other server of this machine.
    "--innodb-use-native-aio=OFF",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-ssl",  # since 11.4 there is a certificate by default
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=OFF",
    "--innodb-lock-wait-timeout=10",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=8M",
    "--max-connections=200",
]

# What a benchmark measures with: commits are durable, and there is room for a million mailboxes.
DURABLE = [
    "--innodb-use-native-aio=OFF",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--innodb-buffer-pool-size=1G",
    "--innodb-log-file-size=512M",
    "--max-connections=200",
]
KEEPS_COMMITS = (
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-flush-method=fsync",
    "--innodb-doublewrite=ON",
)
"""Beside ``SETTINGS``: what is committed survives a server that is killed."""


def missing() -> str | None:
    """Why there can be neither MariaDB nor MySQL here, or None."""
    if os.environ.get(ENVIRONMENT):
        return None
    if find_program("mariadbd") and find_program("mariadb-install-db"):
        return None
    if mysql.program():
        return None
    return f"neither MariaDB nor MySQL is installed and {ENVIRONMENT} is not set"


def _says_ready(log: Path) -> bool:
    return log.exists() and b"ready for connections" in log.read_bytes()


def initialise(installer: str, data: Path, user: str | None) -> str:
    """Make the files of a new MariaDB; returns the SQL that removes its accounts."""
    for _ in range(3):
        made = run(
            [
                installer,
                "--no-defaults",
                f"--datadir={data}",
                "--skip-test-db",
                "--skip-name-resolve",
                "--auth-root-authentication-method=normal",
                "--innodb-log-file-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
            ],
            user=user,
        )
        if made.returncode == 0:
            return "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';\nFLUSH PRIVILEGES;\n"
        # Seen when several servers are made at the same time.
        shutil.rmtree(data, ignore_errors=True)
        time.sleep(2)
    raise ServerError(f"mariadb-install-db: {made.stdout}{made.stderr}")


# Other programs, and older servers, have stored dates such as 0000-00-00. MySQL refuses them.
_ADMIN_OPTIONS = {
    "connect_args": {
        "init_command": "SET SESSION sql_mode ="
        " REPLACE(REPLACE(@@sql_mode, 'NO_ZERO_IN_DATE', ''), 'NO_ZERO_DATE', '')"
    }
}


class _MariadbResetter(Resetter):
    # ALTER TABLE ... AUTO_INCREMENT = 1 takes ten milliseconds per table.
    restarts_ids = False

    async def empty(self, store: Store) -> None:
        for attempt in range(10):
            try:
                await self._delete_all(store)
            except DBAPIError as error:
                # Another node of a cluster has written to one of the tables meanwhile.
                if attempt == 9 or not is_retryable(error):
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def _delete_all(self, store: Store) -> None:
        schemas = [make_url(url).database for url in store.admin.values()]
        async with store.connect(next(iter(store.admin))) as connection:
            tables = await connection.execute(
                text(
                    "SELECT table_schema, table_name FROM information_schema.tables"
                    " WHERE table_schema IN :schemas AND table_type = 'BASE TABLE'"
                ).bindparams(bindparam("schemas", expanding=True)),
                {"schemas": schemas},
            )
            found = [f"`{schema}`.`{name}`" for schema, name in tables if name not in KEPT_TABLES]
            await connection.exec_driver_sql("SET foreign_key_checks = 0, lock_wait_timeout = 10")
            for name in found:
                await connection.exec_driver_sql(f"DELETE FROM {name}")
            await connection.exec_driver_sql("SET foreign_key_checks = 1")


class _OpenldapResetter(_MariadbResetter):
    async def empty(self, store: Store) -> None:
        store.directory.reset()
        await super().empty(store)


def _replace_collation(connection: AsyncConnection, collation: str) -> None:
    def changed(_: Any, __: Any, statement: str, values: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace(COLLATION, collation), values

    event.listen(connection.sync_connection, "before_cursor_execute", changed, retval=True)


class MariadbServer:
    """Starts at construction; ``await create_store(suffix)`` gives a set of databases."""

    def __init__(self, settings: Sequence[str] = SETTINGS) -> None:
        self._settings = settings
        self._daemon: Daemon | None = None
        self._restarts = 0
        self._directory: Path | None = None
        self._created: list[str] = []
        self._users: list[str] = []
        external = os.environ.get(ENVIRONMENT)
        self.admin = (
            make_url(external).set(drivername=DRIVER, query=QUERY) if external else self._start()
        )

    def _start(self) -> URL:
        program = find_program("mariadbd")
        installer = find_program("mariadb-install-db")
        server = None if program and installer else mysql.program()
        user = "mysql" if is_root() else None
        directory = self._directory = temporary_directory("my", user)
        data = directory / "data"
        password = secrets.token_hex(16)
        if server is not None:
            program = server
            settings = mysql.translated(self._settings)
            cleaning = mysql.initialise(server, data, user)
        elif program is not None and installer is not None:
            settings = list(self._settings)
            cleaning = initialise(installer, data, user)
        else:
            raise ServerError(missing())
        accounts = directory / "accounts.sql"
        accounts.write_text(
            f"{cleaning}"
            f"CREATE USER admin@'%' IDENTIFIED BY '{password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO admin@'%' WITH GRANT OPTION;\n",
            encoding="ascii",
        )
        accounts.chmod(0o644)
        for attempt in range(3):
            port = free_port()
            log = directory / f"log{attempt}"
            self._command = [
                program,
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={directory / 'socket'}",
                f"--pid-file={directory / 'pid'}",
                f"--port={port}",
                *settings,
            ]
            try:
                self._daemon = self._run(log, f"--init-file={accounts}")
            except ServerError:
                # Somebody may have taken the port in between.
                if attempt == 2:
                    raise
                continue
            break
        accounts.unlink()
        return URL.create(DRIVER, "admin", password, "127.0.0.1", port, "mysql", QUERY)

    def _run(self, log: Path, *more: str) -> Daemon:
        return Daemon.start(
            [*self._command, *more],
            log=log,
            user="mysql" if is_root() else None,
            # The data is thrown away: no need for an orderly shutdown.
            stop_signal=signal.SIGKILL,
            # The port is open earlier, but the accounts are not there yet.
            ready=partial(_says_ready, log),
        )

    def restart(self) -> None:
        """Break all connections at once, as a crash does; what was committed stays (durable)."""
        assert self._daemon is not None
        assert self._directory is not None
        self._daemon.stop()
        self._restarts += 1
        self._daemon = self._run(self._directory / f"log-again{self._restarts}")

    async def _administer(self, *statements: str) -> None:
        engine = create_async_engine(self.admin)
        try:
            async with engine.connect() as connection:
                for statement in statements:
                    # Percent signs are for the driver.
                    await connection.exec_driver_sql(statement.replace("%", "%%"))
        finally:
            await engine.dispose()

    async def create_store(
        self,
        suffix: str,
        openldap: OpenldapServer | None = None,
        *,
        collation: str = os.environ.get(COLLATION_ENVIRONMENT, COLLATION),
    ) -> Store:
        """New databases ``vmail_<suffix>`` … with logins of the same kind of name.

        With a server of OpenLDAP for the accounts there is no ``vmail``. ``collation`` is that of
        all tables but those of the state database.
        """
        owners = {
            name: owner for name, owner in OWNERS.items() if openldap is None or name != "vmail"
        }
        users = [*(user for user, _ in owners.values()), "vmail"]
        passwords = {user: secrets.token_hex(8) for user in users}
        statements = [
            f"CREATE USER {user}_{suffix}@'%' IDENTIFIED BY '{passwords[user]}'" for user in users
        ]
        for database, (user, rights) in owners.items():
            name = f"{NAMES[database]}_{suffix}"
            statements += [
                f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE {collation}",
                f"GRANT {rights} ON {name}.* TO {user}_{suffix}@'%'",
            ]
        if openldap is None:
            statements.append(f"GRANT SELECT ON vmail_{suffix}.* TO vmail_{suffix}@'%'")
        self._created += [f"{NAMES[database]}_{suffix}" for database in owners]
        self._users += [f"{user}_{suffix}" for user in users]
        await self._administer(*statements)

        def url(database: Database, user: str) -> str:
            return self.admin.set(
                username=f"{user}_{suffix}",
                password=passwords[user],
                database=f"{NAMES[database]}_{suffix}",
            ).render_as_string(hide_password=False)

        urls = {str(name): url(name, user) for name, (user, _) in owners.items()}
        store = Store(
            name="mariadb" if openldap is None else "openldap",
            vmail=urls.get("vmail", ""),
            amavisd=urls["amavisd"],
            iredapd=urls["iredapd"],
            iredadmin=urls["iredadmin"],
            state=urls["state"],
            admin={
                name: self.admin.set(database=f"{NAMES[name]}_{suffix}").render_as_string(
                    hide_password=False
                )
                for name in owners
            },
            vmail_reader=url("vmail", "vmail") if openldap is None else "",
            resetter=_MariadbResetter() if openldap is None else _OpenldapResetter(),
            engine_options=_ADMIN_OPTIONS,
            openldap=openldap,
        )
        for database in owners:
            async with store.connect(database) as connection:
                if collation != COLLATION:
                    _replace_collation(connection, collation)
                await create_tables(connection, database, store.name)
        return store

    async def drop_stores(self) -> None:
        """Leave nothing behind on a server that runs elsewhere."""
        if self._daemon is None:
            await self._administer(
                *(f"DROP DATABASE IF EXISTS {name}" for name in self._created),
                *(f"DROP USER IF EXISTS {name}@'%'" for name in self._users),
            )

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
        if self._directory is not None:
            remove_directory(self._directory)
