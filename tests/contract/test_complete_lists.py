"""Long lists are complete, whatever the spelling of names and the collation of the database."""

from __future__ import annotations

import pytest

from iredapi.web import responses
from tests.clients import Client, Service, serving
from tests.servers.sorting import COLLATIONS, collate
from tests.servers.store import Store

NAMES = (
    "Zoe", "abc", "a_b", "a-b", "A.c", "aBd", "ABE", "a0", "A1", "_x", "-y", "Ab", "b", "B-a",
    "josé", "jost", "Jane", "ümit", "zed", "Äc", "a&b", "a#b",
)  # fmt: skip


@pytest.fixture
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "PAGE", 3)
    monkeypatch.setattr(responses, "_NAMES", 4)


pytestmark = pytest.mark.usefixtures("_short_pages")


async def _fill(store: Store) -> None:
    plain = {"domain": "ex.com"}
    await store.insert("domain", plain | {"settings": "", "description": "", "disclaimer": ""})
    mails = [f"{name}@ex.com" for name in NAMES]
    # Each name is that of two users, the second time in other letters.
    rows = [
        plain | {"username": m, "settings": "", "disclaimer": "", "name": name}
        for m, name in zip(mails, [*NAMES[::2], *map(str.swapcase, NAMES[::2])], strict=False)
    ]
    await store.insert("mailbox", *rows)
    await store.insert("alias", *(plain | {"address": f"of-{m}"} for m in mails))
    await store.insert("maillists", *(plain | {"address": f"l-{m}", "mlid": m[:36]} for m in mails))
    names = [f"{name}.org" for name in NAMES if name.isascii()]
    await store.insert(
        "domain",
        *({"domain": n, "settings": "", "description": "", "disclaimer": ""} for n in names),
    )


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_every_list_is_complete(service: Service, root: Client) -> None:
    await _fill(service.store)
    await _check(root)


@pytest.mark.stores("postgresql")
async def test_lists_are_complete_with_every_collation(store: Store) -> None:
    await _fill(store)
    there = {row["collname"] for row in await store.rows("SELECT collname FROM pg_collation")}
    assert {"C", "en-US-x-icu", "und-x-icu"} <= there
    try:
        for collation in there.intersection(COLLATIONS):
            await collate(store, collation)
            async with serving(store) as service:
                await _check(await service.root())
    finally:
        await collate(store, "default")


async def _check(root: Client) -> None:
    mails = {f"{name}@ex.com" for name in NAMES}
    lists = {
        "users/ex.com": ("username", mails),
        "aliases/ex.com": ("address", {f"of-{mail}" for mail in mails}),
        "mls/ex.com": ("mail", {f"l-{mail}" for mail in mails}),
        "domains": ("domain", {f"{n}.org" for n in NAMES if n.isascii()} | {"ex.com"}),
    }
    for path, (key, wanted) in lists.items():
        names = {"name_only" if path == "domains" else "email_only": "yes"}
        plain = await root.ok("GET", path, **names)
        assert sorted(plain) == sorted(wanted), path
        profiles = [item[key] for item in await root.ok("GET", path)]
        assert (sorted(profiles), profiles) == (sorted(wanted), plain), path
        await walked(root, path, names, plain)
        shapes = await root.ok("GET", path, view="canonical")
        found = [item.get("mail") or item["domain"] for item in shapes]
        assert found == plain, path


async def walked(root: Client, path: str, form: dict[str, str], names: list[str]) -> None:
    """Check that pages in every order have each name once, both ways."""
    first = "domain" if path == "domains" else "address"
    for order in (first, "name", "created"):
        found = [await _pages(root, path, form | {"sort": s}) for s in (order, f"-{order}")]
        assert found[0] == found[1][::-1], (path, order)
        assert sorted(found[0]) == sorted(names), (path, order)
        assert order != first or found[0] == names, path


async def _pages(root: Client, path: str, form: dict[str, str]) -> list[str]:
    found: list[str] = []
    more: dict[str, str] = {}
    while more.get("cursor", "") is not None:
        status, answer = await root.call("GET", path, params=form | more | {"limit": "4"})
        assert (status, answer["_success"]) == (200, True), answer
        found, more = found + answer["_data"], {"cursor": answer["_next"]}
    return found


async def test_a_list_of_the_directory_is_complete(root: Client) -> None:
    """Names that differ in case only are one entry there; they are listed folded."""
    names = ["zoe", "abc", "a_b", "a-b", "a.c", "abd", "a0", "_x", "ab", "b", "b-a", "a&b"]
    await root.ok("POST", "domain/ex.com")
    for name in names:
        await root.ok("POST", f"alias/{name}@ex.com")
    for form in ({"email_only": "yes"}, {}, {"view": "canonical"}):
        found = await root.ok("GET", "aliases/ex.com", **form)
        shown = [item if isinstance(item, str) else _name(item) for item in found]
        assert sorted(shown) == sorted(f"{name}@ex.com" for name in names), form


def _name(item: dict[str, object]) -> str:
    found = item.get("address") or item["mail"]
    return str(found[0] if isinstance(found, list) else found)


@pytest.mark.stores("sqlite", "postgresql", "mariadb", "openldap")
async def test_a_whitelist_is_complete(service: Service, root: Client) -> None:
    """Other programs store capitals there; the column holds bytes."""
    store = service.store
    await root.ok("POST", "domain/ex.com")
    await store.insert("users", {"id": 4711, "email": _bytes(store, "@ex.com")}, database="amavisd")
    wanted = [f"{name}@far.org" for name in NAMES]
    for number, mail in enumerate(wanted, 1):
        await store.insert(
            "mailaddr", {"id": 4711 + number, "email": _bytes(store, mail)}, database="amavisd"
        )
        await store.insert(
            "wblist", {"rid": 4711, "sid": 4711 + number, "wb": "W"}, database="amavisd"
        )
    found = await root.ok("GET", "wblist/inbound/whitelist/ex.com")
    assert sorted(found) == sorted(wanted)


def _bytes(store: Store, text: str) -> object:
    return text if store.name == "sqlite" else text.encode()
