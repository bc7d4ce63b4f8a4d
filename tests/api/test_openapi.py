"""The OpenAPI document is valid, stable, complete, and true: its examples are sent and answered."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from iredapi.app import create_app
from iredapi.config.settings import Settings
from iredapi.errors import CODES
from tests.clients import PASSWORD, ROOT, Client, Service, serving

IDS = Path(__file__).parent / "operation_ids.txt"
COMMITTED = Path(__file__).parents[2] / "openapi.json"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@cache
def document() -> dict[str, Any]:
    made: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()
    return made


@dataclass(frozen=True)
class Operation:
    method: str
    path: str

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = document()["paths"][self.path][self.method.lower()]
        return found

    @property
    def tag(self) -> str:
        return str(self.spec["tags"][0])

    @property
    def takes_form(self) -> bool:
        """Whether the parameters are in the body, and no file."""
        return JSON in self.spec.get("requestBody", {}).get("content", {})

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Every parameter but those of the path: name → schema with its description."""
        if self.takes_form:
            schema = self.spec["requestBody"]["content"][JSON]["schema"]
            found: dict[str, dict[str, Any]] = schema["properties"]
            return found
        return {
            item["name"]: item["schema"] | {"description": item["description"]}
            for item in self.spec.get("parameters", [])
            if item["in"] == "query"
        }

    @property
    def required(self) -> list[str]:
        if self.takes_form:
            body = self.spec["requestBody"]
            return list(body["content"][FORM]["schema"].get("required", []))
        query = [item for item in self.spec.get("parameters", []) if item["in"] == "query"]
        return [item["name"] for item in query if item["required"]]

    @property
    def example_path(self) -> str:
        examples = {
            item["name"]: str(item["example"])
            for item in self.spec.get("parameters", [])
            if item["in"] == "path"
        }
        return re.sub(r"{(\w+)}", lambda found: examples[found[1]], self.path)


OPERATIONS = [
    Operation(method.upper(), path)
    for path, verbs in document()["paths"].items()
    for method in verbs
]
NAMES = [f"{op.method} {op.path}" for op in OPERATIONS]


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from document()["components"]["schemas"].items()
    for operation in OPERATIONS:
        for name, schema in operation.parameters.items():
            yield f"{operation} {name}", schema


# The document ------------------------------------------------------------------------------------


def test_it_is_openapi_3_1() -> None:
    made = document()
    assert made["openapi"].startswith("3.1.")
    assert made["info"].keys() >= {"title", "version", "description"}
    assert json.loads(json.dumps(made)) == made
    for name, schema in schemas():
        assert "$schema" not in schema, name
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(made)))
    for reference in references:
        place: Any = made
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_the_committed_document_is_true(tmp_path: Path) -> None:
    """``openapi.json`` is what ``iredapi openapi`` prints without configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IREDAPI_")}
    printed = subprocess.run(
        [sys.executable, "-m", "iredapi.cli", "openapi"],
        cwd=tmp_path, env=clean, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    # pytest would take minutes to show the difference.
    is_true = COMMITTED.read_bytes() == printed.stdout
    assert is_true, "run: make openapi"


def test_operation_ids_are_unique_and_stable() -> None:
    """Generated clients name their functions after them: a changed one breaks programs."""
    ids = [operation.spec["operationId"] for operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch("[a-z][a-z_]+", name) for name in ids)
    now = sorted(f"{op.spec['operationId']} {op.method} {op.path}" for op in OPERATIONS)
    listed = IDS.read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if line not in now] == [], "gone or changed: clients break"
    assert now == listed, f"new: add them to {IDS.name}, sorted"


def test_every_operation_is_described() -> None:
    tags = {tag["name"] for tag in document()["tags"]}
    for operation in OPERATIONS:
        spec = operation.spec
        assert len(spec["tags"]) == 1, operation
        assert operation.tag in tags, operation
        assert spec["summary"], operation
        assert not spec["summary"].endswith("."), operation
        if operation.tag != "Login":
            assert "Who may call" in spec["description"], operation
        named = set(re.findall(r"{(\w+)}", operation.path))
        described = {item["name"] for item in spec.get("parameters", []) if item["in"] == "path"}
        assert named == described, operation


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_parameters_and_answers_are_described(operation: Operation) -> None:
    described_parameters(operation)
    described_answers(operation)


def described_parameters(operation: Operation) -> None:
    for item in operation.spec.get("parameters", []):
        assert item["description"].endswith((".", "`")), item
        # /docs fills in examples: the same key in each request would be refused.
        is_key = item["name"] == "Idempotency-Key"
        assert is_key != ("example" in item or bool(item["schema"].get("examples"))), item
    for name, schema in operation.parameters.items():
        assert len(schema["description"]) > 5, name
        assert schema["type"] in {"string", "integer", "boolean", "number"}, name
        assert schema["examples"], name
        for example in schema["examples"]:
            Draft202012Validator(schema).validate(example)
    if operation.takes_form:
        content = operation.spec["requestBody"]["content"]
        # Pages show the first one, with its example; those of single parameters would all be sent.
        assert list(content) == [JSON, FORM]
        in_json, in_form = (content[kind]["schema"]["properties"] for kind in (JSON, FORM))
        assert in_json.keys() == in_form.keys()
        assert not any("examples" in schema for schema in in_form.values())
        assert not operation.spec["requestBody"]["required"], "the query may have them, too"
        Draft202012Validator(content[JSON]["schema"]).validate(content[JSON]["example"])
        assert len(content[JSON]["example"]) <= 3
        assert "archive@" not in json.dumps(content[JSON]["example"])


def described_answers(operation: Operation) -> None:
    responses = operation.spec["responses"]
    assert "200" in responses
    for status, response in responses.items():
        if status == "304":
            assert "content" not in response
            continue
        if status == "200" and operation in FILES:
            continue
        schema = response["content"]["application/json"]["schema"]
        assert schema, status
        codes = re.findall(r"`([A-Z_0-9]+)`", response["description"])
        if status != "200":
            assert schema == {"$ref": "#/components/schemas/Failure"}
            assert codes, status
        for code in codes:
            assert code in CODES
            if code != "INVALID_CREDENTIALS" or operation.tag == "Login":
                assert str(CODES[code].status) == status
    expected = {"200", "403", "500", "503"} | ({"401"} if operation.tag != "Login" else set())
    assert expected <= responses.keys()


# Its examples, sent ------------------------------------------------------------------------------

# What a parameter needs beside it to make sense.
COMPANIONS = {
    "primarymx": {"is_backupmx": "yes"},
    "maxQuota": {"quotaUnit": "GB"},
    "quotaUnit": {"maxQuota": "20"},
    "moderated": {"owner": "bob@example.com"},
    "query_dns_immediately": {"addDomains": "example.com"},
}
MAIL = "alice@example.com"
ID = "0123456789abcdef"
# What the examples of the calls about tokens, sessions and webhooks are about.
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "tokens": ("id", {
        "id": ID, "owner": ROOT, "role": "global", "label": "x", "domains": "*", "networks": "",
        "secret_hash": ID * 4, "account": ID * 4, "hint": "x", "created": 1.0, "old_until": 0.0,
        "read_only": 0,
    }),
    "sessions": ("id_hash", {
        "id_hash": ID * 4, "credential": ID * 4, "username": ROOT, "role": "global",
        "client": "x", "created": 1.0, "seen": time.time() + 3600, "expires": time.time() + 7200,
    }),
    "webhooks": ("id", {
        "id": ID, "owner": ROOT, "role": "global", "account": ID * 4, "label": "x",
        "url": "https://billing.example.com/", "kinds": "", "domains": "*", "secret": "x",
        "old_secret": "", "old_until": 0.0, "created": 1.0, "enabled": 0, "reason": "GONE",
        "changed": 1.0, "generation": 0, "position": 0, "progress": "", "attempts": 0,
        "delivered": None, "failing": None,
    }),
}  # fmt: skip


class History:
    """What must be there so that an operation's example succeeds."""

    def __init__(self, service: Service, operation: Operation) -> None:
        self._service = service
        self._operation = operation
        self._creates = operation.method == "POST" and re.fullmatch(
            r"/api/(domain|admin|user|alias|maillist|ml)/{\w+}", operation.path
        )
        self._noun = operation.path.split("/")[2]
        if self._noun in {"verify_password", "ldif"}:
            self._noun = operation.path.split("/")[3]
        self.root: Client

    async def begin(self) -> None:
        """A server with what the examples speak of."""
        self.root = root = await self._service.root()
        if self._noun != "admin":
            if not (self._creates and self._noun == "domain"):
                await root.ok("POST", "domain/example.com")
                await root.ok("POST", "user/bob@example.com", password=PASSWORD)
                if self._noun not in {"user", "alias", "aliases", "maillist", "ml"}:
                    await root.ok("POST", f"user/{MAIL}", password=PASSWORD)
            await root.ok("POST", "domain/elsewhere.org")
        await self.again()

    async def again(self) -> None:
        """The same before each request: what was made is removed, what was removed is made."""
        for table, (column, row) in OWN.items():
            store = self._service.store
            await store.execute(f"DELETE FROM {table} WHERE {column} LIKE '{ID}%'", "state")
            await store.insert(table, row, database="state")
        path = self._operation.example_path.removeprefix("/api/")
        if self._noun == "deleted_mailbox" or self._operation.path == "/api/user/{mail}":
            row = {"id": 12, "username": MAIL, "domain": "example.com", "maildir": "/old/alice"}
            await store.execute("DELETE FROM deleted_mailboxes")
            await store.insert("deleted_mailboxes", row)
        if self._creates:
            await self.root.call("DELETE", path)
        elif self._noun == "catchall":
            await self.root.ok("PUT", "domain/example.com", catchall="bob@example.com")
        elif self._noun in {"user", "alias", "admin", "maillist", "ml"}:
            mail, *new = re.findall(r"[\w.]+@[\w.]+", path)
            for name in new:
                await self.root.call("DELETE", f"{self._noun}/{name}")
            # An alias account has no password: the parameter is unknown there, and ignored.
            await self.root.call("POST", f"{self._noun}/{mail}", data={"password": PASSWORD})
        elif self._noun == "domain" and self._operation.method == "DELETE":
            await self.root.call("POST", "domain/example.com")


def validate(operation: Operation, response: httpx.Response) -> dict[str, Any]:
    """The answer is one of those that the document has, of the form that it says."""
    described = operation.spec["responses"]
    answer: dict[str, Any]
    if response.headers["content-type"] == "application/x-ndjson":
        assert "application/x-ndjson" in described["200"]["content"]
        lines = [json.loads(line) for line in response.text.splitlines()]
        answer = {"_success": True, "_data": lines}
    else:
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
    assert str(response.status_code) in described, (response.status_code, response.text)
    schema = described[str(response.status_code)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole).validate(answer)
    if response.status_code != 200:
        listed = described[str(response.status_code)]["description"]
        for code in {*answer["_msg"].split(","), *(e["code"] for e in answer.get("_errors", []))}:
            assert f"`{code}`" in listed, (operation, code)
    return answer


ON_LDAP = [op for op in OPERATIONS if op.path.startswith(("/api/maillist", "/api/ldif/"))]
"""What only a directory can do."""
FILES = [op for op in OPERATIONS if op.path == "/api/import"]
"""Whose body and answer are files."""
NEED_EVENTS = {"Events", "Webhook"}
"""Tags of operations that are off by default."""
ANYWHERE = [op for op in OPERATIONS if op not in ON_LDAP and op not in FILES]


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("operation", ANYWHERE, ids=named)
async def test_lesson_50_answers_are_as_documented(service: Service, operation: Operation) -> None:
    if operation.tag not in NEED_EVENTS:
        await as_documented(service, operation)
        return
    async with serving(service.store, events=True) as other:
        await as_documented(other, operation)


@pytest.mark.stores("openldap")
@pytest.mark.parametrize("operation", ON_LDAP, ids=named)
async def test_lesson_50_answers_of_ldap_only(service: Service, operation: Operation) -> None:
    await as_documented(service, operation)


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
@pytest.mark.parametrize("operation", ON_LDAP, ids=named)
async def test_not_supported_on_sql(service: Service, operation: Operation) -> None:
    """Refused by its code, after rights and before parameters; the documentation says so."""
    assert "Only where accounts are kept in LDAP" in operation.spec["description"]
    root = await service.root()
    path = operation.example_path.removeprefix("/api/")
    for sent in ({}, dict.fromkeys(operation.parameters, "\x00nonsense")):
        kind = "params" if operation.method == "GET" else "json"
        response = await root.http.request(operation.method, path, **{kind: sent})  # type: ignore[arg-type]
        answer = validate(operation, response)
        assert (response.status_code, answer["_msg"]) == (501, "NOT_SUPPORTED_BY_BACKEND")
        assert "_errors" not in answer
    other = await service.admin_of(mail="nobody@admins.test")
    response = await other.http.request(operation.method, path)
    assert validate(operation, response)["_msg"] == "PERMISSION_DENIED"


async def as_documented(service: Service, operation: Operation) -> None:
    history = History(service, operation)
    await history.begin()
    await examples(history, operation)
    await history.again()
    await refusals(service, history, operation)


async def examples(history: History, operation: Operation) -> None:
    """Each parameter with its example: alone, as a form and as JSON in turn."""
    carriers = itertools.cycle(["data", "json"] if operation.method != "GET" else ["params"])
    base: dict[str, Any] = {
        name: operation.parameters[name]["examples"][0] for name in operation.required
    }
    if history._creates and "password" in operation.parameters:
        base = {"password": PASSWORD}
    if operation.path == "/api/login":
        base = {"username": "root@admins.test", "password": PASSWORD}
    cases: list[dict[str, Any]] = [base]
    for name, schema in operation.parameters.items():
        if name in base:
            continue
        form = {**base, **COMPANIONS.get(name, {}), name: schema["examples"][0]}
        if name == "password_hash":
            form.pop("password", None)
        cases.append(form)
    if operation.takes_form and operation.path != "/api/login":
        cases.append(operation.spec["requestBody"]["content"][JSON]["example"])
    for form in cases:
        await history.again()
        response = await history.root.http.request(
            operation.method,
            operation.example_path.removeprefix("/api/"),
            **{next(carriers): form},  # type: ignore[arg-type]
        )
        answer = validate(operation, response)
        if "cursor" in form:  # that of the document is of another server
            assert (response.status_code, answer["_msg"]) == (400, "INVALID_CURSOR")
            continue
        assert (response.status_code, answer["_success"]) == (200, True), (form, answer)
        if operation.path == "/api/logout":
            await history.root.login()


async def refusals(service: Service, history: History, operation: Operation) -> None:
    """Nobody, nonsense in a parameter, nonsense in the path, nothing there, too much."""
    path = operation.example_path.removeprefix("/api/")
    stranger = service.client()
    if operation.tag != "Login":
        response = await stranger.http.request(operation.method, path)
        assert validate(operation, response)["_msg"] == "LOGIN_REQUIRED"
        other = await service.admin_of(mail="nobody@admins.test")
        response = await other.http.request(operation.method, path)
        if operation.tag in {"API Token", "Webhook"} or "{mailbox_id}" in operation.path:
            # Everybody has a list of them; those of others are not there.
            assert (response.status_code == 404) == ("_id}" in operation.path)
            validate(operation, response)
        elif "{" in operation.path:
            assert validate(operation, response)["_msg"] == "PERMISSION_DENIED"
        else:
            needs = operation.method == "GET" and operation.required
            assert response.status_code in ({400} if needs else {200, 403})
    if operation.parameters:
        nonsense = dict.fromkeys(operation.parameters, "\x00nonsense\n")
        kind = "params" if operation.method == "GET" else "json"
        response = await history.root.http.request(operation.method, path, **{kind: nonsense})  # type: ignore[arg-type]
        validate(operation, response)
        # Any text may be a password, and addresses of these lists are dropped when they are none.
        if not operation.path.startswith(("/api/verify_password", "/api/wblist")):
            assert response.status_code == 400
        if operation.method != "GET":
            response = await history.root.http.request(
                operation.method, path, content=b"{", headers={"Content-Type": "application/json"}
            )
            assert validate(operation, response)["_msg"] == "INVALID_REQUEST"
            response = await history.root.http.request(
                operation.method, path, content=b"x" * 9_000_000
            )
            assert validate(operation, response)["_msg"] == "REQUEST_TOO_LARGE"
    if "{" in operation.path:
        wrong = re.sub(r"{(\w+)}", "@@", operation.path).removeprefix("/api/")
        response = await history.root.http.request(operation.method, wrong)
        validate(operation, response)
        assert response.status_code in {400, 404}
        absent = re.sub(r"example\.(com|net)", "example.org", path)
        response = await history.root.http.request(
            operation.method, absent, data={"password": PASSWORD}
        )
        validate(operation, response)
