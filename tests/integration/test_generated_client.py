"""A Python client generated from the OpenAPI document: every module imports, and it works.

The generator runs without network. ``--view canonical`` is the document for such clients; the
document of everything is tried too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import ApiProcess
from tests.servers.store import Store

IMPORT_ALL = """
import importlib, pkgutil, sys
import generated
names = [module.name for module in pkgutil.walk_packages(generated.__path__, "generated.")]
for name in names:
    importlib.import_module(name)
print(len(names), len([name for name in names if name.startswith("generated.api.")]))
"""

SCENARIO = """
import sys
from generated import AuthenticatedClient, Client
from generated.api.api_token import token_create
from generated.api.domain import domain_create, domain_read, domains_list
from generated.api.import_ import accounts_import
from generated.api.login import login
from generated.api.mail_user import user_create, user_delete, user_read, user_update, users_list
from generated.models import (
    CanonicalUser, DomainCreateJsonBody, Failure, LoginJsonBody, Success, TokenCreateJsonBody,
    UserCreateJsonBody, UserUpdateJsonBody,
)
from generated.types import File

url, name, password = sys.argv[1:]

visitor = Client(base_url=url)
refused = login.sync(client=visitor, body=LoginJsonBody(username=name, password="wrong"))
assert isinstance(refused, Failure) and refused.field_msg == "INVALID_CREDENTIALS", refused
answer = login.sync(client=visitor, body=LoginJsonBody(username=name, password=password))
assert isinstance(answer, Success) and answer.field_success is True, answer
made = token_create.sync(client=visitor, body=TokenCreateJsonBody(label="generated"))
client = AuthenticatedClient(base_url=url, token=made.field_data.token)

assert domains_list.sync(client=client).field_data == []
body = DomainCreateJsonBody(name="Example", quota=5000)
assert domain_create.sync("example.com", client=client, body=body).field_success
domain = domain_read.sync("example.com", client=client).field_data
assert (domain.domain, domain.quota, domain.existing_users) == ("example.com", 5000, 0)
body = UserCreateJsonBody(name="Alice", password=password, quota=100)
assert user_create.sync("alice@example.com", client=client, body=body).field_success

read = user_read.sync_detailed("alice@example.com", client=client)
user = read.parsed.field_data
assert isinstance(user, CanonicalUser) and (user.name, user.quota) == ("Alice", 100)
tag = read.headers["etag"]
same = user_read.sync_detailed("alice@example.com", client=client, if_none_match=tag)
assert same.status_code == 304
body = UserUpdateJsonBody(quota=200)
done = user_update.sync("alice@example.com", client=client, body=body, if_match=tag)
assert done.field_changed == ["quota"]
late = user_update.sync("alice@example.com", client=client, body=body, if_match=tag)
assert late.field_msg == "PRECONDITION_FAILED"
(user,) = users_list.sync("example.com", client=client).field_data
assert isinstance(user, CanonicalUser) and user.quota == 200
assert user_delete.sync("alice@example.com", client=client).field_success
gone = user_read.sync("alice@example.com", client=client)
assert (gone.field_msg, gone.field_success) == ("NO_SUCH_ACCOUNT", False)

line = b'{"type": "user", "mail": "bob@example.com", "password": "%s"}' % password.encode()
found = accounts_import.sync(client=client, body=File(payload=line)).payload.read()
assert b'"mail":"bob@example.com","result":"done"' in found, found
print("done")
"""


LINES = dict.fromkeys(("application/x-ndjson", "text/csv"), "application/octet-stream")
"""Kinds of content that the generator does not know (docs/clients.md)."""


def run(*command: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IREDAPI_")}
    # No name of a host is looked up: a proxy that is not there would be asked.
    clean |= {f"{kind}_proxy": "http://127.0.0.1:1" for kind in ("http", "https", "all")}
    clean |= {"PYTHONPATH": str(cwd), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    return done


def generate(directory: Path, *options: str) -> None:
    """Make the package ``generated``; what the generator cannot express is a failure."""
    printed = run(sys.executable, "-m", "iredapi.cli", "openapi", *options, cwd=directory)
    (directory / "openapi.json").write_text(printed.stdout, encoding="utf-8")
    options_file = {"post_hooks": [], "content_type_overrides": LINES}
    (directory / "options.json").write_text(json.dumps(options_file), encoding="utf-8")
    done = run(
        str(Path(sys.executable).parent / "openapi-python-client"),
        *("generate", "--path", "openapi.json", "--config", "options.json", "--meta", "none"),
        *("--output-path", "generated", "--fail-on-warning"),
        cwd=directory,
    )
    assert "WARNING" not in done.stdout + done.stderr


def import_all(directory: Path) -> None:
    done = run(sys.executable, "-W", "error", "-c", IMPORT_ALL, cwd=directory)
    modules, operations = map(int, done.stdout.split())
    described = json.loads((directory / "openapi.json").read_text(encoding="utf-8"))["paths"]
    assert operations >= sum(len(verbs) for verbs in described.values())
    assert modules > operations


def test_every_module_of_the_whole_document_imports(tmp_path: Path) -> None:
    generate(tmp_path)
    import_all(tmp_path)


@pytest.mark.stores("sqlite")
async def test_a_generated_client_works(store: Store, api: ApiProcess, tmp_path: Path) -> None:
    generate(tmp_path, "--view", "canonical")
    import_all(tmp_path)
    done = run(
        sys.executable, "-W", "error", "-c", SCENARIO, api.address, ROOT, PASSWORD, cwd=tmp_path
    )
    assert done.stdout.strip() == "done"
