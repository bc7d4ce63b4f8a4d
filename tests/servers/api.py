"""The product as its users run it: a process of its own, spoken to over real HTTP."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from iredapi.config.host_programs import Host
from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT
from tests.servers.dns import nowhere
from tests.servers.openldap import ADMIN_BASE
from tests.servers.process import Daemon, remove_directory, temporary_directory
from tests.servers.store import Store

COMMAND = (sys.executable, "-m", "iredapi.cli")
_LISTENS = re.compile(r"listens on (http://\S+)")
_SOURCE = str(Path(__file__).parents[2] / "src")
# Loopback, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(**given: str) -> dict[str, str]:
    """The environment of a command: nothing of ours but what is given."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": _SOURCE, "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"} | given


def urls_of(store: Store) -> dict[str, str]:
    """The settings that name where a store's data is, with the product's own logins."""
    return {f"IREDAPI_{name.upper()}": value for name, value in store.settings().items()}


def found_on_this_host() -> dict[str, Any]:
    """The settings that a process of the product finds out by itself, for a doctor beside it."""
    dovecot = Host().dovecot()
    return {} if dovecot is None else {"dovecot_version": dovecot.version}


class ApiProcess:
    """``iredapi serve`` on a port that was free; the printed address is the way to find it."""

    def __init__(
        self,
        given: Mapping[str, str],
        *,
        arguments: tuple[str, ...] = (),
        directory: Path,
        descriptors: int = 0,
        under: Sequence[str] = (),
    ) -> None:
        """``under`` is a program that runs the service, valgrind for example, much slower."""
        self.directory = directory
        log = directory / "log"
        log.write_bytes(b"")
        usual = {"IREDAPI_DRAIN_SECONDS": "0", "IREDAPI_START_TIMEOUT": "0"}
        usual |= {"IREDAPI_PORT": "0", "IREDAPI_DNS_RESOLVER": nowhere()}
        settings = environment(**{**usual, **given})
        words = [f"{name}={value}" for name, value in settings.items()]
        limited = ["/usr/bin/prlimit", f"--nofile={descriptors}:{descriptors}"]
        self._daemon = Daemon.start(
            [
                *(limited if descriptors else ()),
                "/usr/bin/env",
                "-i",
                "-C",
                directory,
                *words,
                *under,
                *COMMAND,
                "serve",
                *arguments,
            ],
            log=log,
            ready=partial(_answers, log),
            timeout=600 if under else 60,
        )
        found = _LISTENS.search(self.output)
        assert found is not None
        self.address = found[1]

    @property
    def output(self) -> str:
        """What it has printed and logged so far."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process that was started, the parent of its workers."""
        return self._daemon.process.pid

    def stop(self) -> None:
        """Stop it and all its workers."""
        self._daemon.stop(timeout=40)


def _answers(log: Path) -> bool:
    found = _LISTENS.search(log.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        return False
    try:
        with _OPENER.open(found[1] + "/api/", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True  # "log in first" is an answer
    except OSError:
        return False


_SHARED: dict[str, Callable[[], None]] = {}
"""How to stop a service that several tests share, by the URL of its SQLite file."""


def share_sqlite(store: Store, stop: Callable[[], None]) -> None:
    """Let whoever starts another service on a store stop the shared one: SQLite takes one only."""
    if store.name == "sqlite":
        _SHARED[store.vmail] = stop


@contextmanager
def running(
    given: Mapping[str, str],
    *,
    arguments: tuple[str, ...] = (),
    directory: Path | None = None,
    descriptors: int = 0,
) -> Iterator[ApiProcess]:
    """Run a service with the given environment; in a directory of its own unless one is named.

    ``descriptors``: how many files and connections it may have open; 0: as many as we may.
    """
    stop_shared = _SHARED.pop(given.get("IREDAPI_VMAIL_URL", ""), None)
    if stop_shared is not None:
        stop_shared()
    place = directory or temporary_directory("api")
    try:
        process = ApiProcess(given, arguments=arguments, directory=place, descriptors=descriptors)
        try:
            yield process
        finally:
            process.stop()
    finally:
        if directory is None:
            remove_directory(place)


@contextmanager
def running_on(store: Store, **given: str) -> Iterator[ApiProcess]:
    """Run a service on a store: with two workers, but one on SQLite, which allows no more."""
    workers = "1" if store.name == "sqlite" else "2"
    place = temporary_directory("api")
    settings = {"IREDAPI_WORKERS": workers, "IREDAPI_DATA_DIR": str(place)}
    try:
        with running(settings | urls_of(store) | given, directory=place) as process:
            yield process
    finally:
        remove_directory(place)


async def add_root(store: Store, mail: str = ROOT, password: str = PASSWORD) -> None:
    """Write a global admin where accounts are, as iRedMail's installer does."""
    if store.name == "openldap":
        store.directory.add(
            f"mail={mail},{ADMIN_BASE}",
            {
                "objectClass": "mailAdmin",
                "mail": mail,
                "userPassword": hash_password(password),
                "accountStatus": "active",
                "domainGlobalAdmin": "yes",
            },
        )
        return
    await store.insert(
        "admin", {"username": mail, "name": "", "password": hash_password(password), "active": 1}
    )
    await store.insert("domain_admins", {"username": mail, "domain": "ALL", "active": 1})
