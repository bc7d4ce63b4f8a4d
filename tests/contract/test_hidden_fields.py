"""Hidden fields of users: no answer shows them, and nothing is sorted, chosen or found by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
U = "u@ex.com"
HIDDEN = "name,employeeid,stored_bytes,quota,last_login,active,created,password,userPassword"
VALUES = ("Secret Person", "E-4711", "5000000007", "1767323045", "2026-01-02 03:04:05", "1234")


@pytest_asyncio.fixture(name="hiding", loop_scope="session")
async def _hiding(store: Store) -> AsyncIterator[tuple[Service, Client]]:
    async with serving(store, hidden_user_fields=HIDDEN) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        form = {"name": "Secret Person", "employeeid": "E-4711", "quota": "1234"}
        await root.ok("POST", f"user/{U}", password=PASSWORD, **form)
        row = {"username": U, "domain": "ex.com", "bytes": 5000000007, "messages": 1}
        await store.insert("used_quota", row, database=store.accounts)
        row = {"username": U, "domain": "ex.com", "imap": 1767323045}
        await store.insert("last_login", row, database=store.accounts)
        yield service, root


async def shown(client: Client, path: str, form: dict[str, str], *, csv: bool = False) -> str:
    headers = {"Accept": "text/csv"} if csv else {}
    answer = await client.http.get(path, params=form, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_hidden_fields_are_not_shown(hiding: tuple[Service, Client]) -> None:
    _, root = hiding
    for view in ("native", "canonical"):
        form = {"view": view, "with": "usage"}
        for path in (f"user/{U}", "users/ex.com", "users"):
            text = await shown(root, path, form)
            assert U in text
            assert not [value for value in VALUES if value in text], (path, view, text)
    for csv in (False, True):
        text = await shown(root, "usage/ex.com", {}, csv=csv)
        assert U in text
        assert not [value for value in VALUES if value in text], text
    (row,) = await root.ok("GET", "usage/ex.com", limit="5")
    assert {*row} == {"mail", "domain", "stored_messages"}
    # The sizes of a domain are its own, the time of somebody's login is not.
    (row,) = await root.ok("GET", "usage")
    assert ("last_login" in row, row["stored_bytes"]) == (False, 5000000007)
    for path, name in (
        ("usage/ex.com", "stored_bytes"), ("usage/ex.com", "last_login_imap"),
        ("usage/ex.com", "status"), ("usage", "last_login"),
    ):  # fmt: skip
        assert await root.refused("GET", path, fields=name) == (400, "INVALID_VALUE", ["fields"])


async def test_hidden_fields_are_not_searched(hiding: tuple[Service, Client]) -> None:
    _, root = hiding
    for text in ("secret", "person", "4711"):
        assert await root.ok("GET", "users/ex.com", search=text) == []
        assert await root.ok("GET", "users", search=text, limit="5") == []
        assert await root.ok("GET", "search", q=text) == []
    for path in ("users/ex.com", "users"):
        assert await root.ok("GET", path, search="u@ex", email_only="yes") == [U]
    expected: dict[str, Any] = {"kind": "user", "address": U, "name": "", "accountStatus": None}
    assert await root.ok("GET", "search", q=U) == [expected | {"exact": True}]


async def test_hidden_fields_neither_sort_nor_choose(hiding: tuple[Service, Client]) -> None:
    _, root = hiding
    for path in ("users/ex.com", "users"):
        for name, value in (
            ("sort", "name"), ("sort", "-quota"), ("sort", "used"), ("sort", "created"),
            ("status", "active"), ("modified_since", "2026-01-01"),
        ):  # fmt: skip
            wrong = await root.refused("GET", path, limit="5", **{name: value})
            assert wrong == (400, "INVALID_VALUE", [name]), (path, name, value)
        for value in ("address", "-address", "modified"):
            assert await root.ok("GET", path, sort=value, email_only="yes") == [U]
    # Other kinds of accounts have these fields.
    assert [item["domain"] for item in await root.ok("GET", "usage")] == ["ex.com"]
    for path in ("domains", "aliases/ex.com", "mls"):
        await root.ok("GET", path, sort="name", status="active")


async def test_hidden_fields_of_users_who_are_admins(hiding: tuple[Service, Client]) -> None:
    """The list of admins hides what profiles of their kind hide."""
    service, root = hiding
    await root.ok("PUT", "domain/admins/ex.com", addAdmin=U)
    items = {item["mail"]: item for item in await root.ok("GET", "admins")}
    assert {"name", "accountStatus"}.isdisjoint(items[U])
    standalone = items["root@admins.test"]
    assert (standalone["name"], standalone["accountStatus"]) == ("root", "active")
    assert await root.ok("GET", "admins", search="secret") == []
    wrong = await root.refused("GET", "admins", sort="name")
    assert wrong == (400, "INVALID_VALUE", ["sort"])
    async with serving(service.store, hidden_admin_fields="name") as other:
        root = await other.root()
        items = {item["mail"]: item for item in await root.ok("GET", "admins")}
        assert ("name" in items["root@admins.test"], items[U]["name"]) == (False, "Secret Person")
        assert [item["mail"] for item in await root.ok("GET", "admins", search="secret")] == [U]
