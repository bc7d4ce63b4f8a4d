"""Rows of other programs are removed with accounts; Postfix finds nothing of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import PASSWORD, Client, Service, serving
from tests.conftest import need
from tests.servers.foreign import Foreign, folded, maps_of
from tests.servers.lookups import accepts, copies, delivery, first
from tests.servers.postfix import PostfixMaps
from tests.servers.sorting import COLLATIONS, collate

U, V, LIST = "u@ex.com", "v@ex.com", "list@ex.com"
CASED = ("Boss@Far.ORG", " boss@far.org", "boss@far.org ", "BOSS@far.org\t")
ODD = (
    "bob.@docomo.ne.jp", "a..b@far.org", "root@localhost", "devnull", "user@[192.0.2.1]",
    '"quo ted"@far.org', "-dash@far.org", "JOSÉ@far.org",
)  # fmt: skip


@dataclass
class World:
    """The API, another program, and Postfix, on one store."""

    root: Client
    foreign: Foreign
    maps: Any

    async def routes(self, address: str) -> set[str]:
        """What Postfix finds for an address, one step far."""
        return folded(await first(self.maps, "virtual_alias_maps", [address]))

    async def skipped(self, method: str, path: str, **form: str) -> list[tuple[str, str]]:
        answer = await self.root.ok(method, path, **form)
        return [(item["param"], item["value"]) for item in answer.get("_skipped", [])]


@pytest_asyncio.fixture(loop_scope="session")
async def world(service: Service, root: Client, _postfix_maps: dict[str, PostfixMaps]) -> World:
    if service.store.name != "sqlite":
        need("postmap")
    await root.ok("POST", "domain/ex.com")
    for mail in (U, V):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)
    await root.ok("POST", f"alias/{LIST}", members=V)
    return World(root, Foreign(service.store), maps_of(service.store, _postfix_maps))


def _storable(world: World, text: str) -> bool:
    return text.isascii() or not world.foreign.ldap


# -- removals compare as Postfix does --------------------------------------------------------------


@pytest.mark.parametrize("stored", [*CASED, *ODD])
async def test_a_forwarding_goes_in_any_spelling(world: World, stored: str) -> None:
    if not _storable(world, stored):
        return  # the directory takes ASCII only
    await world.foreign.forwarding(U, U)
    await world.foreign.forwarding(U, stored)
    name = stored.strip().lower()
    if name.isascii():  # Postfix asks PostgreSQL for Latin-1
        assert name in await world.routes(U)
    assert await world.skipped("PUT", f"user/{U}", removeForwarding=name) == []
    assert await world.routes(U) <= {U}
    assert await delivery(world.maps, U) == {U}


@pytest.mark.parametrize("stored", [*CASED, *ODD])
async def test_a_member_goes_in_any_spelling(world: World, stored: str) -> None:
    if not _storable(world, stored):
        return
    await world.foreign.member(LIST, stored)
    assert await world.skipped("PUT", f"alias/{LIST}", removeMember=stored.strip().upper()) == []
    assert await world.routes(LIST) == {V}


async def test_a_whole_list_leaves_one_spelling(world: World) -> None:
    for stored in CASED:
        await world.foreign.forwarding(U, stored)
        await world.foreign.member(LIST, stored)
    await world.root.ok("PUT", f"user/{U}", forwarding="boss@far.org")
    await world.root.ok("PUT", f"alias/{LIST}", members="boss@far.org")
    for address in (U, LIST):
        answers = await first(world.maps, "virtual_alias_maps", [address])
        if not world.foreign.ldap:  # where a tab is no blank, both are one value for us
            assert len(answers) == 1
        assert folded(answers) == {"boss@far.org"}
    await world.root.ok("PUT", f"user/{U}", forwarding="")
    assert await world.routes(U) <= {U}


async def test_adding_what_is_there_makes_no_second_one(world: World) -> None:
    await world.foreign.forwarding(U, "Boss@Far.ORG")
    await world.root.ok("PUT", f"user/{U}", addForwarding="boss@far.org")
    answers = await first(world.maps, "virtual_alias_maps", [U])
    assert [item for item in answers if item.lower() == "boss@far.org"] == ["Boss@Far.ORG"]


@pytest.mark.parametrize("how", ["removeAlias", "aliases"])
async def test_a_users_alias_goes_in_any_spelling(world: World, how: str) -> None:
    await world.foreign.alias("sales@ex.com", U, "U@Ex.COM")
    await world.foreign.alias("more@ex.com", U, f"{U} ")
    assert U in await delivery(world.maps, "sales@ex.com")
    form = {how: "SALES@ex.com,more@ex.com" if how == "removeAlias" else ""}
    assert await world.skipped("PUT", f"user/{U}", **form) == []
    for address in ("sales@ex.com", "more@ex.com"):
        assert await delivery(world.maps, address) == set()


@pytest.mark.sql_only("an entry has its own addresses")
@pytest.mark.parametrize(
    "spelled", ["V@Ex.COM", "v@EX.com", " v@ex.com", "v@ex.com ", "v@ex.com\t"]
)
async def test_addresses_that_lead_to_somebody_in_another_spelling_are_shown(
    world: World, spelled: str
) -> None:
    root, foreign = world.root, world.foreign
    await foreign.alias("plain@ex.com", V, V)
    for address in ("sales@ex.com", "more@ex.com"):
        await foreign.alias(address, V, spelled)
        assert await world.routes(address) == {V}
    wanted = ["more@ex.com", "plain@ex.com", "sales@ex.com"]
    assert (await root.ok("GET", f"user/{V}"))["aliases"] == wanted
    assert (await root.ok("GET", f"user/{V}", view="canonical"))["aliases"] == wanted
    assert await world.skipped("PUT", f"user/{V}", removeAlias=",".join(wanted)) == []
    assert (await root.ok("GET", f"user/{V}"))["aliases"] == []
    for address in wanted:
        assert await world.routes(address) == set()


@pytest.mark.parametrize("how", ["removeAliasDomain", "aliasDomains"])
async def test_an_alias_domain_goes_in_any_spelling(world: World, how: str) -> None:
    await world.foreign.alias_domain("Al.COM", "ex.com")
    form = {how: "al.com" if how == "removeAliasDomain" else ""}
    assert await world.skipped("PUT", "domain/ex.com", **form) == []
    assert not await accepts(world.maps, "u@al.com")
    assert await world.root.ok("GET", "domain/ex.com", view="canonical") | {} == {
        **await world.root.ok("GET", "domain/ex.com", view="canonical"), "aliasDomains": [],
    }  # fmt: skip


@pytest.mark.parametrize("how", ["removeAdmin", "removeAllAdmins"])
async def test_rights_go_in_any_spelling(world: World, how: str) -> None:
    await world.foreign.admin("V@Ex.com", "ex.com")
    await world.foreign.admin(U, "ex.com")
    assert await world.foreign.admins("ex.com") == {U, V}
    form = {how: f"{U},{V}" if how == "removeAdmin" else "yes"}
    assert await world.skipped("PUT", "domain/admins/ex.com", **form) == []
    assert await world.foreign.admins("ex.com") == set()


@pytest.mark.parametrize("side", ["sender", "recipient"])
async def test_a_copy_is_switched_off(world: World, side: str) -> None:
    await world.foreign.bcc(side, U, "Spy@Far.org ")
    assert folded(await copies(world.maps, side, U)) == {"spy@far.org"}
    await world.root.ok("PUT", f"user/{U}", **{f"{side}Bcc": ""})
    assert await copies(world.maps, side, U) == set()


@pytest.mark.sql_only("an entry's catch-all is an account of its own")
async def test_a_catch_all_goes_in_any_spelling(world: World) -> None:
    for stored in CASED:
        await world.foreign.catch_all("ex.com", stored)
    await world.root.ok("PUT", "domain/ex.com", catchall=V)
    assert await delivery(world.maps, "nobody@ex.com") == {V}
    await world.root.ok("PUT", "domain/ex.com", catchall="")
    assert await delivery(world.maps, "nobody@ex.com") == set()


@pytest.mark.parametrize(
    "spelled", ["V@Ex.COM", " v@ex.com", "v@EX.com ", "\tv@ex.com", "V@ex.com\t"]
)
async def test_nothing_leads_to_a_user_who_is_gone(world: World, spelled: str) -> None:
    foreign = world.foreign
    await foreign.forwarding(U, U)
    await foreign.forwarding(U, spelled)
    await foreign.member(LIST, spelled)
    await foreign.alias("old@ex.com", V, spelled)
    await foreign.bcc("recipient", U, spelled)
    await foreign.admin(spelled.strip(), "ex.com")
    await world.root.ok("DELETE", f"user/{V}")
    assert await world.routes(U) <= {U}
    assert await world.routes(LIST) == await world.routes("old@ex.com") == set()
    assert await copies(world.maps, "recipient", U) == set()
    assert await foreign.admins("ex.com") == set()


@pytest.mark.sql_only("routes of a directory have no status of their own")
@pytest.mark.parametrize("how", ["user", "users"])
async def test_no_route_in_any_spelling_leads_to_who_is_disabled(world: World, how: str) -> None:
    """Mail to an alias with such a member would bounce."""
    foreign, root = world.foreign, world.root
    path = f"user/{V}" if how == "user" else "users/ex.com"
    await root.ok("PUT", f"alias/{LIST}", members="kept@far.org")
    for spelled in ("V@Ex.COM", " v@ex.com", "v@EX.com\t"):
        await foreign.member(LIST, spelled)
    await foreign.alias("old@ex.com", V, "V@EX.com")
    await root.ok("PUT", path, accountStatus="disabled")
    assert await world.routes("old@ex.com") == set()
    assert await world.routes(LIST) == {"kept@far.org"}
    for status in ("disabled", "active"):
        await root.ok("PUT", f"alias/{LIST}", accountStatus=status)
    assert await world.routes(LIST) == {"kept@far.org"}
    await root.ok("PUT", path, accountStatus="active")
    assert await world.routes("old@ex.com") == {V}
    assert await world.routes(LIST) == {"kept@far.org", V}


@pytest.mark.parametrize("spelled", ["V@Ex.COM", " v@ex.com", "v@ex.com\t"])
async def test_what_leads_to_a_user_follows_a_new_name(world: World, spelled: str) -> None:
    await world.foreign.forwarding(U, spelled)
    await world.foreign.member(LIST, spelled)
    await world.root.ok("PUT", f"user/{V}/change_email/w@ex.com")
    assert await world.routes(U) >= {"w@ex.com"}
    assert V not in await world.routes(U) | await world.routes(LIST)
    assert await world.routes(LIST) == {"w@ex.com"}


async def test_nothing_leads_to_a_domain_that_is_gone(world: World) -> None:
    await world.root.ok("POST", "domain/far.com")
    await world.root.ok("POST", "user/far@far.com", password=PASSWORD)
    await world.foreign.forwarding(U, "Far@FAR.com ")
    await world.foreign.member(LIST, "Nobody@Far.Com\t")
    await world.foreign.bcc("sender", U, "FAR@far.COM")
    await world.root.ok("DELETE", "domain/far.com")
    assert await world.routes(U) <= {U}
    assert await world.routes(LIST) == {V}
    assert await copies(world.maps, "sender", U) == set()


async def test_a_removal_that_found_nothing_is_reported(world: World) -> None:
    cases = {
        f"user/{U}": {"removeForwarding": "gone@far.org", "removeAlias": "gone@ex.com"},
        f"alias/{LIST}": {"removeMember": "gone@far.org"},
        "domain/ex.com": {"removeAliasDomain": "gone.com"},
        "domain/admins/ex.com": {"removeAdmin": "gone@ex.com"},
    }
    for path, form in cases.items():
        assert sorted(await world.skipped("PUT", path, **form)) == sorted(form.items())
    answer = await world.root.ok("PUT", f"user/{U}", removeForwarding="gone@far.org")
    assert answer["_skipped"][0]["reason"] == "NOT_FOUND"
    # What could not be there is an error, as ever.
    status, code, params = await world.root.refused("PUT", f"user/{U}", removeForwarding="devnull")
    assert (status, code, params) == (400, "INVALID_MAIL", ["removeForwarding"])


# -- whoever has no row gets mail all the same -----------------------------------------------------


async def _no_row(world: World) -> None:
    store = world.foreign.store
    if not world.foreign.ldap:  # there nobody has the attribute before somebody forwards
        await store.execute("DELETE FROM forwardings WHERE address = :u", "vmail", u=U)


async def _switched_off(world: World) -> None:
    store = world.foreign.store
    if world.foreign.ldap:
        dn = next(iter(store.directory.find(filter=f"(mail={U})")))
        store.directory.modify(dn, add={"mailForwardingAddress": "dormant@far.org"})
        with_service = store.directory.entry(dn)
        assert with_service is not None
        left = [name for name in with_service["enabledService"] if name != "forward"]
        store.directory.modify(dn, replace={"enabledService": left})
        return
    await store.execute("UPDATE forwardings SET active = 0 WHERE address = :u", "vmail", u=U)


async def _nowhere(world: World) -> None:
    if not world.foreign.ldap:
        await world.foreign.store.execute(
            "UPDATE forwardings SET domain = 'none' WHERE address = :u", "vmail", u=U
        )


Loss = Callable[[World], Awaitable[None]]


@pytest.mark.parametrize("lose", [_no_row, _switched_off, _nowhere])
async def test_a_new_forwarding_keeps_delivery_to_the_mailbox(world: World, lose: Loss) -> None:
    await lose(world)
    assert await delivery(world.maps, U) == {U}
    await world.root.ok("PUT", f"user/{U}", addForwarding="boss@far.org")
    assert await delivery(world.maps, U) >= {U, "boss@far.org"}
    shown = await world.root.ok("GET", f"user/{U}", view="canonical")
    assert set(shown["forwarding"]) == await delivery(world.maps, U)
    await world.root.ok("PUT", f"user/{U}", forwarding="boss@far.org")
    assert await delivery(world.maps, U) == {"boss@far.org"}


# -- what a list shows can be named ----------------------------------------------------------------

NAMES = (
    "Bob@ex.com", "Ann@Ex.COM", "JOSÉ@ex.com", '"quo ted"@ex.com', "a..b@ex.com", "bob.@ex.com",
    "sla/sh@ex.com", "a%2Fb@ex.com", "devnull", "a@b@ex.com", "-x@ex.com",
)  # fmt: skip


def _in_path(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.mark.sql_only("a directory's names differ in no capitals; it refuses most of these")
@pytest.mark.parametrize("name", NAMES)
async def test_what_a_list_shows_can_be_named(world: World, name: str) -> None:
    root, foreign = world.root, world.foreign
    await foreign.user(name, "ex.com")
    await foreign.alias_account(f"of-{name}", "ex.com")
    assert name in await root.ok("GET", "users/ex.com", email_only="yes")
    assert f"of-{name}" in await root.ok("GET", "aliases/ex.com", email_only="yes")
    for path, key in (
        (f"user/{_in_path(name)}", "username"),
        (f"alias/of-{_in_path(name)}", "address"),
    ):
        shown = await root.ok("GET", path)
        assert shown[key].removeprefix("of-") == name
        await root.ok("PUT", path, name="New")
        assert (await root.ok("GET", path))["name"] == "New"
        await root.ok("DELETE", path)
        assert (await root.call("GET", path))[0] in {400, 404}
    assert set(await root.ok("GET", "users/ex.com", email_only="yes")) == {U, V}
    assert await root.ok("GET", "aliases/ex.com", email_only="yes") == [LIST]


@pytest.mark.stores("sqlite", "postgresql")
async def test_names_that_differ_in_capitals_are_distinguished(world: World) -> None:
    root, foreign = world.root, world.foreign
    for name in ("V@ex.com", "V@Ex.com"):
        await foreign.user(name, "ex.com")
    await foreign.alias_account("LIST@ex.com")
    await foreign.domain("EX.com")
    await root.ok("PUT", "user/V@ex.com", name="Second", addForwarding="x@far.org")
    await root.ok("PUT", f"user/{V}", name="First")
    names = {i["username"]: i["name"] for i in await root.ok("GET", "users/ex.com")}
    assert names == {U: "", V: "First", "V@ex.com": "Second", "V@Ex.com": ""}
    await root.ok("PUT", f"user/{V}", forwarding="")
    await root.ok("DELETE", "user/V@Ex.com")
    await root.ok("DELETE", "user/V@ex.com")
    await root.ok("DELETE", "alias/LIST@ex.com")
    await root.ok("DELETE", "domain/EX.com")
    # The live ones have lost nothing.
    assert await delivery(world.maps, V) == {V}
    assert await world.routes(LIST) == {V}
    assert await root.ok("GET", "domains", name_only="yes") == ["ex.com"]
    for name in ("W@ex.com", "w@Ex.com"):
        await foreign.user(name, "ex.com")
    assert (await root.refused("DELETE", "user/w@ex.com"))[:2] == (409, "AMBIGUOUS_NAME")
    # In letters that nobody has, the folded name is meant, as ever.
    assert (await root.ok("GET", "user/u@EX.COM"))["username"] == U


@pytest.mark.sql_only("entries are where their domain is")
@pytest.mark.parametrize("kept", ["Ex.COM", "EX.com", "ex.com "])
async def test_accounts_whose_domain_is_spelled_in_another_way_are_listed(
    world: World, kept: str
) -> None:
    root, foreign = world.root, world.foreign
    await foreign.user("odd@ex.com", kept)
    await foreign.user("Odder@Ex.com", kept)
    await foreign.alias_account("of-odd@ex.com", kept)
    row = {"address": "l-odd@ex.com", "domain": kept, "mlid": "odd"}
    await foreign.store.insert("maillists", row)
    wanted = {U, V, "odd@ex.com", "Odder@Ex.com"}
    for form in ({"email_only": "yes"}, {}, {"view": "canonical"}):
        assert {_name(i) for i in await root.ok("GET", "users/ex.com", **form)} == wanted
        found = {_name(i) for i in await root.ok("GET", "aliases/ex.com", **form)}
        assert found == {LIST, "of-odd@ex.com"}
        assert [_name(i) for i in await root.ok("GET", "mls/ex.com", **form)] == ["l-odd@ex.com"]
    await root.ok("PUT", "users/ex.com", accountStatus="disabled")
    for mail in sorted(wanted):
        assert (await root.ok("GET", f"user/{mail.lower()}", view="canonical"))[
            "accountStatus"
        ] == "disabled", mail
        await root.ok("DELETE", f"user/{mail.lower()}")
    assert await root.ok("GET", "users/ex.com", email_only="yes") == []


def _name(item: Any) -> str:
    if isinstance(item, str):
        return item
    return str(item.get("mail") or item.get("username") or item["address"])


OTHER_LETTERS = ("Bob@ex.com", "bob@EX.com", "BOB@EX.COM", "bob@ex.com ")


@pytest.mark.sql_only("the directory takes no second entry")
@pytest.mark.parametrize("stored", OTHER_LETTERS)
@pytest.mark.parametrize("table", ["mailbox", "alias", "maillists", "forwardings", "admin"])
async def test_an_address_in_another_spelling_is_in_use(
    world: World, table: str, stored: str
) -> None:
    await _write(world, table, stored)
    await _nobody_gets(world.root, "bob@ex.com", alias=table != "admin")
    await world.root.ok("POST", "alias/bobby@ex.com")


@pytest.mark.stores("postgresql")
async def test_it_is_in_use_with_every_collation(world: World) -> None:
    store = world.foreign.store
    names = [f"{number}{name}" for number, name in enumerate(OTHER_LETTERS)] + [" 9Bob@ex.com"]
    for name in names:
        await world.foreign.user(name, "ex.com")
    there = {row["collname"] for row in await store.rows("SELECT collname FROM pg_collation")}
    try:
        for collation in there.intersection(COLLATIONS):
            await collate(store, collation)
            async with serving(store) as service:
                root = await service.root()
                for name in names:
                    await _nobody_gets(root, name.strip().lower())
    finally:
        await collate(store, "default")


async def _write(world: World, table: str, stored: str) -> None:
    foreign = world.foreign
    if table == "mailbox":
        await foreign.user(stored, "ex.com")
    elif table == "alias":
        await foreign.alias_account(stored, "ex.com")
    elif table == "forwardings":
        await foreign.alias(stored, V, V)
    elif table == "maillists":
        await foreign.store.insert(
            table, {"address": stored, "domain": "ex.com", "mlid": stored[:36]}
        )
    else:
        await foreign.store.insert(table, {"username": stored, "settings": ""})


async def _nobody_gets(root: Client, mail: str, *, alias: bool = True) -> None:
    taken = (409, "ALREADY_EXISTS")
    assert (await root.refused("POST", f"user/{mail}", password=PASSWORD))[:2] == taken
    assert (await root.refused("POST", f"alias/{mail}"))[:2] == taken
    assert (await root.refused("PUT", f"user/{V}/change_email/{mail}"))[:2] == taken
    if alias:
        answer = await root.ok("PUT", f"user/{U}", addAlias=mail)
        assert [item["reason"] for item in answer["_skipped"]] == ["ALREADY_EXISTS"]
    many = [root.call("POST", f"user/{mail}", data={"password": PASSWORD}) for _ in range(3)]
    assert {status for status, _ in await asyncio.gather(*many)} == {409}


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_domains_and_admins_with_capitals(world: World, service: Service) -> None:
    root, foreign = world.root, world.foreign
    await foreign.domain("Big.COM")
    await foreign.user("Bob@Big.COM")
    await foreign.store.insert("admin", {"username": "Boss@Admins.org", "settings": ""})
    await foreign.admin("Boss@Admins.org", "Big.COM")
    assert "Big.COM" in await root.ok("GET", "domains", name_only="yes")
    assert (await root.ok("GET", "domain/big.com"))["domain"] == "Big.COM"
    assert await root.ok("GET", "users/Big.COM", email_only="yes") == ["Bob@Big.COM"]
    for mail in ("bob@big.com", "Bob@big.com", "BOB@BIG.COM", "Bob@Big.COM"):
        assert (await root.ok("GET", f"user/{mail}"))["username"] == "Bob@Big.COM", mail
        await root.ok("PUT", f"user/{mail}", name=mail)
        assert (await root.ok("GET", f"user/{mail}", view="canonical"))["name"] == mail
    admin = await service.admin_of("big.com")
    assert await admin.ok("GET", "users", email_only="yes") == ["Bob@Big.COM"]
    (found,) = await admin.ok("GET", "search", q="bob")
    assert found["address"] == "Bob@Big.COM"
    assert (await admin.ok("GET", "exists/bob@big.com"))["kind"] == "user"
    assert (await admin.ok("GET", "user/bob@big.com"))["username"] == "Bob@Big.COM"
    (used,) = await admin.ok("GET", "usage/big.com")
    assert used["mail"].lower() == "bob@big.com"
    await root.ok("DELETE", "admin/big-admin@admins.test")
    await root.ok("PUT", "domain/Big.COM", name="Big")
    assert (await root.ok("GET", "domain/Big.COM", view="canonical"))["name"] == "Big"
    assert (await root.refused("POST", "domain/big.com"))[:2] == (409, "ALREADY_EXISTS")
    await root.ok("PUT", "admin/boss@admins.org", name="Boss")
    assert (await root.ok("GET", "admin/Boss@Admins.org"))["name"] == "Boss"
    await root.ok("DELETE", "admin/boss@admins.org")
    assert await foreign.admins("big.com") == set()
    await root.ok("DELETE", "domain/Big.COM")
    assert await root.ok("GET", "domains", name_only="yes") == ["ex.com"]
    left = await foreign.store.rows("SELECT username FROM mailbox")
    assert {row["username"] for row in left} == {U, V}


# -- policies --------------------------------------------------------------------------------------


async def test_a_list_entry_goes_in_any_spelling(world: World) -> None:
    store = world.foreign.store
    path = f"wblist/inbound/blacklist/{U}"
    await world.root.ok("POST", path, addresses="friend@far.org")
    (row,) = await store.rows("SELECT id, email FROM mailaddr", "amavisd")
    for number, text in enumerate(("Boss@Far.ORG", "boss@far.org "), row["id"] + 1):
        email: object = text if store.name == "sqlite" else text.encode()
        await store.insert("mailaddr", {"id": number, "email": email}, database="amavisd")
        (user,) = await store.rows("SELECT rid FROM wblist WHERE sid = :s", "amavisd", s=row["id"])
        await store.insert(
            "wblist", {"rid": user["rid"], "sid": number, "wb": "B"}, database="amavisd"
        )
    form = {"addresses": "boss@far.org,gone@far.org"}
    assert await world.skipped("PUT", path, **form) == [("addresses", "gone@far.org")]
    assert await world.root.ok("GET", path) == ["friend@far.org"]


async def test_policies_go_with_the_account_in_any_spelling(world: World) -> None:
    store = world.foreign.store
    await store.insert(
        "throttle", {"account": "V@Ex.com", "kind": "inbound", "period": 60}, database="iredapd"
    )
    await world.root.ok("DELETE", f"user/{V}")
    assert await store.rows("SELECT account FROM throttle", "iredapd") == []
