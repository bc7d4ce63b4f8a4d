"""The writes that make locks hold on Galera change each row that is locked, and change it back.

MariaDB alone is enough: what several nodes do with them is tested in ``tests/cluster/``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from sqlalchemy import Integer, Table, select, text

import iredapi
from iredapi.database.galera import changeable, writes_of
from tests.servers.store import Database, Store, product_metadata

pytestmark = pytest.mark.stores("mariadb")
SOURCES = Path(iredapi.__file__).parent
UNCHANGEABLE = {"share_folder", "anyone_shares", "wblist", "outbound_wblist"}
"""Tables whose rows are inserted and deleted only: a lock on them would raise LookupError."""
RAW_LOCKS = {"database/row_locks.py", "database/mysql_driver.py", "database/connection.py"}
"""Modules that write locks as text; ``PooledConnection`` adds the writes for them."""
VALUES = (0, 1, 2, 127, -1, -128)


def _tables(database: Database) -> list[Table]:
    metadata = product_metadata(database)
    assert metadata is not None
    return [table for name, table in metadata.tables.items() if name not in UNCHANGEABLE]


@pytest.mark.parametrize("database", ["vmail", "amavisd", "iredapd", "iredadmin"])
async def test_rows_are_changed_and_changed_back(store: Store, database: Database) -> None:
    for table in _tables(database):
        column = changeable(table)
        forth, back = writes_of(select(table).with_for_update())
        async with store.connect(database) as connection:
            await connection.execute(text("SET foreign_key_checks = 0"))
            await connection.execute(table.delete())
            await connection.exec_driver_sql(f"INSERT IGNORE INTO `{table.name}` () VALUES ()")
            for value in VALUES if isinstance(column.type, Integer) else ("", "~", "é x "):
                await connection.execute(
                    # Numbers without a sign become 0.
                    table.update().prefix_with("IGNORE").values({column.name: value})
                )
                before = (await connection.execute(select(table))).all()
                await connection.execute(forth)
                assert (await connection.execute(select(table))).all() != before, table.name
                await connection.execute(back)
                assert (await connection.execute(select(table))).all() == before, table.name
            await connection.execute(table.delete())
    await store.reset()


def test_a_value_that_fills_its_column_stays() -> None:
    """A text that has no room for a character more is left alone."""
    metadata = product_metadata("iredapd")
    assert metadata is not None
    forth, back = writes_of(select(metadata.tables["greylisting_whitelists"]).with_for_update())
    assert "char_length" in str(forth)
    assert "substr" in str(back)


def test_what_is_locked_does_not_depend_on_what_is_changed() -> None:
    """The second write must find the rows of the first one."""
    metadata = product_metadata("vmail")
    assert metadata is not None
    rights = metadata.tables["domain_admins"]
    locking = select(rights.c.username).where(rights.c.domain == "ALL", rights.c.active == 1)
    with pytest.raises(LookupError):
        writes_of(locking.with_for_update())


def test_no_other_module_locks_with_text() -> None:
    """Locks are statements of SQLAlchemy, or ``Row``s: those are written on Galera."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
                and any(word in node.value.upper() for word in ("FOR UPDATE", "IN SHARE MODE"))
            ):
                found.add(str(path.relative_to(SOURCES)))
    assert found == RAW_LOCKS
