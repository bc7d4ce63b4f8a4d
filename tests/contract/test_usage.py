"""What domains and users use: the same tables on every storage, as JSON and as CSV."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.clients import PASSWORD, Client, Service
from tests.contract.histories import HASH
from tests.contract.test_statement_counts import counted
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
U, V, W = "u@ex.com", "v@ex.com", "w@off.com"
OF_U: dict[str, Any] = {
    "mail": U,
    "domain": "ex.com",
    "status": "active",
    "quota": 100,
    "stored_bytes": 5000000000,
    "stored_messages": 7,
    "last_login": "2026-01-02 03:04:05",
    "last_login_imap": "2026-01-02 03:04:05",
    "last_login_pop3": "2025-01-02 03:04:05",
    "last_delivery": "2026-02-03 04:05:06",
}
NEVER = dict.fromkeys(("last_login", "last_login_imap", "last_login_pop3", "last_delivery"))
OF_V: dict[str, Any] = {
    "mail": V,
    "domain": "ex.com",
    "status": "disabled",
    "quota": 0,
    "stored_bytes": 0,
}
OF_V |= {"stored_messages": 0, **NEVER}
OF_W = {**OF_V, "mail": W, "domain": "off.com", "quota": 50}
OF_EX: dict[str, Any] = {
    "domain": "ex.com",
    "status": "active",
    "quota": 1000,
    "allocated_quota": 100,
    "stored_bytes": 5000000000,
    "stored_messages": 7,
    "numberOfUsers": 9,
    "num_existing_users": 2,
    "numberOfAliases": -1,
    "num_existing_aliases": 1,
    "numberOfLists": 0,
    "num_existing_maillists": 0,
    "last_login": "2026-01-02 03:04:05",
}
OF_OFF: dict[str, Any] = dict.fromkeys(OF_EX, 0) | {"domain": "off.com", "status": "disabled"}
OF_OFF |= {"allocated_quota": 50, "num_existing_users": 1, "last_login": None}


async def used(store: Store, mail: str, size: int, messages: int, **seen: int) -> None:
    """What Dovecot writes for a user."""
    domain = mail.rpartition("@")[2]
    row = {"username": mail, "bytes": size, "messages": messages}
    await store.insert("used_quota", row, database=store.accounts)
    row = {"username": mail, "domain": domain, **seen}
    await store.insert("last_login", row, database=store.accounts)


@pytest.fixture(name="root")
async def _root(service: Service) -> Client:
    root = await service.root()
    await root.ok("POST", "domain/ex.com", quota="1000", numberOfUsers="9")
    await root.ok("POST", "domain/off.com", accountStatus="disabled")
    await root.ok("POST", f"user/{U}", password_hash=HASH, quota="100")
    await root.ok("POST", f"user/{V}", password_hash=HASH, accountStatus="disabled")
    await root.ok("POST", f"user/{W}", password_hash=HASH, quota="50")
    await root.ok("POST", "alias/a@ex.com")
    await root.ok("PUT", "domain/ex.com", numberOfAliases="-1", catchall=U)
    seen = {"imap": 1767323045, "pop3": 1735787045, "lda": 1770091506}
    await used(service.store, U, 5000000000, 7, **seen)
    await used(service.store, V, -5, -1)
    await used(service.store, "gone@ex.com", 99, 99, imap=1790000000)
    return root


async def test_tables(service: Service, root: Client) -> None:
    """Rows of removed users and negative numbers do not count; a status is what is in effect."""
    users = await root.ok("GET", "usage/ex.com")
    # Users without a limit are refused in a domain that has one: what is left was given.
    (given,) = [row.pop("quota") for row in users if row["mail"] == V]
    assert users == [OF_U, {name: OF_V[name] for name in OF_V if name != "quota"}]
    domains = await root.ok("GET", "usage")
    expected = {**OF_EX, "allocated_quota": 100 + given}
    assert domains == [expected, OF_OFF]
    assert await root.ok("GET", "usage/OFF.com") == [OF_W]
    chosen = await root.ok("GET", "usage", fields="stored_bytes,domain")
    assert chosen[0] == {"stored_bytes": 5000000000, "domain": "ex.com"}


async def text(client: Client, path: str, **params: str) -> list[list[str]]:
    answer = await client.http.get(path, params=params, headers={"Accept": "text/csv"})
    assert (answer.status_code, answer.headers["vary"]) == (200, "Accept")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(answer.text.splitlines()))


async def test_csv(service: Service, root: Client) -> None:
    names = [*OF_U]
    header, *rows = await text(root, "usage/off.com")
    assert header == names
    assert [row[0] for row in rows] == [W]
    assert rows[0] == [str(OF_W[name] if OF_W[name] is not None else "") for name in names]
    header, *rows = await text(root, "usage")
    assert (header, [row[0] for row in rows]) == ([*OF_EX], ["ex.com", "off.com"])
    assert await text(root, "usage", fields="domain,quota") == [
        ["domain", "quota"], ["ex.com", "1000"], ["off.com", "0"],
    ]  # fmt: skip
    for path in ("usage", "usage/ex.com"):
        for name in ("limit", "cursor"):
            params = {"limit": "5"} if name == "limit" else {"cursor": "x"}
            answer = await root.http.get(path, params=params, headers={"Accept": "text/csv"})
            found = answer.json()
            assert (answer.status_code, found["_errors"][0]["param"]) == (400, name)
        wrong = await root.refused("GET", path, fields="password")
        assert wrong == (400, "INVALID_VALUE", ["fields"])
    assert await root.refused("GET", "usage/never.com") == (404, "NO_SUCH_DOMAIN", [])


async def pages(client: Client, path: str, key: str) -> list[str]:
    found: list[str] = []
    form = {"limit": "1", "total": "yes"}
    while True:
        status, answer = await client.call("GET", path, params=form)
        assert (status, answer["_total"]) == (200, 2), answer
        found += [row[key] for row in answer["_data"]]
        if answer["_next"] is None:
            return found
        form["cursor"] = answer["_next"]


async def test_pages(service: Service, root: Client) -> None:
    assert await pages(root, "usage", "domain") == ["ex.com", "off.com"]
    assert await pages(root, "usage/ex.com", "mail") == [U, V]
    for path in ("usage", "usage/ex.com"):
        _, answer = await root.call("GET", path, params={"total": "yes"})
        assert (answer["_total"], len(answer["_data"])) == (2, 2)
        wrong = await root.refused("GET", path, cursor="x")
        assert wrong == (400, "INVALID_CURSOR", ["cursor"])


async def test_rights(service: Service, root: Client) -> None:
    """A normal admin has rows of the own domains only."""
    admin = await service.admin_of("ex.com")
    for form in ({}, {"limit": "9"}, {"fields": "domain"}):
        assert [row["domain"] for row in await admin.ok("GET", "usage", **form)] == ["ex.com"]
    assert [row["mail"] for row in await admin.ok("GET", "usage/ex.com")] == [U, V]
    for name in ("off.com", "never.com"):
        wrong = await admin.refused("GET", f"usage/{name}")
        assert wrong == (403, "PERMISSION_DENIED", [])
    nobody = await service.admin_of(mail="nobody@admins.test")
    assert await nobody.ok("GET", "usage") == []


async def test_the_status_in_effect(service: Service, root: Client) -> None:
    """Suspended users and domains are neither active nor disabled."""

    async def status(**form: str) -> list[str]:
        rows = await root.ok("GET", "usage", **form)
        rows += await root.ok("GET", "usage/ex.com", **form)
        shown = await root.ok("GET", f"user/{U}", **{"with": "usage"})
        listed = await root.ok("GET", "users/ex.com", **form, **{"with": "usage", "search": "u@"})
        return [row["status"] for row in (*rows, shown["usage"], listed[0]["usage"])]

    forms: list[dict[str, str]] = [{}, {"limit": "9"}]
    for form in forms:
        await root.ok("PUT", f"user/{U}", suspend="yes")
        await root.ok("PUT", f"user/{V}", suspend="yes")
        expected = ["active", "disabled", "suspended", "disabled", "suspended", "suspended"]
        assert await status(**form) == expected
        await root.ok("PUT", "domain/ex.com", suspend="yes")
        await root.ok("PUT", f"user/{U}", suspend="no")
        assert await status(**form) == ["suspended", *expected[1:]]
        await root.ok("PUT", "domain/ex.com", suspend="no")
        await root.ok("PUT", f"user/{V}", suspend="no")
        assert await status(**form) == ["active", "disabled"] * 2 + ["active"] * 2


@pytest.mark.sql_only("slapd ignores the case of names")
async def test_names_in_other_spellings(service: Service, root: Client) -> None:
    """Domains and accounts that another program has stored with capitals are counted."""
    store, fields = service.store, "domain,status,allocated_quota,num_existing_users"
    admin = await service.admin_of("ex.com")
    domains = await root.ok("GET", "usage", fields=fields)
    expected = [row for row in domains if row["domain"] == "ex.com"]
    users = await root.ok("GET", "usage/ex.com")
    await store.execute("UPDATE domain SET domain = 'Ex.COM' WHERE domain = 'ex.com'")
    await store.execute(f"UPDATE mailbox SET domain = 'EX.com' WHERE username = '{V}'")
    forms: list[dict[str, str]] = [{}, {"limit": "5"}, {"total": "yes"}]
    for form in forms:
        assert await admin.ok("GET", "usage", fields=fields, **form) == expected
        assert expected[0] in await root.ok("GET", "usage", fields=fields, **form)
    for client in (root, admin):
        assert await client.ok("GET", "usage/ex.com") == users
        assert await client.ok("GET", "usage/ex.com", limit="5") == users
        shown = await client.ok("GET", "domain/ex.com", **{"with": "usage"})
        assert shown["usage"]["num_existing_users"] == 2
        shown = await client.ok("GET", f"user/{V}", **{"with": "usage"})
        assert shown["usage"]["status"] == "disabled"
        (item,) = [
            item
            for item in await client.ok("GET", "domains", limit="5", **{"with": "usage"})
            if item["domain"].lower() == "ex.com"
        ]
        assert (item["usage"]["num_existing_users"], item["usage"]["stored_messages"]) == (2, 7)


def beside(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in row if name not in {"mail", "domain"}}


@pytest.mark.parametrize("view", ["native", "canonical"])
async def test_profiles_and_lists(service: Service, root: Client, view: str) -> None:
    """`with=usage` adds one key; without it nothing is different."""
    plain = await root.ok("GET", f"user/{U}", view=view)
    found = await root.ok("GET", f"user/{U}", view=view, **{"with": "usage"})
    assert found == {**plain, "usage": beside(OF_U)}
    plain = await root.ok("GET", "domain/off.com", view=view)
    found = await root.ok("GET", "domain/off.com", view=view, **{"with": "usage"})
    assert found == {**plain, "usage": beside(OF_OFF)}
    form = {"view": view, "with": "usage"}
    plain = await root.ok("GET", "users/off.com", view=view)
    (item,) = await root.ok("GET", "users/off.com", **form)
    assert item == {**plain[0], "usage": beside(OF_W)}
    assert await root.ok("GET", "users/off.com", fields="usage", **form) == [
        {"usage": beside(OF_W)}
    ]
    listed = await root.ok("GET", "domains", view=view)
    with_usage = await root.ok("GET", "domains", limit="5", **form)
    assert with_usage[1] == {**listed[1], "usage": beside(OF_OFF)}
    answer = await root.http.get(f"user/{U}", params=form)
    assert "etag" not in answer.headers
    wrong = await root.refused("GET", f"user/{U}", **{"with": "everything"})
    assert wrong[0::2] == (400, ["with"])
    wrong = await root.refused("GET", "users/off.com", email_only="yes", **{"with": "usage"})
    assert wrong == (400, "CONFLICTING_PARAMETERS", ["email_only", "with"])


async def test_number_of_statements(service: Service, root: Client) -> None:
    """It does not depend on the number of domains and users; long tables are complete."""

    async def count() -> int:
        of_session = sum((await counted(service, root.http.get("whoami"))).values())
        return sum((await counted(service, root.http.get("usage"))).values()) - of_session

    before = await count()
    for number in range(3):
        await root.ok("POST", f"domain/d{number}.com")
        await root.ok("POST", f"user/a@d{number}.com", password=PASSWORD)
    assert await count() == before <= 5


@pytest.mark.sql_only("hundreds of entries; ldap/test_listings.py has long lists")
async def test_a_long_table(service: Service, root: Client) -> None:
    users: list[dict[str, Any]] = [
        {"username": f"u{n:04}@off.com", "domain": "off.com", "password": "x", "active": 1}
        for n in range(1100)
    ]
    users.append({**users[0], "username": "=x@off.com"})
    await service.store.insert("mailbox", *users)
    rows = await root.ok("GET", "usage/off.com")
    expected = sorted([W, *(user["username"] for user in users)])
    assert [row["mail"] for row in rows] == expected
    _, *lines = await text(root, "usage/off.com", fields="mail")
    # What a spreadsheet would run as a formula is a text.
    assert [line[0].replace("'=", "=") for line in lines] == expected
    assert ["'=x@off.com"] in lines
