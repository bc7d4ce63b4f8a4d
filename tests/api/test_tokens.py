"""API tokens: never more rights than their owner, shown once, ended at once; own sessions."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest

from iredapi.auth import permissions
from iredapi.auth.permissions import Action
from iredapi.domain.passwords import Scheme, hash_password
from iredapi.domain.tokens import PREFIX
from tests.api.test_access import bearer, routes
from tests.api.test_sessions import Clock, panel
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.api import add_root
from tests.servers.openldap import ADMIN_BASE, account_dn
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)

INVALID = (401, "INVALID_TOKEN")
DENIED = (403, "PERMISSION_DENIED")


async def made(client: Client, **form: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.ok("POST", "tokens", **({"label": "test"} | form))
    return found


@pytest.fixture
def clock(service: Service, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(service)
    monkeypatch.setattr(service.context.state.tokens, "_clock", found)
    return found


async def domains(root: Client, *names: str) -> None:
    for name in names:
        await root.ok("POST", f"domain/{name}")


async def mark_global(service: Service, mail: str, *, yes: bool) -> None:
    """Change a standalone admin's rights, as another program does."""
    if service.store.name == "openldap":
        word = "yes" if yes else "no"
        service.store.directory.modify(
            f"mail={mail},{ADMIN_BASE}", replace={"domainGlobalAdmin": word}
        )
        return
    await service.store.execute(
        "UPDATE domain_admins SET active = :active WHERE username = :mail",
        active=int(yes), mail=mail,
    )  # fmt: skip


async def mark_admin(service: Service, mail: str) -> None:
    """Make a mail user an admin who manages nothing yet, as another program does."""
    if service.store.name == "openldap":
        service.store.directory.modify(account_dn(mail), add={"enabledService": "domainadmin"})
        return
    await service.store.execute("UPDATE mailbox SET isadmin = 1 WHERE username = :mail", mail=mail)


async def set_hash(service: Service, mail: str, hashed: str) -> None:
    """Store a hash, as another program does."""
    if service.store.name == "openldap":
        dn = f"mail={mail},{ADMIN_BASE}"
        if mail.endswith("@ex.com"):
            dn = account_dn(mail)
        service.store.directory.modify(dn, replace={"userPassword": hashed})
        return
    for table in ("admin", "mailbox"):
        await service.store.execute(
            f"UPDATE {table} SET password = :hashed WHERE username = :mail",
            hashed=hashed,
            mail=mail,
        )


async def write_again(service: Service, mail: str, account_created_at: datetime) -> None:
    """Make a standalone global admin, in place of one of that name, as another program does.

    All are equal but for the time, where the storage has one that programs write.
    """
    hashed = "{SSHA}JqwCXTF0NRHfWeg490DnpGwQ8NdiYexLdwZysg=="
    if service.store.name == "openldap":
        dn = f"mail={mail},{ADMIN_BASE}"
        if service.store.directory.entry(dn):
            service.store.directory.delete(dn)
        await add_root(service.store, mail, PASSWORD)
        service.store.directory.modify(dn, replace={"userPassword": hashed})
        return
    for table in ("admin", "domain_admins"):
        await service.store.execute(f"DELETE FROM {table} WHERE username = :mail", mail=mail)
    row = {
        "username": mail,
        "name": "",
        "password": hashed,
        "active": 1,
        "created": account_created_at,
    }
    await service.store.insert("admin", row)
    await service.store.insert("domain_admins", {"username": mail, "domain": "ALL", "active": 1})


# What one is -------------------------------------------------------------------------------------


async def test_a_token_is_its_owner(service: Service, root: Client) -> None:
    token = await made(root, label="  Billing  ")
    assert token["token"].startswith(PREFIX)
    assert token["label"] == "Billing"
    assert (token["status"], token["read_only"], token["domains"]) == ("active", 0, None)
    assert (token["networks"], token["expires"], token["last_used"]) == ([], None, None)
    client = bearer(service, token["token"])
    await client.ok("POST", "domain/ex.com")
    await client.ok("POST", "user/u@ex.com", password=PASSWORD)
    me = await client.ok("GET", "whoami")
    assert (me["username"], me["isglobaladmin"], me["read_only"]) == (ROOT, 1, 0)
    assert me["token"]["id"] == token["id"]
    assert "token" not in me["token"]
    assert (await root.ok("GET", "whoami"))["token"] is None


@pytest.mark.parametrize("kind", ["data", "json"])
async def test_form_and_json(service: Service, root: Client, kind: str) -> None:
    await domains(root, "ex.com", "two.com")
    form: dict[str, Any] = {"label": "x", "days": "30", "readOnly": "yes"}
    form |= {"domains": "two.com,EX.com", "networks": "192.0.2.7,2001:db8::/32"}
    if kind == "json":
        form |= {"days": 30, "readOnly": True, "domains": ["ex.com", "two.com"]}
    status, answer = await root.call("POST", "tokens", **{kind: form})
    assert status == 200, answer
    token = answer["_data"]
    assert token["domains"] == ["ex.com", "two.com"]
    assert token["networks"] == ["192.0.2.7", "2001:db8::/32"]
    assert token["read_only"] == 1
    assert token["expires"] > token["created"]
    assert [t["id"] for t in await root.ok("GET", "tokens")] == [token["id"]]


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize(
    "form, status, code, names",
    [
        ({}, 400, "REQUIRED", ["label"]),
        ({"label": " "}, 400, "EMPTY_NOT_ALLOWED", ["label"]),
        ({"label": "x" * 101}, 400, "INVALID_TEXT", ["label"]),
        ({"label": "a\nb"}, 400, "INVALID_TEXT", ["label"]),
        ({"label": "x", "days": "0"}, 400, "INVALID_NUMBER", ["days"]),
        ({"label": "x", "days": "-1"}, 400, "INVALID_NUMBER", ["days"]),
        ({"label": "x", "days": "3651"}, 400, "INVALID_NUMBER", ["days"]),
        ({"label": "x", "readOnly": "perhaps"}, 400, "INVALID_VALUE", ["readOnly"]),
        ({"label": "x", "domains": ""}, 400, "EMPTY_NOT_ALLOWED", ["domains"]),
        ({"label": "x", "domains": "a b"}, 400, "INVALID_DOMAIN_NAME", ["domains"]),
        ({"label": "x", "domains": "no.com"}, 400, "INVALID_DOMAIN_NAME", ["domains"]),
        ({"label": "x", "networks": ""}, 400, "EMPTY_NOT_ALLOWED", ["networks"]),
        ({"label": "x", "networks": "10.0.0.1/8"}, 400, "INVALID_NETWORK", ["networks"]),
        ({"label": "x", "networks": "10.0.0.0/33"}, 400, "INVALID_NETWORK", ["networks"]),
        ({"label": "x", "networks": "localhost"}, 400, "INVALID_NETWORK", ["networks"]),
        ({"label": "x", "networks": "::ffff:0:0/80"}, 400, "INVALID_NETWORK", ["networks"]),
    ],
)
async def test_refused_parameters(
    service: Service, root: Client, form: dict[str, str], status: int, code: str, names: list[str]
) -> None:
    assert await root.refused("POST", "tokens", **form) == (status, code, names)
    assert await root.ok("GET", "tokens") == []


async def test_lesson_37_only_a_hash_is_stored(service: Service, root: Client) -> None:
    secret = (await made(root))["token"]
    (row,) = await service.store.rows("SELECT * FROM tokens", "state")
    stored = json.dumps(row)
    assert secret not in stored
    assert secret[20:] not in stored
    for method, path in (("GET", "tokens"), ("GET", f"token/{row['id']}"), ("GET", "whoami")):
        assert secret[20:] not in json.dumps(await root.ok(method, path))


async def test_lesson_37_the_list_shows_what_is_needed(
    service: Service, root: Client, clock: Clock
) -> None:
    token = await made(root, label="one")
    client = bearer(service, token["token"])
    await client.ok("GET", "domains")
    (shown,) = await root.ok("GET", "tokens")
    assert token["token"].startswith(shown["hint"])
    assert len(shown["hint"]) < 16
    first = shown["last_used"]
    assert first is not None
    clock.now += 59
    await client.ok("GET", "domains")
    assert (await root.ok("GET", f"token/{token['id']}"))["last_used"] == first
    clock.now += 2
    await client.ok("GET", "domains")
    assert (await root.ok("GET", f"token/{token['id']}"))["last_used"] > first


# What is none -------------------------------------------------------------------------------------


async def test_lesson_51_what_is_not_quite_a_token(service: Service, root: Client) -> None:
    """On every route, and never saying how near it was; a session does not help."""
    secret = (await made(root))["token"]
    flipped = bytearray(secret.encode())
    flipped[-2] ^= 1
    wrong = [
        "", " ", "x", secret[:-1], secret + "A", secret.swapcase(), secret.upper(),
        secret.removeprefix(PREFIX), secret[:8], flipped.decode(), f'"{secret}"', secret + " x",
        base64.b64encode(f"{ROOT}:{PASSWORD}".encode()).decode(), PREFIX + "A" * 43, "%", "é",
    ]  # fmt: skip
    for value in wrong:
        for scheme in ("Bearer", "bearer", "BEARER"):
            header = [(b"Authorization", f"{scheme} {value}".encode())]
            response = await root.http.get("domains", headers=header)
            assert (response.status_code, response.json()["_msg"]) == INVALID, value
    for route in routes(service.app):
        path = f"{service.client().http.base_url}{route.path}".replace("{", "").replace("}", "")
        response = await root.http.request(
            route.method, path, headers={"Authorization": f"Bearer {secret[:-1]}"}
        )
        assert (response.status_code, response.json()["_msg"]) == INVALID, route
    twice = [("Authorization", f"Bearer {secret}")] * 2
    response = await root.http.get("domains", headers=twice)
    assert (response.status_code, response.json()["_msg"]) == INVALID


@pytest.mark.stores("sqlite")
@pytest.mark.parametrize("header", ["Basic cm9vdDpyb290", "Digest x", "Negotiate abc"])
async def test_other_schemes_are_for_a_proxy(service: Service, root: Client, header: str) -> None:
    await root.ok("GET", "domains")
    response = await root.http.get("domains", headers={"Authorization": header})
    assert response.status_code == 200
    response = await service.client().http.get("domains", headers={"Authorization": header})
    assert response.json()["_msg"] == "LOGIN_REQUIRED"


async def test_a_token_in_the_wrong_place(service: Service, root: Client) -> None:
    secret = (await made(root))["token"]
    client = service.client()
    for name in ("token", "access_token", "api_key", "authorization"):
        assert (await client.call("GET", "domains", params={name: secret}))[0] == 401
    client.http.cookies.set("iredapi_session", secret, domain="server.local", path="/")
    assert (await client.call("GET", "domains"))[0] == 401
    assert (await client.call("GET", "domains", headers={"X-API-Key": secret}))[0] == 401


async def test_expiry(service: Service, root: Client, clock: Clock) -> None:
    token = await made(root, days="1")
    client = bearer(service, token["token"])
    clock.now += 86399
    await client.ok("GET", "domains")
    clock.now += 1
    assert (await client.refused("GET", "domains"))[:2] == INVALID
    assert (await root.ok("GET", f"token/{token['id']}"))["status"] == "expired"


async def test_revoking(service: Service, root: Client) -> None:
    one, two = await made(root), await made(root)
    await root.ok("DELETE", f"token/{one['id']}")
    assert (await bearer(service, one["token"]).refused("GET", "domains"))[:2] == INVALID
    await bearer(service, two["token"]).ok("GET", "domains")
    assert (await root.refused("DELETE", f"token/{one['id']}"))[:2] == (404, "NO_SUCH_TOKEN")
    assert (await root.refused("GET", f"token/{one['id']}"))[:2] == (404, "NO_SUCH_TOKEN")
    # A token may end itself.
    await bearer(service, two["token"]).ok("DELETE", f"token/{two['id']}")
    assert (await bearer(service, two["token"]).refused("GET", "domains"))[:2] == INVALID


async def test_rotation(service: Service, root: Client, clock: Clock) -> None:
    token = await made(root, readOnly="yes", days="30")
    old = bearer(service, token["token"])
    again = await root.ok("POST", f"token/{token['id']}/rotate", overlap="60")
    assert again["token"] != token["token"]
    assert again["old_secret_until"] is not None
    assert {key: again[key] for key in ("id", "label", "read_only", "expires")} == {
        key: token[key] for key in ("id", "label", "read_only", "expires")
    }
    new = bearer(service, again["token"])
    for client in (old, new):
        await client.ok("GET", "domains")
    clock.now += 61
    assert (await old.refused("GET", "domains"))[:2] == INVALID
    await new.ok("GET", "domains")
    at_once = await root.ok("POST", f"token/{token['id']}/rotate")
    assert at_once["old_secret_until"] is None
    assert (await new.refused("GET", "domains"))[:2] == INVALID
    await bearer(service, at_once["token"]).ok("GET", "domains")
    for value in ("-1", "604801", "soon"):
        refused = await root.refused("POST", f"token/{token['id']}/rotate", overlap=value)
        assert refused == (400, "INVALID_NUMBER", ["overlap"])


@pytest.mark.stores("sqlite")
async def test_tokens_of_others_are_not_there(service: Service, root: Client) -> None:
    await domains(root, "ex.com")
    other = await service.admin_of("ex.com")
    token = await made(root)
    theirs = await made(other)
    for method, path in (
        ("GET", f"token/{token['id']}"),
        ("DELETE", f"token/{token['id']}"),
        ("POST", f"token/{token['id']}/rotate"),
        ("GET", "token/nonsense"),
        ("GET", "token/0123456789abcdef"),
    ):
        assert (await other.refused(method, path))[:2] == (404, "NO_SUCH_TOKEN")
    assert [item["id"] for item in await other.ok("GET", "tokens")] == [theirs["id"]]
    await bearer(service, token["token"]).ok("GET", "domains")


async def test_no_more_than_a_hundred(service: Service, root: Client) -> None:
    for _ in range(100):
        await made(root)
    assert (await root.refused("POST", "tokens", label="x"))[:2] == (409, "TOO_MANY_TOKENS")


# What it may --------------------------------------------------------------------------------------


async def test_read_only(service: Service, root: Client) -> None:
    """On every route: what reads passes, all else is refused, whoever the owner is."""
    await domains(root, "ex.com")
    client = bearer(service, (await made(root, readOnly="yes"))["token"])
    before = await root.ok("GET", "domain/ex.com", view="canonical")
    for route in routes(service.app):
        if route.action in permissions.PUBLIC:
            continue
        path = route.path.replace("{domain}", "ex.com").replace("{account}", "ex.com")
        path = path.replace("{mail}", "u@ex.com").replace("{new_mail}", "v@ex.com")
        path = path.replace("{direction}", "inbound").replace("{kind}", "blacklist")
        path = path.replace("{token_id}", "0" * 16).replace("{session_id}", "0" * 16)
        path = path.replace("{number}", "1").lstrip("/")
        form = {"params": {"q": "ex"}} if route.action is Action.SEARCH_READ else {}
        status, answer = await client.call(route.method, path, **form)
        if route.action in permissions.READING and route.action is not Action.SESSIONS_LIST:
            assert status in {200, 404, 501}, (route, answer)
        else:
            assert (status, answer["_msg"]) == DENIED, (route, answer)
        reads = route.action in permissions.READING or route.action.startswith("ldif.")
        assert (route.method == "GET") == reads, route
    assert await root.ok("GET", "domain/ex.com", view="canonical") == before


async def test_token_for_some_domains(service: Service, root: Client) -> None:
    """Of a global admin too it is a normal admin of these domains, and nothing else."""
    await domains(root, "a.com", "b.com", "c.com")
    client = bearer(service, (await made(root, domains="a.com,b.com"))["token"])
    me = await client.ok("GET", "whoami")
    assert (me["isglobaladmin"], me["managed_domains"]) == (0, ["a.com", "b.com"])
    assert me["may_create_domains"] == 0
    assert sorted(await client.ok("GET", "domains", name_only="yes")) == ["a.com", "b.com"]
    await client.ok("POST", "user/u@a.com", password=PASSWORD)
    for method, path in (
        ("GET", "domain/c.com"),
        ("POST", "user/u@c.com"),
        ("POST", "domain/d.com"),
        ("DELETE", "domain/a.com"),
        ("GET", f"admin/{ROOT}"),
        ("POST", "admin/new@admins.test"),
        ("GET", "spampolicy/global"),
        ("POST", "verify_password/user/u@a.com"),
    ):
        assert (await client.refused(method, path, password=PASSWORD))[:2] == DENIED, path
    for form in ({"isGlobalAdmin": "yes"}, {"maildir": "/var/vmail/vmail1/x/y"}):
        assert (await client.refused("PUT", "user/u@a.com", **form))[0] == 403


async def test_a_creators_token_for_a_domain_creates_none(service: Service, root: Client) -> None:
    await domains(root, "a.com")
    owner = await service.admin_of("a.com", maxDomains="5")
    whole = bearer(service, (await made(owner))["token"])
    await whole.ok("POST", "domain/b.com")
    part = bearer(service, (await made(owner, domains="a.com"))["token"])
    assert (await part.refused("POST", "domain/c.com"))[:2] == DENIED
    assert (await part.refused("DELETE", "domain/a.com"))[:2] == DENIED
    assert (await part.refused("GET", "domain/b.com"))[:2] == DENIED


async def test_networks(service: Service, root: Client) -> None:
    token = await made(root, networks="192.0.2.0/28,::ffff:198.51.100.1,2001:db8::/64")
    assert token["networks"] == ["192.0.2.0/28", "198.51.100.1", "2001:db8::/64"]
    for address in ("192.0.2.15", "198.51.100.1", "::ffff:192.0.2.1", "2001:db8::9"):
        await bearer(service, token["token"], address=address).ok("GET", "domains")
    for address in ("192.0.2.16", "198.51.100.2", "2001:db8:0:1::9", "127.0.0.1", "nonsense"):
        client = bearer(service, token["token"], address=address)
        status, code, _ = await client.refused("GET", "domains")
        assert (status, code) == (403, "NOT_ALLOWED_IP"), address


@pytest.mark.parametrize("name", ["admin_login_ip_list", "global_admin_ip_list"])
async def test_the_panels_lists_hold_for_tokens(service: Service, root: Client, name: str) -> None:
    secret = (await made(root))["token"]
    await panel(service, name, ["192.0.2.1"])
    await bearer(service, secret, address="192.0.2.1").ok("GET", "domains")
    refused = await bearer(service, secret).refused("GET", "domains")
    assert refused[:2] == (403, "NOT_ALLOWED_IP")


# Never wider --------------------------------------------------------------------------------------


LIMITS: list[dict[str, str]] = [
    {"days": "10"}, {"networks": "127.0.0.0/8"}, {"domains": "a.com"}, {"readOnly": "yes"},
]  # fmt: skip
LIMITED = (403, "LIMITED_TOKEN")


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_lesson_13_a_limited_token_makes_none(
    service: Service, root: Client, limit: dict[str, str]
) -> None:
    """It would work on after the first one was revoked. Nor does it learn the secret of another."""
    await domains(root, "a.com")
    alias_address, token = await made(root, **limit), await made(root, **limit)
    client = bearer(service, token["token"])
    code = DENIED if "readOnly" in limit else LIMITED
    for form in ({}, limit, {"days": "1", "networks": "127.0.0.1"}):
        assert (await client.refused("POST", "tokens", label="x", **form))[:2] == code
    assert (await client.refused("POST", f"token/{alias_address['id']}/rotate"))[:2] == code
    if code == LIMITED:
        again = await client.ok("POST", f"token/{token['id']}/rotate")
        await bearer(service, again["token"]).ok("GET", "domains")
    # One without limits makes any.
    whole = bearer(service, (await made(root))["token"])
    child = await made(whole, **limit)
    await bearer(service, child["token"]).ok("GET", "domains")


@pytest.mark.parametrize("limit", LIMITS[:3], ids=str)
async def test_a_limited_token_makes_no_admin(
    service: Service, root: Client, limit: dict[str, str]
) -> None:
    """Nor does it give one more rights, or a password that is known afterwards."""
    await domains(root, "a.com", "b.com")
    for name in ("plain", "deputy", "chief", "asleep"):
        await root.ok("POST", f"user/{name}@a.com", password=PASSWORD)
    for name in ("deputy", "asleep"):
        await root.ok("PUT", "domain/admins/a.com", addAdmin=f"{name}@a.com")
    await root.ok("PUT", "user/asleep@a.com", accountStatus="disabled")
    await root.ok("PUT", "user/chief@a.com", isGlobalAdmin="yes")
    await root.ok("POST", "user/marked@a.com", password=PASSWORD)
    await mark_admin(service, "marked@a.com")
    await root.ok("POST", "admin/x@admins.test", password=PASSWORD)
    client = bearer(service, (await made(root, **limit))["token"])
    new = {"password": "N3w-Password"}
    hashed = {"password_hash": hash_password("N3w-Password", Scheme.SSHA)}
    whole = "domains" not in limit
    for method, path, form in (
        ("PUT", "domain/admins/a.com", {"addAdmin": "plain@a.com"}),
        ("PUT", "domain/admins/a.com", {"addAdmin": ROOT, "removeAdmin": "deputy@a.com"}),
        ("PUT", "user/plain@a.com", {"isGlobalAdmin": "yes"}),
        ("PUT", "user/deputy@a.com", {"domainGlobalAdmin": "yes"}),
        ("PUT", "user/deputy@a.com", new),
        ("PUT", "user/deputy@a.com", hashed),
        ("PUT", "user/marked@a.com", new),
        ("PUT", "user/asleep@a.com", {"accountStatus": "active"}),
        ("POST", "user/new@a.com", new | {"isGlobalAdmin": "yes"}),
        *((("PUT", "user/chief@a.com", new),) if whole else ()),
        *((("PUT", "user/chief@a.com", hashed | {"name": "X"}),) if whole else ()),
        *((("POST", "admin/new@admins.test", new),) if whole else ()),
        *((("PUT", "admin/x@admins.test", new),) if whole else ()),
        *((("PUT", f"admin/{ROOT}", new),) if whole else ()),
        *((("PUT", "admin/x@admins.test", {"isGlobalAdmin": "yes"}),) if whole else ()),
        *((("PUT", "admin/x@admins.test", {"accountStatus": "active"}),) if whole else ()),
        *((("PUT", "admin/x@admins.test", {"maxDomains": "0"}),) if whole else ()),
    ):
        assert (await client.refused(method, path, **form))[:2] == LIMITED, (method, path, form)
    for name in ("plain", "deputy", "chief", "asleep"):
        await root.ok("POST", f"verify_password/user/{name}@a.com", password=PASSWORD)
    # All users at once: admins are left out, and named.
    answer = await client.ok("PUT", "users/a.com", accountStatus="active", **new)
    named = {item["value"] for item in answer["_skipped"]}
    assert named == {"deputy@a.com", "chief@a.com", "asleep@a.com", "marked@a.com"}
    await root.ok("POST", "verify_password/user/plain@a.com", **new)
    assert (await root.ok("GET", "user/asleep@a.com", view="canonical"))[
        "accountStatus"
    ] != "active"


async def test_what_a_limited_token_may(service: Service, root: Client) -> None:
    """Its daily work, and to take rights away."""
    await domains(root, "a.com")
    await root.ok("POST", "user/deputy@a.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/a.com", addAdmin="deputy@a.com")
    await root.ok("POST", "admin/x@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    client = bearer(service, (await made(root, days="10"))["token"])
    for method, path, form in (
        ("POST", "domain/new.com", {}),
        ("POST", "user/u@a.com", {"password": PASSWORD, "isGlobalAdmin": "no"}),
        ("PUT", "user/u@a.com", {"password": "N3w-Password", "accountStatus": "active"}),
        ("PUT", "user/deputy@a.com", {"name": "D", "quota": "10", "accountStatus": "active"}),
        ("PUT", "user/deputy@a.com", {"isGlobalAdmin": "no", "accountStatus": "disabled"}),
        ("PUT", "domain/admins/a.com", {"removeAdmin": "deputy@a.com"}),
        ("PUT", "admin/x@admins.test", {"name": "X", "language": "de_DE"}),
        ("PUT", "admin/x@admins.test", {"isGlobalAdmin": "no", "accountStatus": "disabled"}),
        ("DELETE", "admin/x@admins.test", {}),
    ):
        await client.ok(method, path, **form)


async def test_hashes_are_not_for_limited_tokens(store: Store, root: Client) -> None:
    """A password that is guessed from one outlives the token."""
    await domains(root, "a.com")
    await root.ok("POST", "user/u@a.com", password=PASSWORD)
    async with serving(store, hidden_user_fields="", hidden_admin_fields="") as service:
        for form, shown in (({}, True), ({"days": "10"}, False)):
            client = bearer(service, (await made(root, **form))["token"])
            for path in ("user/u@a.com", f"admin/{ROOT}"):
                profile = await client.ok("GET", path)
                assert (bool({"password", "userPassword"} & profile.keys())) is shown
            if store.name == "openldap":
                for path in ("ldif/user/u@a.com", f"ldif/admin/{ROOT}"):
                    text = (await client.http.get(path)).text
                    assert ("userPassword" in text) is shown


async def test_lesson_13_a_token_touches_no_wider_one(service: Service, root: Client) -> None:
    """Neither to have a secret of it by rotation, nor to end it."""
    await domains(root, "a.com", "b.com")
    wide = await made(root)
    other = await made(root, domains="b.com")
    client = bearer(service, (narrow := await made(root, domains="a.com"))["token"])
    for token in (wide, other):
        for method, path in (("POST", "/rotate"), ("DELETE", ""), ("GET", "")):
            refused = await client.refused(method, f"token/{token['id']}{path}")
            assert refused[:2] == (404, "NO_SUCH_TOKEN")
    assert [item["id"] for item in await client.ok("GET", "tokens")] == [narrow["id"]]
    rotated = await client.ok("POST", f"token/{narrow['id']}/rotate")
    assert rotated["domains"] == ["a.com"]


async def test_a_normal_admin_cannot_have_more(service: Service, root: Client) -> None:
    await domains(root, "a.com", "b.com")
    owner = await service.admin_of("a.com")
    assert await owner.refused("POST", "tokens", label="x", domains="a.com,b.com") == (
        403, "PERMISSION_DENIED", ["domains"],
    )  # fmt: skip
    # Foreign and missing look alike.
    assert (await owner.refused("POST", "tokens", label="x", domains="no.com"))[0] == 403


async def test_rights_are_those_of_now(service: Service, root: Client) -> None:
    await domains(root, "a.com", "b.com")
    owner = await service.admin_of("a.com", "b.com", mail="x@admins.test")
    whole = bearer(service, (await made(owner))["token"])
    part = bearer(service, (await made(owner, domains="a.com"))["token"])
    for client in (whole, part):
        await client.ok("GET", "domain/a.com")
    await root.ok("PUT", "domain/admins/a.com", removeAdmin="x@admins.test")
    for client in (whole, part):
        assert (await client.refused("GET", "domain/a.com"))[:2] == DENIED
    await whole.ok("GET", "domain/b.com")


# What ends it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun, mail", [("admin", "g@admins.test"), ("user", "g@ex.com")])
async def test_lesson_14_demoted_for_good(
    service: Service, root: Client, noun: str, mail: str
) -> None:
    await domains(root, "ex.com")
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    secret = (await made(await service.client().login(mail)))["token"]
    await bearer(service, secret).ok("GET", "domains")
    await root.ok("PUT", f"{noun}/{mail}", isGlobalAdmin="no")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await root.ok("PUT", f"{noun}/{mail}", isGlobalAdmin="yes")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID


async def test_lesson_14_demoted_by_another_program(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/g@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    secret = (await made(await service.client().login("g@admins.test")))["token"]
    await mark_global(service, "g@admins.test", yes=False)
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await mark_global(service, "g@admins.test", yes=True)
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID


async def test_a_disabled_owner(service: Service, root: Client) -> None:
    """The token sleeps; it needs no new one afterwards."""
    await root.ok("POST", "admin/g@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    secret = (await made(await service.client().login("g@admins.test")))["token"]
    await root.ok("PUT", "admin/g@admins.test", accountStatus="disabled")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await root.ok("PUT", "admin/g@admins.test", accountStatus="active")
    await bearer(service, secret).ok("GET", "domains")


@pytest.mark.parametrize("noun, mail", [("admin", "g@admins.test"), ("user", "g@ex.com")])
async def test_a_new_password_ends_tokens(
    service: Service, root: Client, noun: str, mail: str
) -> None:
    """Who had the old one may have made them: whatever program it was changed with."""
    await domains(root, "ex.com")
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    owner = await service.client().login(mail)
    secret = (await made(owner))["token"]
    await root.ok("PUT", f"{noun}/{mail}", name="New", language="de_DE")
    await bearer(service, secret).ok("GET", "domains")
    await root.ok("PUT", f"{noun}/{mail}", password="N3w-Password")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    assert await service.store.rows("SELECT * FROM tokens", "state") == []
    secret = (await made(await service.client().login(mail, "N3w-Password")))["token"]
    await set_hash(service, mail, hash_password(PASSWORD, Scheme.SSHA))
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    # A session that is still believed for a second makes no token for the new password either.
    assert (await owner.refused("POST", "tokens", label="x"))[:2] == (401, "LOGIN_REQUIRED")


async def test_tokens_of_earlier_versions_and_of_a_setting(store: Store, root: Client) -> None:
    await root.ok("POST", "admin/g@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    async with serving(store, tokens_outlive_password=True) as service:
        owner = await service.client().login("g@admins.test")
        secret = (await made(owner))["token"]
        root_here = await service.client().login()
        await root_here.ok("PUT", "admin/g@admins.test", password="N3w-Password")
        await bearer(service, secret).ok("GET", "domains")
    # As a version wrote it that did not know the password: it is bound at its next use.
    await store.execute("UPDATE tokens SET credential = NULL", "state")
    async with serving(store) as service:
        await bearer(service, secret).ok("GET", "domains")
        await set_hash(service, "g@admins.test", hash_password(PASSWORD, Scheme.SSHA))
        assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID


async def test_a_deleted_owner(service: Service, root: Client) -> None:
    """A later admin of that name inherits nothing, not even one that came in the same second."""
    new = {"password": PASSWORD, "isGlobalAdmin": "yes"}
    await root.ok("POST", "admin/g@admins.test", **new)
    secret = (await made(await service.client().login("g@admins.test")))["token"]
    await root.ok("DELETE", "admin/g@admins.test")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await root.ok("POST", "admin/g@admins.test", **new)
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    assert await service.store.rows("SELECT * FROM tokens", "state") == []
    client = await service.client().login("g@admins.test")
    assert await client.ok("GET", "tokens") == []


async def test_a_later_account_of_other_programs(service: Service, root: Client) -> None:
    """It is told from the earlier one by its birth, even with the same hash."""
    await write_again(service, "g@admins.test", datetime(2020, 1, 1, 1, 1, 1))
    client = await service.client().login("g@admins.test")
    secret = (await made(client))["token"]
    await bearer(service, secret).ok("GET", "domains")
    await client.ok("GET", "domains")
    await write_again(service, "g@admins.test", datetime(2020, 1, 2, 1, 1, 1))
    service.context.invalidate_caches()
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    assert (await client.refused("GET", "domains"))[:2] == (401, "LOGIN_REQUIRED")
    await service.client().login("g@admins.test")


@pytest.mark.sql_only("rows of old programs have no time of creation; every entry in LDAP has one")
async def test_a_later_account_without_a_birth(service: Service, root: Client) -> None:
    """It is told from the earlier one by its password."""
    never = datetime(1970, 1, 1, 1, 1, 1)
    await write_again(service, "g@admins.test", never)
    secret = (await made(await service.client().login("g@admins.test")))["token"]
    await bearer(service, secret).ok("GET", "domains")
    await service.store.execute(
        "UPDATE admin SET password = :hash WHERE username = 'g@admins.test'",
        hash=hash_password(PASSWORD),
    )
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID


async def test_a_renamed_owner(service: Service, root: Client) -> None:
    await domains(root, "ex.com")
    await root.ok("POST", "user/g@ex.com", password=PASSWORD, isGlobalAdmin="yes")
    secret = (await made(await service.client().login("g@ex.com")))["token"]
    await root.ok("PUT", "user/g@ex.com/change_email/h@ex.com")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await root.ok("POST", "user/g@ex.com", password=PASSWORD, isGlobalAdmin="yes")
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID


async def test_lesson_16_a_deleted_domain_makes_no_token_wide(
    service: Service, root: Client
) -> None:
    await domains(root, "a.com", "b.com")
    only = await made(root, domains="a.com")
    both = await made(root, domains="a.com,b.com")
    all_of_them = await made(root)
    await root.ok("DELETE", "domain/a.com")
    assert (await bearer(service, only["token"]).refused("GET", "domains"))[:2] == INVALID
    shown = {item["id"]: item for item in await root.ok("GET", "tokens")}
    assert (shown[only["id"]]["status"], shown[only["id"]]["domains"]) == ("disabled", [])
    assert (shown[both["id"]]["status"], shown[both["id"]]["domains"]) == ("active", ["b.com"])
    await bearer(service, all_of_them["token"]).ok("GET", "domains")
    # A later domain of that name is somebody else's.
    await root.ok("POST", "domain/a.com")
    assert (await bearer(service, only["token"]).refused("GET", "domains"))[:2] == INVALID
    assert (await bearer(service, both["token"]).refused("GET", "domain/a.com"))[:2] == DENIED


async def test_a_deleted_domain_ends_what_its_accounts_had(service: Service, root: Client) -> None:
    await domains(root, "ex.com", "not-ex.com")
    for mail in ("g@ex.com", "g@not-ex.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    gone = await service.client().login("g@ex.com")
    secret = (await made(gone))["token"]
    stays = await service.client().login("g@not-ex.com")
    kept = (await made(stays))["token"]
    await root.ok("DELETE", "domain/ex.com")
    owners = await service.store.rows("SELECT owner FROM tokens", "state")
    assert owners == [{"owner": "g@not-ex.com"}]
    names = await service.store.rows("SELECT username FROM sessions", "state")
    assert {row["username"] for row in names} == {ROOT, "g@not-ex.com"}
    assert (await bearer(service, secret).refused("GET", "domains"))[:2] == INVALID
    await bearer(service, kept).ok("GET", "domains")
    await stays.ok("GET", "domains")


# Sessions -----------------------------------------------------------------------------------------


async def test_own_sessions(service: Service, root: Client) -> None:
    other = await service.client(address="192.0.2.9").login()
    await domains(root, "ex.com")
    stranger = await service.admin_of("ex.com")
    listed = await root.ok("GET", "sessions")
    mine = {item["client"]: item for item in listed}
    assert mine["192.0.2.9"]["current"] == 0
    assert sum(item["current"] for item in listed) == 1
    for cookie in root.http.cookies.jar:
        assert str(cookie.value) not in json.dumps(listed)
    name = mine["192.0.2.9"]["id"]
    for path in (f"session/{name}", "session/%25", "session/" + "0" * 16, "session/______________"):
        assert (await stranger.refused("DELETE", path))[:2] == (404, "NO_SUCH_SESSION")
    await other.ok("GET", "domains")
    await root.ok("DELETE", f"session/{name}")
    assert (await other.refused("GET", "domains"))[:2] == (401, "LOGIN_REQUIRED")
    assert (await root.refused("DELETE", f"session/{name}"))[:2] == (404, "NO_SUCH_SESSION")
    await root.ok("GET", "domains")


async def test_all_other_sessions(service: Service, root: Client) -> None:
    others = [await service.client().login() for _ in range(3)]
    await domains(root, "ex.com")
    stranger = await service.admin_of("ex.com")
    await others[0].ok("DELETE", "sessions")
    await others[0].ok("GET", "domains")
    for client in others[1:]:
        assert (await client.refused("GET", "domains"))[:2] == (401, "LOGIN_REQUIRED")
    await stranger.ok("GET", "domains")
    assert len(await others[0].ok("GET", "sessions")) == 1


async def test_a_token_does_not_touch_sessions(service: Service, root: Client) -> None:
    client = bearer(service, (await made(root))["token"])
    name = (await root.ok("GET", "sessions"))[0]["id"]
    for method, path in (
        ("GET", "sessions"), ("DELETE", "sessions"), ("DELETE", f"session/{name}"),
    ):  # fmt: skip
        assert (await client.refused(method, path))[:2] == DENIED
    await root.ok("GET", "domains")


@pytest.mark.parametrize(
    "form", [{"password": "N3w-Password"}, {"accountStatus": "disabled"}, {"isGlobalAdmin": "no"}]
)
@pytest.mark.parametrize("noun, mail", [("admin", "g@admins.test"), ("user", "g@ex.com")])
async def test_lesson_38_no_session_is_left_in_the_database(
    service: Service, root: Client, noun: str, mail: str, form: dict[str, str]
) -> None:
    """Not only that it is refused when it comes: its row is gone, and so is a deleted admin's."""
    await domains(root, "ex.com")
    await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
    await service.client().login(mail)
    rows = "SELECT * FROM sessions WHERE username = :m"
    assert len(await service.store.rows(rows, "state", m=mail)) == 1
    await root.ok("PUT", f"{noun}/{mail}", name="New")
    assert len(await service.store.rows(rows, "state", m=mail)) == 1
    await root.ok("PUT", f"{noun}/{mail}", **form)
    assert await service.store.rows(rows, "state", m=mail) == []


@pytest.mark.parametrize(
    "sent, code, words",
    [
        ([], "LOGIN_REQUIRED", "No session, or it has ended: log in."),
        (["Basic dTpwdw=="], "LOGIN_REQUIRED", "the scheme Basic"),
        (["s3cret"], "LOGIN_REQUIRED", "not of the form Bearer TOKEN"),
        (["Key s3cret"], "LOGIN_REQUIRED", "not of the form Bearer TOKEN"),
        ([f"{PREFIX}s3cret"], "LOGIN_REQUIRED", "without the word Bearer"),
        (["Bearer"], "INVALID_TOKEN", "no token after the word Bearer"),
        (["Bearer s3cret"], "INVALID_TOKEN", f"they begin with {PREFIX}"),
        ([f"Bearer {PREFIX}{'s' * 43} more"], "INVALID_TOKEN", f"they begin with {PREFIX}"),
        ([f"Bearer {PREFIX}{'s' * 43}"] * 2, "INVALID_TOKEN", "several Authorization headers"),
        ([f"Bearer {PREFIX}{'s' * 43}"], "INVALID_TOKEN", "unknown, expired or revoked"),
    ],
)
async def test_a_malformed_header_is_told_from_a_missing_session(
    service: Service, sent: list[str], code: str, words: str
) -> None:
    headers = [("Authorization", value) for value in sent]
    response = await service.client().http.get("domains", headers=headers)
    answer = response.json()
    assert (response.status_code, answer["_msg"]) == (401, code)
    assert words in answer["_detail"]
    assert "s3cret" not in response.text
    assert "s3cret" not in str(response.headers)
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="iredapi"')
    error = "" if not sent else "invalid_token" if "unknown" in words else "invalid_request"
    assert (f'error="{error}"' in challenge) == bool(error)


async def test_every_401_says_how_to_authenticate(service: Service, root: Client) -> None:
    """A wrong password too; a session beside a header for a proxy in front is enough."""
    refused = await service.client().http.post("login", data={"username": ROOT, "password": "no"})
    assert (refused.status_code, refused.json()["_msg"]) == (401, "INVALID_CREDENTIALS")
    assert refused.headers["www-authenticate"] == 'Bearer realm="iredapi"'
    allowed = await root.http.get("domains", headers={"Authorization": "Basic dTpwdw=="})
    assert (allowed.status_code, "www-authenticate" in allowed.headers) == (200, False)
    async with serving(service.store, always_200=True) as old:
        answer = await old.client().http.get("domains")
        assert (answer.status_code, "www-authenticate" in answer.headers) == (200, False)
