"""PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

import socket
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.servers.process import (
    Daemon,
    find_program,
    free_port,
    is_root,
    remove_directory,
    run,
    temporary_directory,
)
from tests.servers.store import Store


def missing() -> str | None:
    """Why there can be no PgBouncer here, or None."""
    return None if find_program("pgbouncer") else "PgBouncer is not installed"


def version() -> tuple[int, ...]:
    """Its version, such as (1, 18, 0)."""
    said = run([find_program("pgbouncer") or "pgbouncer", "--version"]).stdout
    return tuple(int(part) for part in said.split()[1].split("."))


class PgBouncer:
    """Passes the logins of a store on; ``mode`` is ``session`` or ``transaction``."""

    def __init__(self, store: Store, mode: str, **settings: str) -> None:
        program = find_program("pgbouncer")
        assert program is not None, missing()
        user = "postgres" if is_root() else None
        self._directory = temporary_directory("pgb", user)
        self.port = free_port()
        server = make_url(store.vmail)
        users = self._directory / "users"
        urls = [make_url(url) for url in store.urls().values()]
        users.write_text(
            "".join(f'"{url.username}" "{url.password}"\n' for url in urls), encoding="ascii"
        )
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": mode,
            "default_pool_size": "8",
            "server_login_retry": "1",
            "ignore_startup_parameters": "extra_float_digits,search_path",
            **settings,
        }
        file = self._directory / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in given.items()]
        file.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
            + "\n".join(lines)
            + "\n",
            encoding="ascii",
        )
        for path in (users, file):
            path.chmod(0o644)
        self._daemon = Daemon.start(
            [program, file], log=self._directory / "log", user=user, ready=self._listens
        )

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def log(self) -> Path:
        """The file of its log."""
        return self._directory / "log"

    def stop(self) -> None:
        """Stop it and remove its files."""
        self._daemon.stop()
        remove_directory(self._directory)
