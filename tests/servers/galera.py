"""Three MariaDB servers in one Galera cluster, on loopback."""

from __future__ import annotations

import re
import secrets
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL, make_url

from tests.servers.mariadb import DRIVER, QUERY, SETTINGS, MariadbServer, initialise
from tests.servers.process import (
    Daemon,
    ServerError,
    find_program,
    free_port,
    is_root,
    run,
    temporary_directory,
)
from tests.servers.store import Store

_LIBRARIES: Final = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
_SETTINGS: Final = [
    *(word for word in SETTINGS if "trx-commit" not in word),
    "--innodb-flush-log-at-trx-commit=2",  # what is committed survives ``kill -9``
    "--binlog-format=ROW",
    "--innodb-autoinc-lock-mode=2",
    "--default-storage-engine=InnoDB",
    "--wsrep-on=ON",
    "--wsrep-cluster-name=iredapi-test",
    "--wsrep-sst-method=rsync",
    "--wsrep-slave-threads=2",
]
_ATTEMPTS: Final = 3
_OPTIONS: Final = ("gcache.size=64M",)
_POSITION: Final = re.compile(r"Recovered position: *([0-9a-f-]{36}:-?\d+)")


def _library() -> str | None:
    return next((path for path in _LIBRARIES if Path(path).exists()), None)


def missing() -> str | None:
    """Why there can be no Galera cluster here, or None."""
    for program in ("mariadbd", "mariadb-install-db", "wsrep_sst_rsync", "rsync"):
        if not find_program(program):
            return f"{program} is not installed"
    return None if _library() else "galera-4 is not installed"


class GaleraNode(MariadbServer):
    """One server of a cluster; ``GaleraCluster`` makes it."""

    def __init__(self, admin_password: str) -> None:
        self._password = admin_password
        self._starts = 0
        self._port, self._group, self._ist, self._sst = (free_port() for _ in range(4))
        self.group_address = f"127.0.0.1:{self._group}"
        super().__init__(_SETTINGS)

    def _start(self) -> URL:
        # Only its place and command: the cluster starts its servers one after the other.
        program = find_program("mariadbd")
        assert program is not None
        self._user = "mysql" if is_root() else None
        directory = self._directory = temporary_directory("gal", self._user)
        self._command = [
            program,
            "--no-defaults",
            f"--datadir={directory / 'data'}",
            f"--socket={directory / 'socket'}",
            f"--pid-file={directory / 'pid'}",
            f"--port={self._port}",
            *self._settings,
        ]
        return URL.create(DRIVER, "admin", self._password, "127.0.0.1", self._port, "mysql", QUERY)

    def initialise(self) -> None:
        """Make the files of the first server of a cluster, with its administrator."""
        assert self._directory is not None
        installer = find_program("mariadb-install-db")
        assert installer is not None
        cleaning = initialise(installer, self._directory / "data", self._user)
        accounts = self._directory / "accounts.sql"
        accounts.write_text(
            f"{cleaning}"
            f"CREATE USER admin@'%' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO admin@'%' WITH GRANT OPTION;\n",
            encoding="ascii",
        )
        accounts.chmod(0o644)
        log = self._directory / "log-accounts"
        # After the others: without the cluster.
        alone = Daemon.start(
            [*self._command, f"--init-file={accounts}", "--wsrep-on=OFF"],
            log=log,
            user=self._user,
            stop_signal=signal.SIGTERM,
            ready=partial(says, log, b"ready for connections"),
        )
        alone.stop(60)
        accounts.unlink()

    def join(self, others: Sequence[GaleraNode], *, first: bool = False) -> None:
        """Start it as the first server of a new cluster, or beside others."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._join(others, first=first)
            except ServerError:
                # Somebody has taken one of its ports while it was away (rsync's, for example).
                time.sleep(1)
                self._ist, self._sst = free_port(), free_port()
        return self._join(others, first=first)

    def _join(self, others: Sequence[GaleraNode], *, first: bool) -> None:
        assert self._directory is not None
        self._starts += 1
        log = self._directory / f"log{self._starts}"
        data = self._directory / "data"
        if not data.exists():
            data.mkdir()
            data.chmod(0o700)
            if self._user is not None:
                run(["chown", f"{self._user}:", data])
        addresses = ",".join(node.group_address for node in others)
        options = [
            *_OPTIONS,
            "base_host=127.0.0.1",
            f"base_port={self._group}",
            f"gmcast.listen_addr=tcp://{self.group_address}",
            f"ist.recv_addr=127.0.0.1:{self._ist}",
            f"ist.recv_bind=127.0.0.1:{self._ist}",
        ]
        words = [
            f"--wsrep-provider={_library()}",
            f"--wsrep-node-address={self.group_address}",
            f"--wsrep-node-incoming-address=127.0.0.1:{self._port}",
            f"--wsrep-sst-receive-address=127.0.0.1:{self._sst}",
            f"--wsrep-provider-options={'; '.join(options)}",
            f"--wsrep-cluster-address=gcomm://{'' if first else addresses}",
            *(["--wsrep-new-cluster"] if first else []),
        ]
        self._daemon = Daemon.start(
            [*self._command, *words, *self._recovered(words)],
            log=log,
            user=self._user,
            stop_signal=signal.SIGKILL,
            ready=partial(says, log, b"Synchronized with group, ready for connections"),
            timeout=120,
        )

    def _recovered(self, words: Sequence[str]) -> list[str]:
        """Where a server that was killed is, as Debian's ``galera_recovery`` finds out.

        Without it the server takes the whole data of another one, which waits meanwhile.
        """
        if self._starts == 1:
            return []
        found = run([*self._command, *words, "--wsrep-recover"], user=self._user)
        (position,) = _POSITION.findall(found.stdout + found.stderr)[-1:]
        return [f"--wsrep-start-position={position}"]

    def kill(self) -> None:
        """``kill -9``."""
        assert self._daemon is not None
        self._daemon.stop()

    @property
    def running(self) -> bool:
        return self._daemon is not None and self._daemon.process.poll() is None

    @property
    def port(self) -> int:
        return self._port

    @property
    def output(self) -> str:
        """The end of its log."""
        assert self._daemon is not None
        return self._daemon.tail()


def says(log: Path, words: bytes) -> bool:
    return log.exists() and words in log.read_bytes()


class GaleraCluster:
    """Servers that all take writes; starts at construction."""

    def __init__(self, size: int = 3) -> None:
        password = secrets.token_hex(16)
        self.nodes = [GaleraNode(password) for _ in range(size)]
        first, *others = self.nodes
        first.initialise()
        first.join([], first=True)
        for node in others:
            node.join([first])

    async def create_store(self, suffix: str) -> list[Store]:
        """Make databases as ``MariadbServer`` does; the same ones as each node shows them."""
        store = await self.nodes[0].create_store(suffix)
        await store.close()
        return [_on(node, store) for node in self.nodes]

    def with_others(self, stores: Sequence[Store]) -> list[Store]:
        """The same databases on each node, or on another one while that node is not there."""
        ports = [node.port for node in self.nodes]
        found = []
        for store, port in zip(stores, ports, strict=True):
            others = "".join(f",127.0.0.1:{other}" for other in ports if other != port)
            moved: dict[str, Any] = {
                str(name): url.replace(f"127.0.0.1:{port}", f"127.0.0.1:{port}{others}")
                for name, url in store.urls().items()
            }
            found.append(replace(store, **moved))
        return found

    def restart(self, node: GaleraNode) -> None:
        """Start a server that was killed; it is back when it has what the others have."""
        node.join([other for other in self.nodes if other is not node])

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def _on(node: GaleraNode, store: Store) -> Store:
    def moved(url: str) -> str:
        return make_url(url).set(port=node.port).render_as_string(hide_password=False)

    return replace(
        store,
        vmail=moved(store.vmail),
        amavisd=moved(store.amavisd),
        iredapd=moved(store.iredapd),
        iredadmin=moved(store.iredadmin),
        state=moved(store.state),
        admin={name: moved(url) for name, url in store.admin.items()},
        vmail_reader=moved(store.vmail_reader),
        # What was committed on another node is seen, as the service sees it.
        engine_options={
            "connect_args": {"init_command": "SET SESSION wsrep_sync_wait = 1"},
            "pool_pre_ping": True,  # nodes are killed
        },
    )
