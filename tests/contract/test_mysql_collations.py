"""MariaDB and MySQL: addresses compare as the mail server compares them, with every collation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests import walks
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.test_complete_lists import walked
from tests.servers.foreign import Foreign
from tests.servers.mariadb import MariadbServer
from tests.servers.store import Store

# Kind → the collations that are of it; the first that the server has is used.
COLLATIONS: Final = {
    "bytes": ("utf8mb4_bin",),
    # The default of MariaDB since 11.5, and of MySQL since 8.0.
    "default": ("utf8mb4_uca1400_ai_ci", "utf8mb4_0900_ai_ci", "utf8mb4_unicode_520_ci"),
    "no-padding": ("utf8mb4_unicode_nopad_ci", "utf8mb4_0900_as_cs"),
}
SPELLINGS: Final = ("Bob@ex.com", "bob@EX.COM", "bob@ex.com ", "BOB@ex.com  ")
LETTERS: Final = {"müller@ex.com": "muller@ex.com", "straße@ex.com": "strasse@ex.com"}
"""What other programs stored, and what some collations take for the same."""


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=COLLATIONS)
async def collated(
    request: pytest.FixtureRequest, mariadb_server: MariadbServer, mariadb_store: Store
) -> AsyncIterator[Store]:
    rows = await mariadb_store.rows(
        "SELECT DISTINCT collation_name AS name FROM information_schema.collations", "vmail"
    )
    # MariaDB lists the new ones without a character set.
    there = {row["name"] if "utf8" in row["name"] else f"utf8mb4_{row['name']}" for row in rows}
    collation = next(name for name in COLLATIONS[request.param] if name in there)
    number = list(COLLATIONS).index(request.param)
    suffix = mariadb_store.vmail.rpartition("vmail_")[2].partition("?")[0]
    store = await mariadb_server.create_store(f"c{number}_{suffix}", collation=collation)
    yield store
    await store.close()


@pytest_asyncio.fixture(loop_scope="session")
async def service(collated: Store) -> AsyncIterator[Service]:
    await collated.reset()
    async with serving(collated) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def root(service: Service) -> Client:
    root = await service.root()
    await root.ok("POST", "domain/ex.com")
    return root


async def test_pages_have_everybody_once(service: Service, root: Client) -> None:
    names = ("Zoe", "abc", "a_b", "a-b", "a.c", "josé", "jost", "ümit", "strasse", "z ", "a&b", "ß")
    plain = {"password": "x", "domain": "ex.com", "settings": "", "disclaimer": ""}
    rows = [
        plain | {"username": f"{name.strip()}@ex.com", "name": names[place // 2]}
        for place, name in enumerate(names)
    ]
    await service.store.insert("mailbox", *rows)
    form = {"email_only": "yes"}
    await walked(root, "users/ex.com", form, await root.ok("GET", "users/ex.com", **form))
    found = await root.ok("GET", "users/ex.com", **form, search="strasse")
    assert found == ["strasse@ex.com"]
    found = await root.ok("GET", "users/ex.com", **form, search="JOSÉ")
    assert sorted(found) == ["a&b@ex.com", "josé@ex.com", "ß@ex.com"]  # by name, and by address


async def test_everybody_who_stays_comes_once(collated: Store) -> None:
    """As ``test_long_walks.py`` has it for other databases."""
    await collated.reset()
    async with serving(collated) as service:
        await (await service.root()).ok("POST", f"domain/{walks.DOMAIN}")
    mails = walks.names(collated)
    await walks.fill(collated, mails)
    rows = await collated.rows("SELECT @@collation_database AS name")
    async with serving(collated) as service:
        walk = walks.Walk(await service.root(), mails)
        print(f"{rows[0]['name']}: {await walk.check()}")


async def test_an_address_in_another_spelling_is_in_use(service: Service, root: Client) -> None:
    foreign = Foreign(service.store)
    for number, stored in enumerate(SPELLINGS):
        name = stored.lower().strip().replace("bob", f"bob{number}")
        spelled = stored.replace("ob@", f"ob{number}@").replace("OB@", f"OB{number}@")
        await (foreign.user if number % 2 else foreign.alias_account)(spelled, "ex.com")
        for path in (f"user/{name}", f"alias/{name}"):
            form = {"password": PASSWORD} if path.startswith("user") else {}
            refused = await root.refused("POST", path, **form)
            assert refused[:2] == (409, "ALREADY_EXISTS"), spelled
        if number % 2:
            assert (await root.ok("GET", f"user/{name}"))["username"] == spelled
            await root.ok("DELETE", f"user/{name}")
            await root.ok("POST", f"user/{name}", password=PASSWORD)


async def test_other_letters_are_other_addresses(service: Service, root: Client) -> None:
    foreign = Foreign(service.store)
    for stored, name in LETTERS.items():
        await foreign.user(stored, "ex.com")
        for method, form in (("GET", {}), ("PUT", {"name": "X"}), ("DELETE", {})):
            refused = await root.refused(method, f"user/{name}", **form)
            assert refused[:2] == (404, "NO_SUCH_ACCOUNT"), (method, name)
        status, answer = await root.call("POST", f"user/{name}", data={"password": PASSWORD})
        # Where the database takes them for the same, there can be one of them only.
        assert (status, answer.get("_msg")) in {(200, None), (409, "ALREADY_EXISTS")}
        if status == 200:
            await root.ok("DELETE", f"user/{name}")
    rows = await service.store.rows("SELECT username, name FROM mailbox ORDER BY username")
    assert {row["username"]: row["name"] for row in rows} == dict.fromkeys(LETTERS, "")


async def test_aliases_of_a_user_in_another_spelling(service: Service, root: Client) -> None:
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("PUT", "user/u@ex.com", addAlias="own@ex.com")
    foreign = Foreign(service.store)
    await foreign.alias("sales@ex.com", "u@ex.com", "U@ex.com ")
    assert (await root.ok("GET", "user/u@ex.com"))["aliases"] == ["own@ex.com", "sales@ex.com"]


async def test_a_removed_domain_takes_its_spellings_only(service: Service, root: Client) -> None:
    foreign = Foreign(service.store)
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    gone = ("EX.com", "ex.com ", "\tex.com", "ex.com\t", "Ex.Com\r\n")
    kept = ("éx.com", "ex.com.org", "my.ex.com", "x.com", "ex.co")
    for number, domain in enumerate((*gone, *kept)):
        await foreign.user(f"n{number}@{domain.strip()}", domain)
    await root.ok("DELETE", "domain/ex.com")
    for table in ("mailbox", "forwardings", "used_quota"):
        rows = await service.store.rows(f"SELECT DISTINCT domain FROM {table}")
        assert {row["domain"] for row in rows} <= set(kept), table
    rows = await service.store.rows("SELECT domain FROM mailbox")
    assert {row["domain"] for row in rows} == set(kept)
