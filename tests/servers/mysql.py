"""A MySQL server in the place of MariaDB: its program, its settings, its first start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers.process import ServerError, find_program, run

_MARIADB_ONLY: Final = ("--aria-", "--innodb-log-file-size", "--skip-ssl")
_SETTINGS: Final = (
    "--mysqlx=OFF",
    "--innodb-redo-log-capacity=32M",
    # Without TLS new logins need RSA (caching_sha2_password), whose keys it makes all the same.
    "--auto-generate-certs=OFF",
)


def program() -> str | None:
    """The path of MySQL's server, or None; MariaDB may have a program of the same name."""
    found = find_program("mysqld")
    if found is None or "MariaDB" in run([found, "--no-defaults", "--version"]).stdout:
        return None
    return found


def in_place_of_mariadb() -> bool:
    """Whether the suite runs on MySQL."""
    return find_program("mariadbd") is None and program() is not None


def translated(settings: Sequence[str]) -> list[str]:
    """MariaDB's command line as MySQL takes it."""
    return [item for item in settings if not item.startswith(_MARIADB_ONLY)] + list(_SETTINGS)


def initialise(server: str, data: Path, user: str | None) -> str:
    """Make the files of a new server; returns the SQL that removes its accounts."""
    made = run(
        [server, "--no-defaults", "--initialize-insecure", f"--datadir={data}", _SETTINGS[-1]],
        user=user,
    )
    if made.returncode:
        raise ServerError(f"mysqld --initialize-insecure: {made.stdout}{made.stderr}")
    return "DROP USER root@localhost;\n"
