"""Two PostgreSQL servers: a primary and a standby with synchronous replication."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import URL, make_url

from tests.servers.postgresql import DRIVER, SETTINGS, programs
from tests.servers.process import (
    Daemon,
    ServerError,
    free_port,
    is_root,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import Store

REPLICATES: Final = {
    **SETTINGS,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "wal_log_hints": "on",  # for pg_rewind
    "wal_keep_size": "1GB",
    "hot_standby": "on",
    "max_wal_senders": "10",
}


def several_hosts(url: str, ports: list[int]) -> str:
    """A URL of the same database on the server of several that takes writes."""
    given = make_url(url)
    hosts = tuple(f"127.0.0.1:{port}" for port in ports)
    query = {"host": hosts, "target_session_attrs": "read-write"}
    made = URL.create(DRIVER, given.username, given.password, database=given.database, query=query)
    return made.render_as_string(hide_password=False)


def on_several_hosts(store: Store, ports: list[int]) -> Store:
    """The same databases, on whichever server takes writes."""
    return replace(
        store,
        vmail=several_hosts(store.vmail, ports),
        amavisd=several_hosts(store.amavisd, ports),
        iredapd=several_hosts(store.iredapd, ports),
        iredadmin=several_hosts(store.iredadmin, ports),
        state=several_hosts(store.state, ports),
        admin={name: several_hosts(url, ports) for name, url in store.admin.items()},
        engine_options={"pool_pre_ping": True},
    )


def settings_on_several_hosts(store: Store) -> dict[str, str]:
    """The environment of a service, with URLs of several hosts as libpq writes them."""
    found = {}
    for name, given in store.urls().items():
        url = make_url(given)
        hosts = ",".join(url.query["host"])
        found[f"IREDAPI_{name.upper()}_URL"] = (
            f"postgresql://{url.username}:{url.password}@{hosts}/{url.database}"
            "?target_session_attrs=read-write"
        )
    return found


def kill_tree(pid: int) -> None:
    """``kill -9`` of a process and all its children, as when a machine is gone."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(FileNotFoundError):
        pids = [pid, *map(int, children.read_text(encoding="ascii").split())]
        for each in pids:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


class Node:
    """One server with a data directory of its own; it does not start by itself."""

    def __init__(self, password: str) -> None:
        found = programs()
        assert found is not None
        self.programs: Path = found
        self.user = "postgres" if is_root() else None
        self.password = password
        self.directory = temporary_directory("pgn", self.user)
        self.data = self.directory / "data"
        self.port = free_port()
        self._daemon: Daemon | None = None
        self._passwords = self.directory / "pgpass"
        self._passwords.write_text(f"*:*:*:admin:{password}\n", encoding="ascii")
        self._passwords.chmod(0o600)
        if self.user is not None:
            shutil.chown(self._passwords, self.user)

    def url(self, database: str = "postgres") -> URL:
        """Of its administrator."""
        return URL.create(DRIVER, "admin", self.password, "127.0.0.1", self.port, database)

    def execute(self, name: str, *words: str | Path) -> None:
        """Run one of PostgreSQL's programs to its end."""
        command = ["/usr/bin/env", f"PGPASSFILE={self._passwords}", self.programs / name, *words]
        done = run(command, user=self.user, timeout=120)
        if done.returncode:
            raise ServerError(f"{name}: {done.stdout}{done.stderr}")

    def initialise(self) -> None:
        """Make the files of a new server."""
        file = self.directory / "password"
        file.write_text(self.password, encoding="ascii")
        file.chmod(0o644)
        self.execute(
            "initdb", f"--pgdata={self.data}", f"--pwfile={file}", "--username=admin",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        file.unlink()
        # In the file, for pg_rewind and the recovery that it begins with.
        with (self.data / "postgresql.conf").open("a", encoding="ascii") as settings:
            settings.writelines(f"{name} = '{value}'\n" for name, value in REPLICATES.items())

    def start(self) -> None:
        """Start it, as what it was; returns when it answers."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._daemon = Daemon.start(
            [
                self.programs / "postgres", "-D", self.data, "-p", str(self.port),
                f"-cunix_socket_directories={self.directory}",
            ],
            log=self.directory / "log",
            user=self.user,
            stop_signal=signal.SIGQUIT,
            ready=partial(_is_ready, self.data / "postmaster.pid"),
            timeout=120,
        )  # fmt: skip

    def kill(self) -> None:
        """``kill -9`` of all its processes."""
        assert self._daemon is not None
        kill_tree(self._daemon.process.pid)
        self._daemon.stop()

    def clone(self, primary: Node) -> None:
        """Become a standby of another server by a new base backup."""
        run(["rm", "-rf", self.data])
        self.execute("pg_basebackup", "-D", self.data, "-d", primary._standby_of(self), "-R", "-X",
                     "stream", "--checkpoint=fast", "--no-sync")  # fmt: skip

    def rewind(self, primary: Node) -> None:
        """Become a standby of the server that was promoted instead of this one."""
        source = primary._standby_of(self) + " dbname=postgres"
        self.execute("pg_rewind", f"--target-pgdata={self.data}", f"--source-server={source}", "-R",
                     "--no-sync")  # fmt: skip

    def _standby_of(self, standby: Node) -> str:
        return (
            f"host=127.0.0.1 port={self.port} user=admin passfile={standby._passwords} "
            f"application_name=node{standby.port}"
        )

    async def query(self, *statements: str) -> Any:
        """Run statements; returns the value of the last one."""
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="admin", password=self.password,
            database="postgres", timeout=10,
        )  # fmt: skip
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close(timeout=5)

    @property
    def output(self) -> str:
        """The end of its log."""
        return "" if self._daemon is None else self._daemon.tail()

    def stop(self) -> None:
        """Stop it and remove everything."""
        if self._daemon is not None:
            self._daemon.stop()
        remove_directory(self.directory)


def _is_ready(pid_file: Path) -> bool:
    if not pid_file.exists():
        return False
    last = pid_file.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
    return last.strip() in {"ready", "standby"}


class PostgresqlPair:
    """A primary that waits for its standby at each COMMIT. ``await start()`` first."""

    def __init__(self) -> None:
        password = secrets.token_hex(16)
        self.primary, self.standby = Node(password), Node(password)
        self.ports = [self.primary.port, self.standby.port]
        self._returns = 0

    async def start(self) -> None:
        """Make both."""
        self.primary.initialise()
        self.primary.start()
        await self.follow(rewind=False)

    async def follow(self, *, rewind: bool) -> None:
        """Make ``standby`` follow ``primary``, and commits wait for it once it is there."""
        if rewind:
            await asyncio.to_thread(self.standby.rewind, self.primary)
        else:
            await asyncio.to_thread(self.standby.clone, self.primary)
        await self.attach()

    async def attach(self) -> None:
        """Start the standby; commits wait for it once it has what the primary has."""
        await asyncio.to_thread(self.standby.start)
        await self._wait("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")
        name = f"node{self.standby.port}"
        await self.primary.query(
            f"ALTER SYSTEM SET synchronous_standby_names = '{name}'", "SELECT pg_reload_conf()"
        )
        await self._wait("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")

    async def _wait(self, question: str) -> None:
        for _ in range(600):
            if await self.primary.query(question):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the standby does not follow:\n{self.standby.output}")

    async def fail_over(self) -> None:
        """Make the standby the primary. The old one must be gone."""
        self.primary, self.standby = self.standby, self.primary
        # It is alone for now: nobody can confirm its commits.
        await self.primary.query(
            "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()"
        )
        await self.primary.query("SELECT pg_promote(true, 60)")
        # Until this is done its files name the old timeline, and pg_rewind finds nothing to do.
        await self.primary.query("CHECKPOINT", "SELECT 1")

    async def bring_back(self) -> None:
        """Bring the old primary back as a standby: by pg_rewind, or by a new base backup."""
        self._returns += 1
        await self.follow(rewind=self._returns % 2 == 1)

    def stop(self) -> None:
        """Stop both."""
        for node in (self.standby, self.primary):
            node.stop()
