"""Galera nodes that are started by deploy/galera/start, and HAProxy of deploy/."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy.engine import URL

from tests.servers.galera import GaleraNode, says
from tests.servers.haproxy import Haproxy
from tests.servers.process import Daemon, find_program, free_port

_DEPLOY: Final = Path(__file__).parents[2] / "deploy"
ADDRESSES: Final = ("127.0.77.1", "127.0.77.2", "127.0.77.3")
"""Each node has an address of its own, for the ports of Galera are fixed."""
_ENTRYPOINT: Final = """#!/bin/sh
# In place of the image's, which makes new databases.
shift
exec mariadbd --defaults-file="${GALERA_DATA%/data}/my.cnf" "$@"
"""
_ACCOUNT: Final = (
    "CREATE USER mysql@localhost IDENTIFIED VIA unix_socket",
    "GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR ON *.* TO mysql@localhost",
)
"""What the image makes with MARIADB_MYSQL_LOCALHOST_USER and …_GRANTS."""

_LEFT_OUT: Final = ("--wsrep", "--innodb-buffer-pool-size")
"""The second: mariadb-backup gets it from the command line, and does not know it (10.11)."""


def missing() -> str | None:
    """Why there can be no such cluster here, or None."""
    for program in ("haproxy", "socat", "mariabackup"):
        if not find_program(program):
            return f"{program} is not installed"
    return None


class DeployedNode(GaleraNode):
    """A node that decides by itself whether it makes a new cluster."""

    def __init__(self, address: str, password: str) -> None:
        self.address = address
        self.check_port = free_port()
        super().__init__(password)

    def _start(self) -> URL:
        return super()._start().set(host=self.address)

    async def make_account(self) -> None:
        """Make the account of new nodes and of the check, as the image does."""
        await self._administer(*_ACCOUNT)

    def check(self) -> int:
        """Ask as HAProxy does; returns the status of HTTP."""
        return httpx.get(f"http://{self.address}:{self.check_port}/", trust_env=False).status_code

    def begin(self) -> None:
        """Start it, and wait until it is synchronised."""
        assert self._directory is not None
        self._starts += 1
        data = self._directory / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None and not any(data.iterdir()):
            shutil.chown(data, self._user, self._user)
        entrypoint = self._directory / "entrypoint"
        entrypoint.write_text(_ENTRYPOINT, encoding="ascii")
        entrypoint.chmod(0o755)
        # What the copying program says goes to the log of the node.
        options = self._directory / "my.cnf"
        options.write_text("[sst]\nsst-syslog=-1\n", encoding="ascii")
        log = self._directory / f"log{self._starts}"
        settings = {
            "GALERA_NODES": ",".join(ADDRESSES),
            "GALERA_NODE": self.address,
            "GALERA_DATA": str(data),
            "GALERA_ENTRYPOINT": str(entrypoint),
            "GALERA_CHECK": str(_DEPLOY / "galera" / "check"),
            "GALERA_CHECK_LISTEN": f"{self.check_port},bind={self.address}",
            "GALERA_CHECK_OPTIONS": f"--no-defaults --user=mysql --socket={self._directory}/socket",
        }
        self._daemon = Daemon.start(
            [
                "env",
                *(f"{name}={value}" for name, value in settings.items()),
                _DEPLOY / "galera" / "start",
                # These replace those of the script.
                *(word for word in self._command[2:] if not word.startswith(_LEFT_OUT)),
                f"--wsrep-provider-options=gmcast.listen_addr=tcp://{self.address}:4567",
                f"--bind-address={self.address}",
                # It listens on all addresses of the machine.
                f"--wsrep-sst-receive-address={self.address}:{self._sst}",
            ],
            log=log,
            user=self._user,
            stop_signal=signal.SIGTERM,
            ready=partial(says, log, b"Synchronized with group, ready for connections"),
            timeout=120,
        )

    def leave(self) -> None:
        """Stop it in order."""
        assert self._daemon is not None
        self._daemon.stop(60)

    def crash(self) -> None:
        """``kill -9``."""
        assert self._daemon is not None
        self._daemon.process.kill()
        self._daemon.stop()

    def lose_data(self) -> None:
        """Remove its files, as when a volume was lost."""
        assert self._directory is not None
        shutil.rmtree(self._directory / "data")


def proxy_of(nodes: list[DeployedNode]) -> Haproxy:
    """HAProxy in front of some nodes."""
    return Haproxy(
        "haproxy-galera.cfg",
        ":3306",
        {
            f"server galera{number} galera{number}:3306 check": (
                f"server galera{number} {node.address}:{node.port} check port {node.check_port}"
            )
            for number, node in enumerate(nodes, 1)
        },
    )
