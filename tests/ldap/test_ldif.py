"""LDIF export over HTTP, and import of it with OpenLDAP's tools."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from iredapi.web import responses
from iredapi.workflows.admins import create_admin
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.histories import HASH
from tests.servers.openldap import ROOT_DN, SUFFIX, account_dn, domain_dn
from tests.servers.store import Store
from tests.unit.test_ldif import parse

pytestmark = pytest.mark.stores("openldap")
EXPORTS = (
    "domain/ex.com",
    "catchall/ex.com",
    "user/u@ex.com",
    "user/odd#x&y@ex.com",
    "alias/team@ex.com",
    "maillist/list@ex.com",
    "maillist/ml@ex.com",
    "admin/one@admins.org",
)


async def arrange(root: Client, store: Store) -> None:
    await root.ok("POST", "domain/ex.com", name="Dömain", quota="2048", language="de_DE")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com", disableUserProfile="bcc,relay")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, name=" Ünï: <x> ", quota="5")
    await root.ok("PUT", "user/u@ex.com", gn=":", sn="<", mobile="+1 2,+3 4", addAlias="a@ex.com",
                  employeeid="x" * 200, addForwarding="far@far.org")  # fmt: skip
    async with serving(store, auth_username_chars="") as lenient:
        path = "user/odd%23x&y@ex.com"
        await (await lenient.root()).ok("POST", path, password_hash=HASH)
    await root.ok("POST", "alias/team@ex.com", members="u@ex.com,far@far.org")
    await root.ok("POST", "maillist/list@ex.com", members="u@ex.com,far@far.org")
    await root.ok("PUT", "domain/ex.com", catchall="u@ex.com")
    await root.ok("POST", "admin/one@admins.org", password=PASSWORD, maxUsers="4")
    store.directory.add(
        account_dn("ml@ex.com", "Groups"),
        {
            "objectClass": "mailList",
            "mail": "ml@ex.com",
            "accountStatus": "active",
            "enabledService": ["mail", "deliver", "mlmmj"],
        },
    )


@pytest_asyncio.fixture(loop_scope="session")
async def unhidden(store: Store) -> AsyncIterator[Service]:
    """A server that shows hashes to global admins."""
    async with serving(
        store, hidden_user_fields="", hidden_admin_fields="", auth_username_chars=""
    ) as service:
        await arrange(await service.root(), store)
        yield service


def _path(item: str) -> str:
    return "ldif/" + item.replace("#", "%23")


async def test_it_loads_and_exports_identically(
    unhidden: Service, store: Store, tmp_path: Path
) -> None:
    """Loaded into a server that has only the parent entries."""
    root, directory = await unhidden.root(), store.directory
    texts = {item: await root.ok("GET", _path(item)) for item in EXPORTS}
    entries = {item: {dn: directory.entry(dn) for dn, _ in parse(texts[item])} for item in EXPORTS}
    assert len(parse(texts["domain/ex.com"])) == 5
    assert len(parse(texts["maillist/list@ex.com"])) == 2
    for item in EXPORTS:
        kind = item.partition("/")[0]
        directory.reset()
        # The admin of the session is in the directory too.
        await create_admin(unhidden.context, "root@admins.test", PASSWORD)
        if kind not in {"domain", "admin"}:
            _load(store, tmp_path, texts["domain/ex.com"])
        _load(store, tmp_path, texts[item])
        again = {dn: directory.entry(dn) for dn in entries[item]}
        assert again == entries[item], item
        client = await unhidden.client().login()
        assert await client.ok("GET", _path(item)) == texts[item]
    assert any("userPassword" in text for text in texts.values())


def _load(store: Store, directory: Path, text: str) -> None:
    """Check a file with ``slapadd -u``, which writes nothing, and read it with ``ldapadd``."""
    server, file, secret = store.directory, directory / "in.ldif", directory / "secret"
    file.write_text(text, encoding="ascii")
    secret.write_text(server.root_password, encoding="ascii")
    config = ["-f", str(server.directory / "config" / "slapd.generated"), "-b", SUFFIX]
    for command in (
        ["slapadd", "-u", *config, "-l", str(file)],
        ["ldapadd", "-x", "-H", server.uri, "-D", ROOT_DN, "-y", str(secret), "-f", str(file)],
    ):
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert done.returncode == 0, done.stderr + text


async def test_form(unhidden: Service) -> None:
    root = await unhidden.root()
    text = await root.ok("GET", "ldif/user/u@ex.com")
    ((dn, pairs),) = parse(text)
    assert dn.lower() == account_dn("u@ex.com").lower()
    names = [name for name, _ in pairs]
    rest = [name for name in names if name != "objectClass"]
    assert names[: len(names) - len(rest)] == ["objectClass"] * (len(names) - len(rest))
    assert rest == sorted(rest, key=str.lower)
    assert ("givenName", b":") in pairs
    assert ("mailQuota", b"5242880") in pairs
    # Only attributes of users.
    assert not {"entryUUID", "entryCSN", "creatorsName"} & set(names)
    domains = [dn for dn, _ in parse(await root.ok("GET", "ldif/domain/ex.com"))]
    assert domains[0].lower() == domain_dn("ex.com").lower()
    assert {dn.partition(",")[0] for dn in domains[1:]} == {
        "ou=Aliases", "ou=Externals", "ou=Groups", "ou=Users",
    }  # fmt: skip


@pytest.mark.parametrize(
    "accept,kind",
    [
        ("text/plain", "text/plain"),
        ("text/ldif", "text/ldif"),
        ("text/plain, text/ldif", "text/ldif"),
        ("text/ldif;q=0.5, text/plain;q=0.7", "text/plain"),
        ("text/html, text/plain;q=0.5", "text/plain"),
        ("application/json;q=0.4, text/plain;q=0.5", "text/plain"),
        ("application/json, text/plain", ""),
        ("application/json", ""),
        ("text/html, */*", ""),
        ("text/*", ""),
        ("text/plain;q=0", ""),
        ("text/plain;q=x", ""),
        ("", ""),
    ],
)
async def test_as_a_file(unhidden: Service, accept: str, kind: str) -> None:
    root = await unhidden.root()
    text = await root.ok("GET", "ldif/user/u@ex.com")
    response = await root.http.get("ldif/user/u@ex.com", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["vary"] == "Accept"
    if not kind:
        assert response.json() == {"_success": True, "_data": text}
        return
    assert response.text == text
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="u@ex.com.ldif"'
    # An error is JSON.
    response = await root.http.get("ldif/user/no@ex.com", headers={"Accept": accept})
    assert (response.status_code, response.json()["_msg"]) == (404, "NO_SUCH_ACCOUNT")


def test_names_of_files_are_plain() -> None:
    response = responses.download(iter(()), "text/plain", 'a"b\\c;é@ex.com.ldif')
    disposition = response.headers["content-disposition"]
    assert disposition == 'attachment; filename="a_b_c__@ex.com.ldif"'


async def test_hashes_are_hidden(root: Client, service: Service, store: Store) -> None:
    """By default for all admins; if not hidden, only for normal admins."""
    await arrange(root, store)
    for item in EXPORTS:
        assert "userPassword" not in await root.ok("GET", _path(item)), item
    async with serving(store, hidden_user_fields="", hidden_admin_fields="") as other:
        shown = await (await other.root()).ok("GET", "ldif/user/u@ex.com")
        assert "userPassword" in shown
        assert "userPassword" in await (await other.root()).ok("GET", "ldif/admin/one@admins.org")
        admin = await other.admin_of("ex.com")
        assert "userPassword" not in await admin.ok("GET", "ldif/user/u@ex.com")
    async with serving(store, hidden_user_fields="userPassword,MOBILE") as other:
        shown = await (await other.root()).ok("GET", "ldif/user/u@ex.com")
        assert "mobile" not in shown


async def test_missing_accounts(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password_hash=HASH)
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    for item in ("catchall/ex.com", "user/no@ex.com", "alias/u@ex.com", "maillist/u@ex.com",
                 "user/u@no.com", "admin/u@ex.com", "catchall/no.com"):  # fmt: skip
        assert await root.refused("GET", f"ldif/{item}") == (404, "NO_SUCH_ACCOUNT", []), item
    for item in ("domain/no.com", "domain/al.com"):
        assert await root.refused("GET", f"ldif/{item}") == (404, "NO_SUCH_DOMAIN", []), item
    assert (await root.refused("GET", "ldif/user/*@ex.com"))[0] in {400, 404}
    assert (await root.refused("GET", "ldif/nothing/u@ex.com"))[0] == 404


async def test_normal_admins(root: Client, service: Service, store: Store) -> None:
    await arrange(root, store)
    await root.ok("POST", "domain/other.com")
    admin = await service.admin_of("ex.com")
    for item in EXPORTS:
        if item.startswith("admin/"):
            assert (await admin.refused("GET", f"ldif/{item}"))[1] == "PERMISSION_DENIED"
        else:
            await admin.ok("GET", _path(item))
    for item in ("domain/other.com", "user/u@other.com", "catchall/other.com"):
        assert (await admin.refused("GET", f"ldif/{item}"))[1] == "PERMISSION_DENIED"
