"""The programs that are measured, as processes of their own, and their memory."""

from __future__ import annotations

import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers.api import ApiProcess, environment, urls_of
from tests.servers.process import Daemon, remove_directory, temporary_directory
from tests.servers.store import Store

_BARE = re.compile(r"bare limit on (http://\S+)")
_ROOT = Path(__file__).parents[1]


@contextmanager
def service(store: Store, *, workers: int = 1, **given: str) -> Iterator[ApiProcess]:
    """Run ``iredapi serve`` on a store, with the default settings."""
    place = temporary_directory("bench")
    settings = {"IREDAPI_WORKERS": str(workers), "IREDAPI_DATA_DIR": str(place)}
    process = ApiProcess(settings | urls_of(store) | given, directory=place)
    try:
        yield process
    finally:
        process.stop()
        remove_directory(place)


@contextmanager
def bare(store: Store) -> Iterator[str]:
    """Run the bare program on a store; gives its address."""
    place = temporary_directory("bare")
    log = place / "log"
    log.write_bytes(b"")
    words = [f"{name}={value}" for name, value in _bare_environment(store).items()]
    process = Daemon.start(
        ["/usr/bin/env", "-i", "-C", _ROOT, *words, sys.executable, "-m", "bench.bare"],
        log=log,
        ready=lambda: _BARE.search(log.read_text(encoding="utf-8")) is not None,
    )
    try:
        found = _BARE.search(log.read_text(encoding="utf-8"))
        assert found is not None
        yield found[1]
    finally:
        process.stop()
        remove_directory(place)


def _bare_environment(store: Store) -> Mapping[str, str]:
    if store.name == "openldap":
        given = store.directory.settings()
        return environment(
            BARE_KIND=store.name,
            BARE_URI=given["ldap_uri"],
            BARE_BASE=given["ldap_base_dn"],
            BARE_DN=given["ldap_bind_dn"],
            BARE_PASSWORD=given["ldap_bind_password"],
        )
    return environment(
        BARE_KIND=store.name,
        **{f"BARE_{name.upper()}": url for name, url in store.urls().items()},
    )


def processes(pid: int) -> list[int]:
    """A process and all that it has started."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        children = Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii")
        todo += map(int, children.split())
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that a process and its children have used so far."""
    ticks = 0
    for one in processes(pid):
        # The name in brackets may hold blanks; utime and stime are fields 14 and 15.
        fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Memory:
    """The resident memory of a process and its children, in bytes."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def now(self) -> int:
        """Return the resident memory in bytes."""
        return sum(map(partial(_status, "VmRSS"), processes(self._pid)))

    def peak(self) -> int:
        """Return the maximum since ``forget_peak``."""
        return sum(map(partial(_status, "VmHWM"), processes(self._pid)))

    def forget_peak(self) -> None:
        """Start a new measurement of the maximum."""
        for pid in processes(self._pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _status(name: str, pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def login(address: str, username: str, password: str) -> str:
    """Log in to a service and return the cookie."""
    request = urllib.request.Request(
        f"{address}/api/login",
        data=f"username={username}&password={password}".encode(),
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return str(answer.headers["Set-Cookie"]).partition(";")[0]
