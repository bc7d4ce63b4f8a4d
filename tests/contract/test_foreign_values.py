"""Values that columns hold and this service never writes: other flags, and huge numbers."""

from __future__ import annotations

import pytest

from tests.clients import PASSWORD, Client, Service
from tests.servers.store import Store

LARGEST = 2**63 - 1


async def _arrange(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com", catchall="c@far.org")
    for mail in ("u@ex.com", "v@ex.com"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD, quota="1")
    await root.ok("POST", "alias/list@ex.com", members="u@ex.com")
    await root.ok("POST", "ml/news@ex.com")
    await root.ok("POST", "admin/a@admins.test", password=PASSWORD)
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="a@admins.test,v@ex.com")


ACCOUNTS = {
    "domain/ex.com": ("domain", "domain = 'ex.com'", "domains"),
    "user/u@ex.com": ("mailbox", "username = 'u@ex.com'", "users/ex.com"),
    "alias/list@ex.com": ("alias", "address = 'list@ex.com'", "aliases/ex.com"),
    "ml/news@ex.com": ("maillists", "address = 'news@ex.com'", "mls/ex.com"),
    "admin/a@admins.test": ("admin", "username = 'a@admins.test'", "admins"),
}


@pytest.mark.sql_only("columns with numbers; in LDAP a status is a word")
@pytest.mark.parametrize("flag", [2, -1])
async def test_only_one_is_active(service: Service, root: Client, flag: int) -> None:
    """The daemons ask for ``active = 1``: what has another number is off, and can be put on."""
    await _arrange(root)
    for path, (table, where, list_path) in ACCOUNTS.items():
        await service.store.execute(f"UPDATE {table} SET active = {flag} WHERE {where}")
        service.context.invalidate_caches()
        name = path.partition("/")[2]
        shown = await root.ok("GET", path, view="canonical")
        assert shown["accountStatus"] == "disabled", path
        if table != "maillists":
            assert (await root.ok("GET", path))["accountStatus"] == "disabled", path
        if table not in ("admin", "maillists"):
            listed = await root.ok("GET", list_path, disabled_only="yes", email_only="yes")
            listed = (
                listed
                if table != "domain"
                else [
                    item["domain"] for item in await root.ok("GET", list_path, disabled_only="yes")
                ]
            )
            assert name in listed, path
        before = await _flag(service.store, table, where)
        await root.ok("PUT", path, name="Other name")
        assert await _flag(service.store, table, where) == before == flag
        await root.ok("PUT", path, accountStatus="active")
        assert await _flag(service.store, table, where) == 1, path
        assert (await root.ok("GET", path, view="canonical"))["accountStatus"] == "active"


async def _flag(store: Store, table: str, where: str) -> int:
    value: int = (await store.rows(f"SELECT active FROM {table} WHERE {where}"))[0]["active"]
    return value


@pytest.mark.sql_only("columns with numbers; in LDAP a status is a word")
@pytest.mark.parametrize("flag", [2, -1])
async def test_rights_need_a_one(service: Service, root: Client, flag: int) -> None:
    """iRedAdmin asks for 1, too: nobody logs in or is global by another number."""
    await _arrange(root)
    store = service.store
    await store.execute(f"UPDATE mailbox SET isglobaladmin = {flag} WHERE username = 'v@ex.com'")
    reader = await service.client().login("v@ex.com")
    assert (await reader.ok("GET", "whoami"))["isglobaladmin"] == 0
    assert (await root.ok("GET", "user/v@ex.com"))["isglobaladmin"] == 0
    await store.execute("UPDATE mailbox SET isadmin = 1 WHERE username = 'v@ex.com'")
    listed = {item["mail"]: item for item in await root.ok("GET", "admins")}
    assert listed["v@ex.com"]["isGlobalAdmin"] == "no", listed["v@ex.com"]
    await store.execute(f"UPDATE mailbox SET active = {flag} WHERE username = 'v@ex.com'")
    await store.execute(f"UPDATE admin SET active = {flag} WHERE username = 'a@admins.test'")
    service.context.invalidate_caches()
    for mail in ("v@ex.com", "a@admins.test"):
        sent = {"username": mail, "password": PASSWORD}
        assert (await service.client().refused("POST", "login", **sent))[0] in (401, 403), mail
    await root.ok("PUT", "user/v@ex.com", accountStatus="active", isGlobalAdmin="yes")
    reader = await service.client().login("v@ex.com")
    assert (await reader.ok("GET", "whoami"))["isglobaladmin"] == 1


@pytest.mark.sql_only("columns that hold any number; LDAP has words")
async def test_other_switches_need_a_one(service: Service, root: Client) -> None:
    """An alias domain and a backup MX domain by a 2 are none; each can be made one."""
    await _arrange(root)
    store = service.store
    await store.execute("UPDATE alias_domain SET active = 2")
    await store.execute("UPDATE domain SET backupmx = 2, transport = 'relay:'")
    service.context.invalidate_caches()
    assert (await root.ok("GET", "domain/ex.com", view="canonical"))["is_backupmx"] == "no"
    found = await root.ok("GET", "alias_domains")
    assert [item["accountStatus"] for item in found] == ["disabled"], found
    await root.ok("PUT", "domain/ex.com", is_backupmx="yes", addAliasDomain="al.com")
    rows = await store.rows("SELECT backupmx FROM domain")
    assert [row["backupmx"] for row in rows] == [1]
    assert [row["active"] for row in await store.rows("SELECT active FROM alias_domain")] == [1]


@pytest.mark.sql_only("columns that hold any number; LDAP has words")
async def test_sums_of_huge_limits(service: Service, root: Client) -> None:
    """The limits of an admin's domains are summed up, too."""
    await _arrange(root)
    await root.ok("POST", "domain/far.com")
    await root.ok("PUT", "domain/admins/far.com", addAdmin="a@admins.test")
    await service.store.execute(f"UPDATE domain SET maxquota = {LARGEST}")
    found = await root.ok("GET", "admins", view="canonical")
    assert [item["usedQuota"] for item in found if item["mail"] == "a@admins.test"] == [LARGEST]


async def test_sums_of_huge_numbers(service: Service, root: Client) -> None:
    """Dovecot's dictionary and other programs may store what does not fit in a sum."""
    await _arrange(root)
    store = service.store
    if store.openldap is None:
        await store.execute(f"UPDATE mailbox SET quota = {LARGEST}")
        await store.execute(f"UPDATE domain SET maxquota = {LARGEST}")
    for mail in ("u@ex.com", "v@ex.com"):
        row = {"username": mail, "domain": "ex.com", "bytes": LARGEST, "messages": LARGEST}
        await store.insert("used_quota", row, database=store.accounts)
    service.context.invalidate_caches()
    for path in (
        "domain/ex.com",
        "domains",
        "admins",
        "users/ex.com",
        "user/u@ex.com",
        "usage/ex.com",
    ):
        await root.ok("GET", path)
        if not path.startswith("usage"):
            await root.ok("GET", path, view="canonical")
    used = [item for item in await root.ok("GET", "usage") if item["domain"] == "ex.com"]
    assert used[0]["stored_bytes"] == LARGEST
    if store.openldap is None:
        assert (await root.ok("GET", "domain/ex.com"))["allocated_quota"] == LARGEST
        full = {"password": PASSWORD, "quota": "5"}
        status, code, _ = await root.refused("POST", "user/w@ex.com", **full)
        assert (status, code) == (409, "EXCEEDED_DOMAIN_QUOTA_SIZE")
        await root.ok("PUT", "domain/ex.com", quota="0")
    await root.ok("POST", "alias/other@ex.com", members="u@ex.com")
    await root.ok("PUT", "user/u@ex.com", quota="7")
    await root.ok("PUT", "users/ex.com", quota="9")
    await root.ok("POST", "user/w@ex.com", password=PASSWORD, quota="5")


SETTINGS = {
    "no end": "default_user_quota:7;weird:1",
    "twice": "x:1;default_user_quota:7;x:2;default_user_quota:9;",
    "blanks": " default_user_quota : 7 ;\n x  y : z ;;;",
    "JSON": '{"a": 1, "b": {"c": 2}}',
    "URL": "logo:https://x.org/z?a=b;default_user_quota:1e3;",
    "words": "default_user_quota:;flag;disabled_user_profiles:BCC, Forwarding ,zzz;",
    "capitals": "Default_User_Quota:77;",
}


@pytest.mark.sql_only("texts of settings; in LDAP each setting is a value of its own")
@pytest.mark.parametrize("kind", SETTINGS)
async def test_settings_of_others_stay_as_they_are(
    service: Service, root: Client, kind: str
) -> None:
    """A change of one key leaves all other items: their order, blanks, and repeated keys."""
    await _arrange(root)
    store, text = service.store, SETTINGS[kind]
    for path, table, where, sent in (
        ("domain/ex.com", "domain", "domain = 'ex.com'", {"maxUserQuota": "5"}),
        ("admin/a@admins.test", "admin", "username = 'a@admins.test'", {"maxUsers": "5"}),
    ):
        await store.execute(f"UPDATE {table} SET settings = :text WHERE {where}", text=text)
        service.context.invalidate_caches()
        await root.ok("PUT", path, name="Other")
        assert await _settings(store, table, where) == text
        await root.ok("PUT", path, **sent)
        key = "max_user_quota:5;" if table == "domain" else "create_max_users:5;"
        end = "" if text.rstrip().endswith(";") else ";"
        assert await _settings(store, table, where) == f"{text}{end}{key}"
        await root.ok("PUT", path, **dict.fromkeys(sent, "0"))
        assert await _settings(store, table, where) == f"{text}{end}"
    await store.execute("UPDATE domain SET settings = :text", text=text)
    await root.ok("PUT", "domain/ex.com", defaultQuota="6")
    now = await _settings(store, "domain", "domain = 'ex.com'")
    assert now.count("default_user_quota:6;") == 1
    assert "default_user_quota:7" not in now
    for item in text.split(";"):
        if not item.strip().startswith("default_user_quota"):
            assert item in now.split(";"), item


async def _settings(store: Store, table: str, where: str) -> str:
    value: str = (await store.rows(f"SELECT settings FROM {table} WHERE {where}"))[0]["settings"]
    return value


@pytest.mark.sql_only("rows of forwardings; test_foreign_entries.py has entries")
async def test_an_alias_that_is_its_own_member_stays_until_it_is_named(
    service: Service, root: Client
) -> None:
    await _arrange(root)
    store, own = service.store, "list@ex.com"
    row = {"address": own, "forwarding": own, "domain": "ex.com", "dest_domain": "ex.com"}
    await store.insert("forwardings", row | {"is_list": 1})
    asked = "SELECT * FROM forwardings WHERE forwarding = 'list@ex.com'"
    await root.ok("PUT", f"alias/{own}", name="Other")
    assert len(await store.rows(asked)) == 1
    await root.ok("PUT", f"alias/{own}", addMember="list@al.com")
    assert (await root.ok("GET", f"alias/{own}", view="canonical"))["members"] == [own, "u@ex.com"]
    await root.ok("PUT", f"alias/{own}", removeMember=own)
    assert await store.rows(asked) == []
