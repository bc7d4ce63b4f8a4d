"""Unsubscribable lists through HTTP: entries, and what Postfix makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import PASSWORD, Client, Service
from tests.contract.histories import HASH
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.postfix import PostfixMaps
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
LIST = "list@ex.com"
GROUP_DN = account_dn(LIST, "Groups")
EXTERNAL_DN = f"memberOfGroup={LIST},ou=Externals,{domain_dn('ex.com')}"


@pytest_asyncio.fixture(loop_scope="session")
async def made(root: Client) -> Client:
    """Two domains, one with an alias domain; users, an alias, and per-user alias addresses."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "domain/other.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    for mail in ("u@ex.com", "v@ex.com", "w@ex.com", "x@other.com"):
        await root.ok("POST", f"user/{mail}", password_hash=HASH)
    await root.ok("PUT", "user/u@ex.com", addAlias="ulla@ex.com")
    await root.ok("POST", "alias/team@ex.com", members="w@ex.com")
    return root


async def members(client: Client) -> list[str]:
    found: list[str] = (await client.ok("GET", f"maillist/{LIST}"))["members"]
    assert (await client.ok("GET", f"maillist/{LIST}", view="canonical"))["members"] == found
    return found


def expand(postfix: PostfixMaps, address: str) -> set[str]:
    """Return the addresses to which Postfix expands an address."""
    return {
        mail
        for answer in postfix.query("virtual_group_maps", address)
        for mail in answer.split(",")
    }


def entry(store: Store, dn: str) -> dict[str, list[str]]:
    found = store.directory.entry(dn)
    return {} if found is None else dict(found)


async def test_create_and_read(made: Client, store: Store, postfix: PostfixMaps) -> None:
    status, answer = await made.call(
        "POST",
        f"maillist/{LIST}",
        data={
            "name": "Liste Ü",
            "accessPolicy": "allowedonly",
            "members": "u@ex.com,v@al.com,ulla@ex.com,w+news@ex.com,team@ex.com,x@other.com,"
            "Far@gmail.com,nobody@ex.com,list@ex.com,list@al.com",
        },
    )
    assert status == 200, answer
    assert answer["_skipped"] == [
        {"param": "members", "value": "nobody@ex.com", "reason": "NO_SUCH_ACCOUNT"},
        {"param": "members", "value": "list@ex.com", "reason": "NO_SUCH_ACCOUNT"},
        {"param": "members", "value": "list@al.com", "reason": "NO_SUCH_ACCOUNT"},
    ]
    everybody = ["far@gmail.com", "team@ex.com", "u@ex.com", "v@ex.com", "w@ex.com", "x@other.com"]
    assert await members(made) == everybody
    shown = await made.ok("GET", f"maillist/{LIST}", view="canonical")
    assert shown == {
        "mail": LIST,
        "name": "Liste Ü",
        "accountStatus": "active",
        "accessPolicy": "moderatorsonly",
        "members": everybody,
    }
    assert entry(store, GROUP_DN) == {
        "objectClass": ["mailList"],
        "mail": [LIST],
        "cn": ["Liste Ü"],
        "accountStatus": ["active"],
        "enabledService": ["deliver", "displayedInGlobalAddressBook", "mail"],
        "accessPolicy": ["moderatorsonly"],
        "hasMember": ["yes"],
        "member": [account_dn(mail) for mail in ("u@ex.com", "v@ex.com", "w@ex.com")],
        "shadowAddress": ["list@al.com"],
    }
    assert entry(store, EXTERNAL_DN) == {
        "objectClass": ["mailExternalUser"],
        "memberOfGroup": [LIST],
        "mail": ["far@gmail.com", "x@other.com"],
        "accountStatus": ["active"],
        "enabledService": ["deliver", "mail"],
        "shadowAddress": ["list@al.com"],
    }
    assert entry(store, account_dn("u@ex.com"))["memberOfGroup"] == ["list@al.com", LIST]
    assert "memberOfGroup" not in entry(store, account_dn("x@other.com"))
    for address in (LIST, "list@al.com"):
        assert expand(postfix, address) == set(everybody), address
    assert entry(store, domain_dn("ex.com"))["domainCurrentListNumber"] == ["1"]
    assert (await made.ok("GET", "domain/ex.com", view="canonical"))["existingLists"] == 1
    user = await made.ok("GET", "user/u@ex.com")
    assert user["mailing_lists"] == [LIST]


async def test_members_change(made: Client, store: Store, postfix: PostfixMaps) -> None:
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com,far@gmail.com")
    await made.ok("PUT", f"maillist/{LIST}", addMember="v@ex.com,x@other.com", name="New")
    assert await members(made) == ["far@gmail.com", "u@ex.com", "v@ex.com", "x@other.com"]
    await made.ok("PUT", f"maillist/{LIST}", removeMember="ulla@ex.com,far@gmail.com,no@ex.com")
    assert await members(made) == ["v@ex.com", "x@other.com"]
    assert "memberOfGroup" not in entry(store, account_dn("u@ex.com"))
    await made.ok("PUT", f"maillist/{LIST}", members="w@ex.com")
    assert await members(made) == ["w@ex.com"]
    assert entry(store, EXTERNAL_DN) == {}
    assert entry(store, GROUP_DN)["member"] == [account_dn("w@ex.com")]
    assert expand(postfix, LIST) == expand(postfix, "list@al.com") == {"w@ex.com"}
    await made.ok("PUT", f"maillist/{LIST}", members="new@gmail.com")
    assert await members(made) == ["new@gmail.com"]
    await made.ok("PUT", f"maillist/{LIST}", members="")
    assert await members(made) == []
    assert entry(store, GROUP_DN)["hasMember"] == ["no"]
    assert expand(postfix, LIST) == set()
    await made.ok("PUT", f"maillist/{LIST}", accessPolicy="domain", name="")
    found = await made.ok("GET", f"maillist/{LIST}", view="canonical")
    assert (found["accessPolicy"], found["name"]) == ("domain", "list")


async def test_nothing_is_left_of_a_list(made: Client, store: Store, postfix: PostfixMaps) -> None:
    before = store.directory.dump()
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com,team@ex.com,far@gmail.com")
    await made.ok("POST", "maillist/outer@ex.com", members=LIST)
    await made.ok("PUT", "alias/team@ex.com", addMember=LIST)
    assert expand(postfix, "outer@ex.com") == {LIST}
    await made.ok("DELETE", f"maillist/{LIST}", archive="no")
    assert expand(postfix, LIST) == expand(postfix, "list@al.com") == set()
    assert await made.refused("GET", f"maillist/{LIST}") == (404, "NO_SUCH_ACCOUNT", [])
    await made.ok("DELETE", "maillist/outer@ex.com", archive="yes")
    assert store.directory.dump() == before


async def test_alias_domains_added_and_removed(made: Client, postfix: PostfixMaps) -> None:
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com,far@gmail.com")
    await made.ok("PUT", "domain/ex.com", addAliasDomain="bl.com")
    assert expand(postfix, "list@bl.com") == {"u@ex.com", "far@gmail.com"}
    await made.ok("PUT", f"maillist/{LIST}", addMember="v@ex.com")
    assert expand(postfix, "list@bl.com") == {"u@ex.com", "v@ex.com", "far@gmail.com"}
    await made.ok("PUT", "domain/ex.com", removeAliasDomain="bl.com")
    assert expand(postfix, "list@bl.com") == set()
    assert await members(made) == ["far@gmail.com", "u@ex.com", "v@ex.com"]


async def test_members_that_are_removed_or_renamed(made: Client, postfix: PostfixMaps) -> None:
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com,v@ex.com,x@other.com")
    await made.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    await made.ok("POST", "user/x@other.com/change_email/y@other.com")
    assert await members(made) == ["n@ex.com", "v@ex.com", "y@other.com"]
    await made.ok("DELETE", "user/v@ex.com")
    assert await members(made) == ["n@ex.com", "y@other.com"]
    assert expand(postfix, LIST) == {"n@ex.com", "y@other.com"}


async def test_a_disabled_domain(made: Client, store: Store, postfix: PostfixMaps) -> None:
    await made.ok("PUT", "domain/ex.com", accountStatus="disabled")
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com,far@gmail.com")
    assert expand(postfix, LIST) == set()
    for dn in (GROUP_DN, EXTERNAL_DN):
        assert entry(store, dn)["domainStatus"] == ["disabled"]
    await made.ok("PUT", "domain/ex.com", accountStatus="active")
    assert expand(postfix, LIST) == {"u@ex.com", "far@gmail.com"}


async def test_the_limit_of_lists(made: Client) -> None:
    await made.ok("PUT", "domain/ex.com", numberOfLists="1")
    await made.ok("POST", f"maillist/{LIST}")
    code = "EXCEEDED_DOMAIN_ACCOUNT_LIMIT"
    assert await made.refused("POST", "maillist/l2@ex.com") == (409, code, [])
    await made.ok("PUT", "domain/ex.com", numberOfLists="-1")
    assert await made.refused("POST", "maillist/l2@ex.com") == (403, "NOT_ALLOWED", [])


@pytest.mark.parametrize("address", ["u@ex.com", "team@ex.com", "ulla@ex.com", "list@ex.com"])
async def test_one_namespace(made: Client, store: Store, address: str) -> None:
    """A list cannot get an address in use, and the address of a list cannot be used."""
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com")
    before = store.directory.dump()
    assert await made.refused("POST", f"maillist/{address}") == (409, "ALREADY_EXISTS", [])
    for noun, form in (("user", {"password": PASSWORD}), ("alias", {})):
        refused = await made.refused("POST", f"{noun}/{LIST}", **form)
        assert refused == (409, "ALREADY_EXISTS", [])
    assert store.directory.dump() == before


@pytest.mark.parametrize(
    "method,form,names",
    [
        ("POST", {"accessPolicy": "friends"}, ["accessPolicy"]),
        ("POST", {"members": "u@ex.com,nonsense"}, ["members"]),
        ("POST", {"name": "x" * 300}, ["name"]),
        ("PUT", {"accessPolicy": ""}, ["accessPolicy"]),
        ("PUT", {"addMember": "@ex.com"}, ["addMember"]),
        ("PUT", {"removeMember": "nonsense"}, ["removeMember"]),
        ("PUT", {"members": "u@ex.com", "addMember": "v@ex.com"}, ["addMember", "members"]),
        ("PUT", {"members": "u@ex.com", "removeMember": "v@ex.com"}, ["members", "removeMember"]),
        ("DELETE", {"archive": "perhaps"}, ["archive"]),
    ],
)  # fmt: skip
async def test_refusals(
    made: Client, store: Store, method: str, form: dict[str, str], names: Iterable[str]
) -> None:
    if method != "POST":
        await made.ok("POST", f"maillist/{LIST}", members="u@ex.com")
    before = store.directory.dump()
    assert (await made.refused(method, f"maillist/{LIST}", **form))[::2] == (400, names)
    assert store.directory.dump() == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_missing_or_of_another_kind(made: Client, store: Store, method: str) -> None:
    for address in ("no@ex.com", "u@ex.com", "team@ex.com", "ml@ex.com"):
        if address.startswith("ml"):
            store.directory.add(
                account_dn(address, "Groups"),
                {
                    "objectClass": "mailList",
                    "mail": address,
                    "accountStatus": "active",
                    "enabledService": ["mail", "deliver", "mlmmj"],
                },
            )
        before = store.directory.dump()
        assert await made.refused(method, f"maillist/{address}") == (404, "NO_SUCH_ACCOUNT", [])
        assert store.directory.dump() == before
    assert (await made.refused("POST", "maillist/l@al.com"))[1] == "NO_SUCH_DOMAIN"


async def test_normal_admins(made: Client, service: Service) -> None:
    admin = await service.admin_of("ex.com")
    await admin.ok("POST", f"maillist/{LIST}", members="u@ex.com")
    await admin.ok("PUT", f"maillist/{LIST}", addMember="v@ex.com")
    assert await members(admin) == ["u@ex.com", "v@ex.com"]
    for method in ("GET", "POST", "PUT", "DELETE"):
        refused = await admin.refused(method, "maillist/l@other.com")
        assert refused == (403, "PERMISSION_DENIED", [])
    await admin.ok("DELETE", f"maillist/{LIST}")


async def test_the_log(made: Client, store: Store) -> None:
    await made.ok("POST", f"maillist/{LIST}")
    await made.ok("PUT", f"maillist/{LIST}", name="N")
    await made.ok("DELETE", f"maillist/{LIST}")
    rows: list[dict[str, Any]] = await store.rows(
        "SELECT event, msg FROM log WHERE username = 'list@ex.com' ORDER BY id", "iredadmin"
    )
    assert [(row["event"], row["msg"].removeprefix("[API] ")) for row in rows] == [
        ("create", "Create mailing list: list@ex.com."),
        ("update", "Update mailing list (name): list@ex.com."),
        ("delete", "Delete mailing list: list@ex.com."),
    ]


async def test_metacharacters_touch_nothing_else(made: Client, store: Store) -> None:
    await made.ok("POST", f"maillist/{LIST}", members="u@ex.com")
    before = store.directory.dump()
    for address in (
        "*@ex.com",
        "li*@ex.com",
        "list)(mail=*@ex.com",
        "list\\2a@ex.com",
        "a,b@ex.com",
    ):
        for method in ("GET", "PUT", "DELETE"):
            status, _, _ = await made.refused(method, f"maillist/{address}")
            assert status in {400, 404}, address
    assert store.directory.dump() == before
