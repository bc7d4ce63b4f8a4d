"""Overlays of slapd: a password policy (ppolicy), and refint, memberof and unique."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from iredapi.domain.passwords import Scheme, hash_password
from tests.clients import PASSWORD, Client, Service, serving
from tests.conftest import need
from tests.ldap.test_undo import HASH, Cutter, Request, mailbox_path, send
from tests.servers.openldap import ADMIN_BASE, OpenldapServer, account_dn, domain_dn
from tests.servers.replication import demand, overlaid
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")
OTHER = "{SSHA}cfxqKqOOKODJw/bGqMo54f9Q/iOvQoftOQrqWA=="
U = account_dn("u@ex.com")


@pytest.fixture(scope="module")
def _overlaid() -> Iterator[OpenldapServer]:
    need("openldap")
    server = overlaid()
    yield server
    server.stop()


@pytest.fixture
def slapd(_overlaid: OpenldapServer) -> OpenldapServer:
    """A server with overlays, no rules of its policy, and nothing below both bases."""
    _overlaid.reset()
    demand(_overlaid)
    return _overlaid


@pytest_asyncio.fixture(loop_scope="session")
async def on_overlays(store: Store, slapd: OpenldapServer) -> AsyncIterator[Service]:
    given = {"ldap_uri": slapd.uri, "ldap_bind_password": slapd.password}
    given |= {"rehash_at_login": "true", "password_scheme": "SSHA512"}
    async with serving(store, **given) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def admin(on_overlays: Service) -> Client:
    """A global admin, and a domain with the users u, v and w."""
    root = await on_overlays.root()
    await root.ok("POST", "domain/ex.com", quota="1000")
    for name in "uvw":
        await root.ok("POST", f"user/{name}@ex.com", password_hash=HASH, quota="5")
    return root


def stored(slapd: OpenldapServer, dn: str = U) -> list[str]:
    entry = slapd.entry(dn)
    assert entry is not None
    return entry.get("userPassword", [])


# The password policy ----------------------------------------------------------------------------


async def test_passwords_are_changed(
    on_overlays: Service, admin: Client, slapd: OpenldapServer
) -> None:
    """Passwords of users, of admins, of all users; also when a change is undone."""
    await admin.ok("PUT", "user/u@ex.com", password_hash=OTHER)
    assert stored(slapd) == [OTHER]
    await admin.ok("PUT", "user/u@ex.com", password="An0ther-Horse", name="U")
    assert stored(slapd) != [OTHER]
    await admin.ok("PUT", "users/ex.com", password="A-th1rd-Horse")
    assert stored(slapd) == stored(slapd, account_dn("v@ex.com")) != [HASH]
    await admin.ok("POST", "admin/a@admins.test", password=PASSWORD)
    await admin.ok("PUT", "admin/a@admins.test", password="A-f0urth-Horse")
    await on_overlays.client().login("a@admins.test", "A-f0urth-Horse")
    old = stored(slapd, account_dn("w@ex.com"))
    cutter = Cutter(mailbox_path(on_overlays).directory)
    cutter.arm(1, "killed")
    request = ("PUT", "user/w@ex.com", {"password_hash": HASH, "quota": "9"})
    assert await send(admin, request) == 0
    assert stored(slapd, account_dn("w@ex.com")) == [HASH]
    cutter.arm(-1, "")
    await mailbox_path(on_overlays).recover()
    assert stored(slapd, account_dn("w@ex.com")) == old
    assert not await on_overlays.context.state.journal.open()


async def test_a_hash_is_renewed_at_login(
    on_overlays: Service, admin: Client, slapd: OpenldapServer
) -> None:
    await admin.ok("POST", "admin/a@admins.test", password=PASSWORD)
    dn = f"mail=a@admins.test,{ADMIN_BASE}"
    outdated = hash_password(PASSWORD, Scheme.SSHA)
    slapd.modify(dn, replace={"userPassword": outdated})
    on_overlays.context.invalidate_caches()
    await on_overlays.client().login("a@admins.test")
    (now,) = stored(slapd, dn)
    assert now.startswith("{SSHA512}")


@pytest.mark.parametrize(
    "rules, text",
    [
        ({"pwdCheckQuality": "2"}, "Password fails quality checking policy"),
        ({"pwdMinAge": "3600"}, "Password is too young to change"),
    ],
)
async def test_a_policy_refuses(
    admin: Client, slapd: OpenldapServer, rules: dict[str, str], text: str
) -> None:
    """Its text about the password reaches the client, and nothing is changed."""
    demand(slapd, pwdMinAge="1")
    await admin.ok("PUT", "users/ex.com", password="A-f1rst-Horse")  # its age is noted now
    demand(slapd, **rules)
    before = slapd.dump()
    for path, form in (
        ("user/u@ex.com", {"password_hash": OTHER, "quota": "7"}),
        ("user/u@ex.com", {"password": "An0ther-Horse", "name": "New"}),
        ("users/ex.com", {"password": "An0ther-Horse", "language": "de_DE"}),
    ):
        status, answer = await admin.call("PUT", path, data=form)
        assert (status, answer["_msg"]) == (400, "PW_REFUSED_BY_DIRECTORY"), answer
        assert answer["_errors"] == [
            {"param": "password", "code": "PW_REFUSED_BY_DIRECTORY", "detail": text}
        ]
    assert slapd.dump() == before


async def test_a_policy_refuses_new_accounts(admin: Client, slapd: OpenldapServer) -> None:
    demand(slapd, pwdCheckQuality="2")
    before = slapd.dump()
    for path in ("user/new@ex.com", "admin/new@admins.test"):
        refused = await admin.refused("POST", path, password="An0ther-Horse")
        assert refused == (400, "PW_REFUSED_BY_DIRECTORY", ["password"])
    assert slapd.dump() == before


async def test_some_users_refuse(admin: Client, slapd: OpenldapServer) -> None:
    """The others are changed, and ``_skipped`` names the refused ones."""
    slapd.add(
        "cn=strict,dc=test,dc=invalid",
        {"objectClass": ["device", "pwdPolicy"], "cn": "strict", "pwdAttribute": "userPassword",
         "pwdMinAge": "3600"},
    )  # fmt: skip
    demand(slapd, pwdMinAge="1")
    await admin.ok("PUT", "user/u@ex.com", password_hash=OTHER)
    try:
        slapd.modify(U, add={"pwdPolicySubentry": "cn=strict,dc=test,dc=invalid"})
        answer = await admin.ok("PUT", "users/ex.com", password="An0ther-Horse", language="de_DE")
    finally:
        slapd.delete("cn=strict,dc=test,dc=invalid")
    assert answer["_skipped"] == [
        {"param": "mail", "value": "u@ex.com", "reason": "PW_REFUSED_BY_DIRECTORY"}
    ]
    assert stored(slapd) == [OTHER]
    entry = slapd.entry(account_dn("v@ex.com"))
    assert entry is not None
    assert entry["preferredLanguage"] == ["de_DE"]
    assert entry["userPassword"] != [HASH]


async def test_a_policy_refuses_an_undo(
    on_overlays: Service, admin: Client, slapd: OpenldapServer
) -> None:
    """A new password too young to change is kept; a deleted account is restored."""
    cutter = Cutter(mailbox_path(on_overlays).directory)
    demand(slapd, pwdMinAge="1")
    cutter.arm(1, "killed")
    request = ("PUT", "user/u@ex.com", {"password_hash": OTHER, "quota": "9"})
    assert await send(admin, request) == 0
    cutter.arm(-1, "")
    demand(slapd, pwdMinAge="3600")
    await mailbox_path(on_overlays).recover()
    entry = slapd.entry(U)
    assert entry is not None
    assert entry["mailQuota"] == ["5242880"]
    assert entry["userPassword"] == [OTHER]
    demand(slapd)
    await admin.ok("PUT", "user/u@ex.com", quota="9")
    # The last step of a removal deletes the entry; the policy refuses its hash during the undo.
    cutter.arm(-1, "")
    assert await send(admin, ("DELETE", "user/v@ex.com", {})) == 200
    cutter.arm(cutter.count - 1, "killed after")
    assert await send(admin, ("DELETE", "user/w@ex.com", {})) == 0
    assert slapd.entry(account_dn("w@ex.com")) is None
    cutter.arm(-1, "")
    demand(slapd, pwdCheckQuality="2")
    await mailbox_path(on_overlays).recover()
    assert not await on_overlays.context.state.journal.open()
    assert stored(slapd, account_dn("w@ex.com")) == []
    await admin.ok("PUT", "domain/ex.com", name="Goes on")


# What renames, removes and guards ---------------------------------------------------------------


async def test_a_member_of_a_list_is_renamed_and_removed(
    on_overlays: Service, admin: Client, slapd: OpenldapServer
) -> None:
    """Overlays change ``member``: refint at a rename, memberof at a removal."""
    await admin.ok("POST", "maillist/team@ex.com", members="u@ex.com,v@ex.com")
    await admin.ok("POST", "maillist/other@ex.com", members="u@ex.com")
    await admin.ok("POST", "user/u@ex.com/change_email/x@ex.com")
    team = account_dn("team@ex.com", "Groups")
    entry = slapd.entry(team)
    assert entry is not None
    assert entry["member"] == [account_dn("v@ex.com"), account_dn("x@ex.com")]
    found = await admin.ok("GET", "maillist/team@ex.com")
    assert found["members"] == ["v@ex.com", "x@ex.com"]
    await admin.ok("DELETE", "user/x@ex.com")
    entry = slapd.entry(team)
    assert entry is not None
    assert entry["member"] == [account_dn("v@ex.com")]
    await admin.ok("PUT", "maillist/team@ex.com", members="w@ex.com")
    await admin.ok("DELETE", "maillist/team@ex.com")
    await admin.ok("DELETE", "domain/ex.com")
    assert slapd.entry(domain_dn("ex.com")) is None


async def test_an_interrupted_rename(
    on_overlays: Service, admin: Client, slapd: OpenldapServer
) -> None:
    """Cut at every step, with overlays active: the tree is as before, or complete."""
    await admin.ok("POST", "maillist/team@ex.com", members="u@ex.com,v@ex.com")
    await admin.ok("POST", "alias/all@ex.com", members="u@ex.com,v@ex.com")
    before = slapd.dump()
    request: Request = ("POST", "user/u@ex.com/change_email/x@ex.com", {})
    cutter = Cutter(mailbox_path(on_overlays).directory)
    cutter.arm(-1, "")
    assert await send(admin, request) == 200
    after, steps = slapd.dump(), cutter.count
    assert await send(admin, ("POST", "user/x@ex.com/change_email/u@ex.com", {})) == 200
    assert slapd.dump() == before
    for at in range(steps):
        for fault in ("refused", "done", "killed", "killed after"):
            cutter.arm(at, fault)
            status = await send(admin, request)
            cutter.arm(-1, "")
            await mailbox_path(on_overlays).recover()
            assert not await on_overlays.context.state.journal.open()
            assert slapd.dump() == (after if status == 200 else before), (at, fault)
            if status == 200:
                # slapd had done it already: there was nothing to cut.
                assert await send(admin, ("POST", "user/x@ex.com/change_email/u@ex.com", {})) == 200


async def test_what_is_logged(admin: Client, slapd: OpenldapServer) -> None:
    """The overlay accesslog has each write once, and nothing of requests that were refused."""

    def writes() -> list[str]:
        found = slapd.find("cn=accesslog", f"(&(objectClass=auditWriteObject)(reqDN={U}))")
        return [entry["reqType"][0] for entry in found.values()]

    before = writes()
    await admin.ok("PUT", "user/u@ex.com", password_hash=OTHER, name="Once")
    await admin.ok("PUT", "user/u@ex.com", addForwarding="far@x.org")
    assert (await admin.refused("PUT", "user/u@ex.com", quota="x"))[0] == 400
    assert writes()[len(before) :] == ["modify", "modify"]


async def test_a_value_that_is_there_once(admin: Client, slapd: OpenldapServer) -> None:
    """The overlay unique refuses: the name is in use, and nothing is changed."""
    await admin.ok("PUT", "user/u@ex.com", employeeid="17")
    before = slapd.dump()
    refused = await admin.refused("PUT", "user/v@ex.com", employeeid="17", quota="8")
    assert refused == (409, "ALREADY_EXISTS", [])
    assert slapd.dump() == before
