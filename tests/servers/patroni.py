"""PostgreSQL servers under Patroni, with an etcd of their own, on loopback."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL

from tests.servers.postgresql import DRIVER, programs
from tests.servers.postgresql_pair import REPLICATES, kill_tree
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    is_root,
    remove_directory,
    temporary_directory,
)

TTL: Final = 20
"""Seconds until a leader that is gone loses its place: Patroni's smallest sensible value."""
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def missing() -> str | None:
    """Why there can be no Patroni here, or None."""
    for program in ("patroni", "etcd"):
        if find_program(program) is None:
            return f"{program} is not installed"
    return None if programs() else "PostgreSQL is not installed"


class Etcd:
    """One etcd server, which keeps who is the leader."""

    def __init__(self) -> None:
        program = find_program("etcd")
        assert program is not None
        user = "postgres" if is_root() else None
        self._directory = temporary_directory("etcd", user)
        self.port, peers = free_port(), free_port()
        url, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peers}"
        self._daemon = Daemon.start(
            [
                program,
                "--name=one",
                f"--data-dir={self._directory / 'data'}",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=one={peer}",
                # It shares two processors with everything else.
                "--heartbeat-interval=500",
                "--election-timeout=5000",
                "--unsafe-no-fsync",
            ],
            log=self._directory / "log",
            user=user,
            ready=partial(_answers, self.port),
        )

    def stop(self) -> None:
        """Stop it and remove everything."""
        self._daemon.stop()
        remove_directory(self._directory)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PatroniNode:
    """One Patroni and the PostgreSQL that it runs."""

    def __init__(self, name: str, etcd: Etcd, password: str) -> None:
        found = programs()
        assert found is not None
        self.name = name
        self.password = password
        self._user = "postgres" if is_root() else None
        self.directory = temporary_directory("pat", self._user)
        self.port, self._rest = free_port(), free_port()
        self._file = self.directory / "patroni.yml"
        # JSON is YAML, too.
        self._file.write_text(json.dumps(self._configuration(etcd, found)), encoding="utf-8")
        self._file.chmod(0o600)
        if self._user is not None:
            shutil.chown(self._file, self._user)
        self._daemon: Daemon | None = None

    def _configuration(self, etcd: Etcd, found: Path) -> dict[str, Any]:
        login = {"username": "admin", "password": self.password}
        parameters = {
            name: value for name, value in REPLICATES.items() if name != "listen_addresses"
        }
        return {
            "scope": "iredapi",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self._rest}",
                        "connect_address": f"127.0.0.1:{self._rest}"},
            "etcd3": {"host": f"127.0.0.1:{etcd.port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": parameters},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                ],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.directory / "data"),
                "bin_dir": str(found),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {"superuser": login, "replication": login, "rewind": login},
                "parameters": {
                    "unix_socket_directories": str(self.directory),
                    "password_encryption": "scram-sha-256",
                },
            },
        }  # fmt: skip

    def start(self) -> None:
        """Start Patroni, which makes, rewinds and starts its PostgreSQL by itself."""
        program = find_program("patroni")
        assert program is not None
        self._daemon = Daemon.start(
            [program, self._file],
            log=self.directory / "log",
            user=self._user,
            stop_signal=signal.SIGTERM,
            ready=partial(_answers, self._rest),
            timeout=60,
        )

    def kill(self) -> None:
        """``kill -9`` of Patroni and of PostgreSQL, as when a machine is gone."""
        assert self._daemon is not None
        self._daemon.process.kill()
        with suppress(FileNotFoundError, ValueError):
            pid_file = self.directory / "data" / "postmaster.pid"
            kill_tree(int(pid_file.read_text(encoding="ascii").split()[0]))
        self._daemon.stop()

    def members(self) -> list[dict[str, Any]]:
        """What it knows of the cluster: name, role and state of each server."""
        try:
            with _OPENER.open(f"http://127.0.0.1:{self._rest}/cluster", timeout=5) as answer:
                found: list[dict[str, Any]] = json.load(answer)["members"]
        except (OSError, urllib.error.URLError, ValueError):
            return []
        return found

    def url(self) -> URL:
        """Of the administrator."""
        return URL.create(DRIVER, "admin", self.password, "127.0.0.1", self.port, "postgres")

    def tail(self) -> str:
        """The end of its log."""
        return "" if self._daemon is None else self._daemon.tail()

    def stop(self) -> None:
        """Stop it with its PostgreSQL, and remove everything."""
        if self._daemon is not None:
            self._daemon.stop(timeout=30)
        remove_directory(self.directory)


class PatroniCluster:
    """Servers of which one is the leader and another its synchronous standby."""

    def __init__(self, size: int = 2) -> None:
        password = secrets.token_hex(16)
        self.etcd = Etcd()
        self.nodes = [PatroniNode(f"node{n}", self.etcd, password) for n in range(size)]
        self.nodes[0].start()
        self._wait(lambda: self.leader() is not None)
        for node in self.nodes[1:]:
            node.start()
        self.wait_for_standby()

    @property
    def ports(self) -> list[int]:
        """Of all PostgreSQL servers."""
        return [node.port for node in self.nodes]

    def _roles(self) -> dict[str, str]:
        for node in self.nodes:
            if members := node.members():
                return {each["name"]: each["role"] for each in members
                        if each["state"] in {"running", "streaming"}}  # fmt: skip
        return {}

    def leader(self) -> PatroniNode | None:
        """The leader, or None while there is none."""
        roles = self._roles()
        return next((node for node in self.nodes if roles.get(node.name) == "leader"), None)

    def wait_for_standby(self) -> None:
        """Wait until commits are on two servers: one more may be killed then."""
        self._wait(lambda: {"leader", "sync_standby"} <= set(self._roles().values()))

    def _wait(self, condition: Any, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                told = "\n".join(node.tail() for node in self.nodes)
                raise ServerError(f"Patroni: {self._roles()}\n{told}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop everything."""
        for node in self.nodes:
            node.stop()
        self.etcd.stop()
