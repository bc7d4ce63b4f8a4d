"""Which versions of database servers are too old, and what they can do."""

from __future__ import annotations

import pytest

from iredapi.database.server import Server


@pytest.mark.parametrize(
    "kind, version, old, nowait",
    [
        ("MySQL", (5, 7, 44), True, False),
        ("MySQL", (8, 0, 12), True, True),
        ("MySQL", (8, 0, 13), False, True),
        ("MySQL", (9, 7, 4), False, True),
        ("MariaDB", (10, 1, 48), True, False),
        ("MariaDB", (10, 2, 6), False, False),
        ("MariaDB", (10, 3, 39), False, True),
        ("MariaDB", (11, 8, 9), False, True),
        ("PostgreSQL", (9, 4, 26), True, True),
        ("PostgreSQL", (9, 5), False, True),
        ("PostgreSQL", (17, 2), False, True),
        ("SQLite", (3, 40, 1), False, True),
    ],
)
def test_versions(kind: str, version: tuple[int, ...], old: bool, nowait: bool) -> None:
    server = Server(kind, version)
    assert (bool(server.too_old()), server.has_nowait) == (old, nowait)


def test_percona_has_its_own_name_and_the_versions_of_mysql() -> None:
    server = Server("MySQL", (5, 7, 44), "Percona Server (GPL), Release 48, Revision 497f936a373")
    assert str(server) == "Percona Server 5.7.44"
    assert server.too_old().endswith("MySQL 8.0.13")
