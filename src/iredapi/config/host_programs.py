"""Which Dovecot, mlmmj and SQL server this host has: asked from the programs themselves.

Blocking, a few milliseconds: for commands and the start of a process, never for a request.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PLACES: Final = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/libexec")
_CONFIGURATIONS: Final = ("/etc/dovecot/dovecot.conf", "/usr/local/etc/dovecot/dovecot.conf")
_POSTGRESQL: Final = "usr/lib/postgresql/*/bin/postgres"
_SECONDS: Final = 5.0
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)+")
_SETTING: Final = re.compile(r"^\s*dovecot_config_version\s*=\s*(\d+(?:\.\d+)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Program:
    """A program of this host."""

    name: str
    version: str
    """As it says itself, such as ``2.3.19.1``."""
    where: str
    """Path of the program, or of the configuration that tells the version."""

    def __str__(self) -> str:
        """Its name, version and path, for messages."""
        return f"{self.name} {self.version} ({self.where})"


class Host:
    """The programs of a host; ``root`` and ``path`` are for tests."""

    def __init__(self, root: str = "/", path: str | None = None) -> None:
        self._root = Path(root)
        places = [str(self._root / place.lstrip("/")) for place in _PLACES]
        given = os.environ.get("PATH", "") if path is None else path
        self._path = os.pathsep.join([given, *places] if given else places)

    def dovecot(self) -> Program | None:
        """Return Dovecot: from the program, else from its configuration; None: there is none."""
        if found := self._asked("Dovecot", "dovecot", "--version"):
            return found
        for name in _CONFIGURATIONS:
            path = self._root / name.lstrip("/")
            with suppress(OSError):
                text = path.read_text(encoding="utf-8", errors="replace")
                setting = _SETTING.search(text)
                # 2.4 does not start without this setting, and 2.3 does not know it.
                return Program("Dovecot", setting[1] if setting else "2.3", str(path))
        return None

    def mlmmj(self) -> Program | None:
        """Return mlmmj; None: there is none."""
        return self._asked("mlmmj", "mlmmj-sub", "-V")

    def sql_servers(self) -> Iterator[Program]:
        """Return the SQL servers that are installed."""
        for path in sorted(self._root.glob(_POSTGRESQL)):
            if found := self._asked("PostgreSQL", str(path), "--version"):
                yield found
        for program in ("mariadbd", "mysqld"):
            if found := self._asked("MySQL", program, "--version"):
                name = "MariaDB" if program == "mariadbd" else "MySQL"
                yield Program(name, found.version, found.where)
                return

    def _asked(self, name: str, program: str, option: str) -> Program | None:
        """Run a program that prints its version; None when it is not there, or says nothing."""
        path = shutil.which(program, path=self._path)
        if path is None:
            return None
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [path, option],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
            if number := _NUMBER.search(done.stdout + done.stderr):
                return Program(name, number[0], path)
        return None


def release(version: str) -> str:
    """Return the release that decides how Dovecot reads passwords: ``2.3``, ``2.4`` or empty.

    Later releases count as 2.4.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else ()
    if not numbers:
        return ""
    return "2.3" if numbers < (2, 4) else "2.4"
