"""What spans say of statements, LDAP operations and URLs: their shape, and no value."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import iredapi
from iredapi.observability import spans

_LOADED = """
import pkgutil, sys
import iredapi
for module in pkgutil.walk_packages(iredapi.__path__, "iredapi."):
    if not any(part in module.name for part in ("otel_tracer", "__main__", "migrations")):
        __import__(module.name)
from iredapi.app import create_app
from iredapi.config.settings import Settings
create_app(Settings(_env_file=None))
heavy = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google.protobuf")
print([name for name in sys.modules if name.startswith(heavy)])
"""


def test_without_traces_opentelemetry_is_not_loaded() -> None:
    """FastAPI itself imports OpenTelemetry's API; its SDK, exporter and messages are ours."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_module_knows_opentelemetry() -> None:
    users = {
        file.name
        for file in Path(iredapi.__file__).parent.rglob("*.py")
        if re.search(r"^ *(from|import) opentelemetry", file.read_text("utf-8"), re.MULTILINE)
    }
    assert users == {"otel_tracer.py"}


@pytest.mark.parametrize(
    "sql, name, text",
    [
        ("SELECT name\n FROM mailbox  WHERE username = $1", "SELECT mailbox",
         "SELECT name FROM mailbox WHERE username = $1"),
        ("UPDATE mailbox SET name=%(name_1)s WHERE id = :id_2", "UPDATE mailbox",
         "UPDATE mailbox SET name=%(name_1)s WHERE id = :id_2"),
        ("BEGIN; SELECT 1 FROM domain WHERE domain IN ('ex.com', 'it''s') FOR UPDATE NOWAIT",
         "BEGIN domain", "BEGIN; SELECT ? FROM domain WHERE domain IN (?, ?) FOR UPDATE NOWAIT"),
        ("INSERT INTO alias VALUES ('a\\'b', 12, 1.5, 0xFF, t1.x2)", "INSERT alias",
         "INSERT INTO alias VALUES (?, ?, ?, ?, t1.x2)"),
        ("COMMIT", "COMMIT", "COMMIT"),
    ],
)  # fmt: skip
def test_statements_have_no_values(sql: str, name: str, text: str) -> None:
    found, attributes = spans.statement(sql, "postgresql", "/var/lib/iredapi/vmail.db")
    assert (found, attributes["db.query.text"]) == (name, text)
    assert attributes["db.namespace"] == "vmail.db"


@pytest.mark.parametrize(
    "text, shape",
    [
        ("(mail=u@ex.com)", "(mail=?)"),
        ("(&(objectClass=mailUser)(|(mail=a\\2ab)(shadowAddress=b)))",
         "(&(objectClass=?)(|(mail=?)(shadowAddress=?)))"),
        ("(mail=*)", "(mail=*)"),
        ("(mail=*@ex.com)", "(mail=?)"),
        ("(mail>=u@ex.com)", "(mail>=?)"),
        ("(!(mail=x=y))", "(!(mail=?))"),
    ],
)  # fmt: skip
def test_filters_have_no_values(text: str, shape: str) -> None:
    assert spans.filter_without_values(text) == shape


@pytest.mark.parametrize(
    "dn, shape",
    [
        ("mail=u@ex.com,ou=Users,domainName=ex.com,o=domains", "mail=?,ou=?,domainName=?,o=?"),
        ("mail=a\\,b@ex.com,o=domains", "mail=?,o=?"),
        ("", ""),
    ],
)
def test_names_of_entries_have_no_values(dn: str, shape: str) -> None:
    assert spans.directory("search", dn)[1]["ldap.dn"] == shape


@pytest.mark.parametrize(
    "path, shape",
    [
        ("/team@ex.com/subscribers", "/{address}/subscribers"),
        ("/team@ex.com/has_subscriber/u%40ex.com", "/{address}/has_subscriber/{address}"),
        ("/subscriber/u@ex.com/subscribed?query_all_lists=yes", "/subscriber/{address}/subscribed"),
        ("/team@ex.com?archive=yes", "/{address}"),
    ],
)
def test_paths_have_no_addresses(path: str, shape: str) -> None:
    assert spans.path_without_accounts(path) == shape
