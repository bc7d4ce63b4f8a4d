"""Every text parameter of the document × hostile values, on every storage.

The list comes from the OpenAPI document. A value is refused with 400 (or 403, 404 where it names
what is not there), and then nothing at all has changed; or it is taken, and then nothing has
changed but the account that was named, and what is read back is what was sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.api.test_openapi import OPERATIONS, Operation
from tests.clients import PASSWORD, Client
from tests.conftest import _Services
from tests.servers.snapshot import Arranged, Arrangement, Difference
from tests.servers.store import Store

CORPUS: Final = {
    "sql": "x'; DROP TABLE mailbox; --",
    "sql-or": "' OR '1'='1' /*",
    "like": "%_%",
    "ldap": "*)(mail=*",
    "ldap-escaped": "a\\2a)(\\7c(x=*",
    "dn": "x,ou=Users,domainName=other.com",
    "nul": "a\0b",
    "newline": "a\nb: c",
    "return": "a\r\nX-Header: 1",
    "escape": "a\x1b[31mb",
    "overlong": "x" * 5000,
    "fits": "y" * 255,
    "surrogate": "a\ud800b",
    "rtl": "a\u202eb",
    "zero-width": "a\u200bb",
    "combining": "e\u0301",
    "astral": "😀",
    "homoglyph": "u@ех.com",
    "two-ats": "a@b@ex.com",
    "quoted": '"a b"@ex.com',
    "settings": "a:b;c:d",
    "path": "../../etc/passwd",
    "shell": "$(id)`id`|id",
    "format": "%s{0}${HOME}",
    "formula": "=cmd|' /C calc'!A0",
    "markup": "<script>alert(1)</script>",
    "blanks": "   ",
}
REFUSED: Final = {400, 403, 404, 409, 501}
NOT_TEXT: Final = {"integer", "number", "boolean"}
BYSTANDERS: Final = ("other.com", "x@other.com", "v@ex.com", "root@admins.test")
"""Whom no call is about, but the one that changes all users of a domain."""


async def arrange(store: Store, root: Client) -> None:
    """Two domains with accounts, and admins."""
    for domain in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{domain}")
    for mail in ("u@ex.com", "v@ex.com", "x@other.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)
    await root.ok("POST", "alias/list@ex.com", members="v@ex.com")
    await root.ok("POST", "admin/norm@admins.test", password=PASSWORD)
    await root.ok("PUT", "user/v@ex.com", addForwarding="far@gmail.com")
    await root.ok("POST", "ml/ml@ex.com")
    if store.name == "openldap":
        await root.ok("POST", "maillist/group@ex.com", members="u@ex.com,far@gmail.com")


_server = Arrangement(arrange)


@pytest_asyncio.fixture(loop_scope="session")
async def server(selected_store: Store, _services: _Services) -> AsyncIterator[Arranged]:
    async with _server.on(selected_store, _services) as arranged:
        yield arranged


PATHS: Final = {
    "domain": "ex.com",
    "mail": "u@ex.com",
    "new_mail": "new@ex.com",
    "account": "u@ex.com",
    "number": "30",
}


NAMES: Final = {
    "admin": "norm@admins.test",
    "alias": "list@ex.com",
    "ml": "ml@ex.com",
    "maillist": "group@ex.com",
}
"""Accounts of other kinds than users."""
TOLD: Final = {"domain", "user", *NAMES}


def named(operation: Operation) -> str:
    """Return the path of a call about what is there, or (creating) is not yet."""
    path = operation.path.removeprefix("/api/")
    values = dict(PATHS)
    kind = path.partition("/")[0]
    values["mail"] = NAMES.get(kind, values["mail"])
    if operation.method == "POST" and operation.path in {
        "/api/domain/{domain}", "/api/user/{mail}", *(f"/api/{name}/{{mail}}" for name in NAMES),
    }:  # fmt: skip
        values |= {"domain": "new.com", "mail": "new@ex.com"}
        if "/admin/" in operation.path:
            values["mail"] = "new@admins.test"
    for item in operation.spec.get("parameters", []):
        if item["in"] == "path":
            value = values.get(item["name"])
            if value is None:
                value = item["schema"].get("enum", [item.get("example")])[0]
            path = path.replace(f"{{{item['name']}}}", str(value))
    return path


def is_text(schema: dict[str, Any]) -> bool:
    kinds = {schema.get("type"), *(part.get("type") for part in schema.get("anyOf", []))}
    return not kinds & NOT_TEXT


CASES: Final = [
    pytest.param(operation, name, id=f"{operation.method} {operation.path} {name}")
    for operation in OPERATIONS
    if operation.method != "GET" and operation.takes_form
    for name, schema in operation.spec["requestBody"]["content"]["application/json"]["schema"][
        "properties"
    ].items()
    if is_text(schema) and "/login" not in operation.path and "/logout" not in operation.path
]


def test_there_are_many() -> None:
    """The document lists them; an empty list would try nothing."""
    assert len(CASES) > 100


def untouched(changes: Difference, path: str) -> bool:
    """Whether nothing of a bystander has changed."""
    exempt_admins = set(BYSTANDERS) - ({"v@ex.com"} if path.startswith("users/") else set())
    for name in changes:
        table, _, key = name[1:].partition(" ")
        if table == "entry":
            # What is below a domain is the domain's.
            owners = {part.partition("=")[2] for part in key.split(",")}
        elif name.startswith("+"):
            continue
        else:
            owners = {key.split(" ")[0]}
        if owners & exempt_admins:
            return False
    return True


@pytest.mark.parametrize("operation, name", CASES)
async def test_hostile_values(server: Arranged, operation: Operation, name: str) -> None:
    """A clean refusal that changes nothing, or an exact round trip that touches nothing else."""
    path = named(operation)
    companions = {"password": PASSWORD} if "password" in operation.required else {}
    companions |= {"period": "60"} if "period" in operation.required else {}
    for kind, value in CORPUS.items():
        status, answer = await server.root.call(
            operation.method,
            path,
            # Escaped: httpx cannot send half a surrogate pair otherwise.
            content=json.dumps({**companions, name: value}).encode(),
            headers={"Content-Type": "application/json"},
        )
        where = (kind, status, answer)
        assert answer["_success"] is (status == 200), where
        if status != 200:
            # Verifying a password counts as a login.
            allowed = REFUSED | ({429} if path.startswith("verify_password/") else set())
            assert status in allowed, where
            continue
        changes = await server.changes()
        assert untouched(changes, path), (*where, changes)
        await told_back(server.root, path, name, value, where)
        if changes:
            await server.restore()
    # What was refused has changed nothing.
    assert await server.changes() == {}


READ_BACK: Final = frozenset({"name", "gn", "sn", "employeeid", "mobile", "telephoneNumber"})
"""Free texts, which every storage shows under the same names."""
NUMBERS: Final = {"mobile": "mobile", "telephoneNumber": "telephone"}
"""Comma lists, and their columns on SQL."""


async def told_back(root: Client, path: str, name: str, value: str, where: Any) -> None:
    """Read a free text again: what comes is what went, but for blanks at its ends."""
    if name not in READ_BACK or path.partition("/")[0] not in TOLD:
        return
    profile = await root.ok("GET", path, view="canonical")
    told = profile.get(name, value)
    expected: Any = value.strip()
    if name in NUMBERS:
        # The API takes a comma list, which LDAP keeps as values and SQL as the text that came.
        expected = sorted(item.strip() for item in value.split(",") if item.strip())
        text = (await root.ok("GET", path)).get(NUMBERS[name])
        assert text == value.strip() or not isinstance(text, str), (*where, text)
    assert told == expected or not value.strip(), (*where, profile)
