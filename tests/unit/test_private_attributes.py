"""What is used of other packages' private parts: an upgrade that changes it fails here.

Such a package is pinned exactly in ``pyproject.toml``. To upgrade it: change the pin, run this, and
read what the names below mean in the new version.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import aiomysql
import aiosqlite
import bonsai.errors
import bonsai.ldapentry
import pymysql.err
import pytest
from bonsai.ldapconnection import BaseLDAPConnection
from bonsai.ldapvaluelist import LDAPValueList
from packaging.requirements import Requirement
from sqlalchemy.dialects.mysql.aiomysql import AsyncAdapt_aiomysql_connection
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection

ROOT: Final = Path(__file__).parents[2]
PRIVATE: Final[list[tuple[str, Any, str]]] = [
    # ``_translated`` makes SQLAlchemy's error of a driver's.
    ("sqlalchemy", AsyncAdapt_asyncpg_connection, "_handle_exception"),
    ("sqlalchemy", AsyncAdapt_aiomysql_connection, "_handle_exception"),
    ("sqlalchemy", AsyncAdapt_aiosqlite_connection, "_handle_exception"),
    # ``mysql_results`` reads answers from the stream itself.
    ("aiomysql", aiomysql.Connection, "_execute_command"),
    ("aiomysql", aiomysql.Connection, "_reader"),
    ("aiomysql", aiomysql.Connection, "server_status"),
    ("aiomysql", pymysql.err, "raise_mysql_exception"),
    # A connection that is never without TLS (``database/mysql_tls``).
    ("aiomysql", aiomysql.Connection, "_connect"),
    ("aiomysql", aiomysql.Connection, "_request_authentication"),
    ("aiomysql", aiomysql.Connection, "server_capabilities"),
    ("aiomysql", aiomysql.Connection, "client_flag"),
    # Several reads are one turn of the connection's thread.
    ("aiosqlite", aiosqlite.Connection, "_conn"),
    ("aiosqlite", aiosqlite.Connection, "_execute"),
    # What is replaced, and what the C layer calls (docs/adr/0007).
    ("bonsai", bonsai.errors, "_get_error"),
    ("bonsai", bonsai.ldapentry, "LDAPEntry"),
    ("bonsai", BaseLDAPConnection, "_evaluate"),
    ("bonsai", LDAPValueList, "status"),
    ("bonsai", LDAPValueList, "added"),
    ("bonsai", LDAPValueList, "deleted"),
]
"""The package, what has the attribute, and its name."""


def _is_there(owner: Any, name: str) -> bool:
    if hasattr(owner, name):
        return True
    # One that is assigned in ``__init__``.
    source = Path(__import__(owner.__module__, fromlist=["_"]).__file__ or "").read_text()
    return f"self.{name} = " in source or f"self.{name}: " in source


@pytest.mark.parametrize("package, owner, name", PRIVATE)
def test_a_private_attribute_is_still_there(package: str, owner: Any, name: str) -> None:
    assert _is_there(owner, name), f"{package} {version(package)} has no {name} any more"


@pytest.mark.parametrize("package", sorted({package for package, *_ in PRIVATE}))
def test_such_a_package_is_pinned_exactly(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["ldap"]]
    pins = {found.name: str(found.specifier) for found in map(Requirement, wanted)}
    assert pins[package] == f"=={version(package)}"


def _foreign(tree: ast.AST, own: frozenset[str]) -> Iterator[str]:
    """Private names that are asked of anything but ``self`` and are not made by us."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        if node.attr.startswith("__") or node.attr in own:
            continue
        if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}):
            yield node.attr


def _made_by_us(trees: list[ast.AST]) -> frozenset[str]:
    made = set[str]()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                made.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
    return frozenset(made)


def test_no_other_private_attribute_is_used() -> None:
    """In the drivers' layer, the storages and the state database."""
    every = {path: ast.parse(path.read_text()) for path in (ROOT / "src/iredapi").rglob("*.py")}
    own = _made_by_us(list(every.values())) - {name for _, _, name in PRIVATE}
    places = ("backends", "database", "state")
    used = {
        name
        for path, tree in every.items()
        if path.relative_to(ROOT / "src/iredapi").parts[0] in places
        for name in _foreign(tree, own)
    }
    documented = {"_mapping"}  # of SQLAlchemy's rows
    assert used - documented <= {name for _, _, name in PRIVATE}
