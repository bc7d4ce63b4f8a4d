"""Faults that two security reviews found stay repaired, on every database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers import accounts
from tests.servers.interrupted_commits import broken_off
from tests.servers.openldap import account_dn, domain_dn
from tests.servers.store import Store

LIMITS = {"maxDomains": "1", "maxQuota": "100", "quotaUnit": "MB"}


async def creator(service: Service, mail: str = "maker@admins.test", **limits: str) -> Client:
    """A normal admin who may create domains."""
    return await service.admin_of(mail=mail, **({"maxDomains": "50"} | limits))


async def with_user(root: Client, mail: str = "u@ex.com", **form: str) -> None:
    await root.ok("POST", f"domain/{mail.partition('@')[2]}")
    await root.ok("POST", f"user/{mail}", password=PASSWORD, **form)


async def forwardings(store: Store) -> set[tuple[str, str, int]]:
    rows = await store.rows("SELECT address, forwarding, active FROM forwardings")
    return {(row["address"], row["forwarding"], row["active"]) for row in rows}


async def test_a_domain_of_standalone_admins_is_for_global_admins(
    service: Service, root: Client
) -> None:
    """Whoever hosts an admin's domain could make a mail user of the same name and be the admin."""
    await root.ok("POST", "admin/y@corp.test", password=PASSWORD)
    maker = await creator(service)
    assert (await maker.refused("POST", "domain/corp.test"))[0] == 403
    await maker.ok("POST", "domain/mine.test")
    refused = await maker.refused("PUT", "domain/mine.test", addAliasDomain="corp.test")
    assert refused[0] == 403
    await root.ok("POST", "domain/corp.test")
    refused = await root.refused("POST", "user/y@corp.test", password=PASSWORD)
    assert refused[:2] == (409, "ALREADY_EXISTS")


@pytest.mark.sql_only("the clash is written as a row by hand")
async def test_a_disabled_standalone_admin_shadows_its_mail_user(
    service: Service, root: Client
) -> None:
    await root.ok("POST", "admin/old@corp.test", password=PASSWORD, isGlobalAdmin="yes")
    await root.ok("PUT", "admin/old@corp.test", accountStatus="disabled")
    await root.ok("POST", "domain/corp.test")
    await service.store.insert(
        "mailbox", {"username": "old@corp.test", "domain": "corp.test", "isadmin": 1,
                    "password": f"{{PLAIN}}{PASSWORD}"},
    )  # fmt: skip
    refused = await service.client().refused(
        "POST", "login", username="old@corp.test", password=PASSWORD
    )
    assert refused[:2] == (401, "INVALID_CREDENTIALS")


@pytest.mark.sql_only("writes rows of domain_admins; tests/ldap/test_rights.py has its own")
async def test_rights_that_were_left_over_do_not_revive(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    for mail in ("u@ex.com", "new@ex.com"):
        left = {"username": mail, "domain": "ALL", "active": 1}
        await service.store.insert("domain_admins", left)
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="u@ex.com")
    await root.ok("POST", "user/u@ex.com/change_email/new@ex.com")
    client = await service.client().login("new@ex.com")
    assert (await client.refused("GET", f"admin/{ROOT}"))[0] == 403


async def test_a_new_standalone_admin_has_no_old_rights(service: Service, root: Client) -> None:
    """Another program has removed an admin of that name, and left its rights."""
    await root.ok("POST", "domain/ex.com")
    if service.store.name == "openldap":
        rights = {"domainAdmin": "x@admins.test"}
        service.store.directory.modify(domain_dn("ex.com"), add=rights)
    else:
        for name in ("ex.com", "ALL"):
            left = {"username": "x@admins.test", "domain": name, "active": 1}
            await service.store.insert("domain_admins", left)
    await root.ok("POST", "admin/x@admins.test", password=PASSWORD)
    client = await service.client().login("x@admins.test")
    assert await client.ok("GET", "domains", name_only="yes") == []


async def test_removing_a_domain_spares_standalone_admins(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/second@corp.test", password=PASSWORD, isGlobalAdmin="yes")
    await root.ok("POST", "domain/corp.test")
    await root.ok("DELETE", "domain/corp.test")
    second = await service.client().login("second@corp.test")
    assert await second.ok("GET", "domains") == []


async def test_limits_are_not_evaded_by_handing_domains_over(
    service: Service, root: Client
) -> None:
    maker = await creator(service, **LIMITS)
    await maker.ok("POST", "domain/d0.test", quota="100")
    await maker.ok("POST", "user/me@d0.test", password=PASSWORD, quota="1")
    await maker.ok("PUT", "domain/admins/d0.test", addAdmin="me@d0.test")
    other = await service.client().login("me@d0.test")
    for client in (other, maker):
        for form in ({"removeAdmin": "maker@admins.test"}, {"removeAllAdmins": ""}):
            status, answer = await client.call("PUT", "domain/admins/d0.test", data=form)
            assert status in {200, 403}, answer
    refused = await maker.refused("POST", "domain/d1.test", quota="1")
    assert refused[:2] == (409, "EXCEED_LIMIT_DOMAIN")


async def test_ownership_is_not_proved_by_switching_on(store: Store) -> None:
    async with serving(store, require_domain_ownership=True) as service:
        root = await service.root()
        maker = await creator(service)
        await maker.ok("POST", "domain/gmail.test")
        assert (await maker.refused("PUT", "domain/gmail.test", accountStatus="active"))[0] == 403
        await root.ok("POST", "domain/ex.com")
        await root.ok("PUT", "domain/admins/ex.com", addAdmin="maker@admins.test")
        await maker.ok("POST", "user/u@ex.com", password=PASSWORD)
        await maker.ok("PUT", "domain/ex.com", addAliasDomain="hijack.test")
        refused = await maker.refused("PUT", "user/u@ex.com", addAlias="ceo@hijack.test")
        assert refused == (400, "INVALID_DOMAIN_NAME", ["addAlias"])
        await root.ok("PUT", "domain/gmail.test", accountStatus="active")


async def test_addresses_too_long_for_a_mailbox_path(service: Service, root: Client) -> None:
    domain = f"{'a' * 60}.{'b' * 60}.{'c' * 50}.test"
    await root.ok("POST", f"domain/{domain}")
    refused = await root.refused("POST", f"user/{'u' * 60}@{domain}", password=PASSWORD)
    assert refused == (400, "INVALID_MAIL", ["mail"])
    await root.ok("DELETE", f"domain/{domain}")


@pytest.mark.stores("sqlite", "postgresql")
async def test_another_name_of_the_quota_table(store: Store) -> None:
    await store.execute(
        "CREATE TABLE IF NOT EXISTS rt_quota (username VARCHAR(255) PRIMARY KEY, bytes BIGINT,"
        " messages BIGINT, domain VARCHAR(255))"
    )
    if store.name == "postgresql":
        await store.execute("GRANT ALL ON rt_quota TO PUBLIC")
    await store.execute("DELETE FROM rt_quota")
    async with serving(store, used_quota_table="rt_quota") as service:
        root = await service.root()
        await with_user(root)
        await store.execute("INSERT INTO rt_quota VALUES ('u@ex.com', 7, 1, 'ex.com')")
        await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
        assert (await root.ok("GET", "user/n@ex.com"))["stored_bytes"] == 7
        await root.ok("DELETE", "domain/ex.com")
        assert await store.rows("SELECT * FROM rt_quota") == []
    await store.execute("DROP TABLE rt_quota")


async def test_nobody_gets_the_mailbox_of_a_renamed_or_deleted_user(
    service: Service, root: Client
) -> None:
    """Within one second, as provisioning scripts do it."""
    await with_user(root)
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("DELETE", "user/u@ex.com/keep_mailbox_days/1")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    store = service.store
    rows = await root.ok("GET", "users/ex.com", view="canonical")
    queued = await store.rows("SELECT maildir FROM deleted_mailboxes", store.accounts)
    paths = [row["maildir"].rstrip("/").rpartition("/")[2] for row in [*rows, *queued]]
    assert len(paths) == len(set(paths)) == 3


async def test_a_mailbox_that_is_used_again_leaves_the_queue(
    service: Service, root: Client
) -> None:
    await with_user(root)
    path = (await root.ok("GET", "user/u@ex.com", view="canonical"))["maildir"].rstrip("/")
    await root.ok("DELETE", "user/u@ex.com/keep_mailbox_days/30")
    inside = await root.refused(
        "POST", "user/v@ex.com", password=PASSWORD, maildir=f"{path}/inside"
    )
    assert inside == (400, "INVALID_MAILDIR", ["maildir"])
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, maildir=path)
    store = service.store
    assert await store.rows("SELECT * FROM deleted_mailboxes", store.accounts) == []


async def test_nothing_outlives_a_parallel_removal(service: Service, root: Client) -> None:
    for turn in range(3):
        await with_user(root)
        await root.ok("POST", "alias/l@ex.com")
        await asyncio.gather(
            root.call("PUT", "user/u@ex.com", data={"addForwarding": "spy@evil.test"}),
            root.call("PUT", "alias/l@ex.com", data={"addMember": "u@ex.com"}),
            root.call("DELETE", "domain/ex.com" if turn % 2 else "user/u@ex.com"),
        )
        assert await accounts.routes_of(service.store, "u@ex.com") == []
        await root.call("DELETE", "domain/ex.com")


async def test_somebody_without_a_session_sends_little(service: Service) -> None:
    client = service.client()
    status, answer = await client.call("POST", "login", json={"username": ["x"] * 20_000})
    assert (status, answer["_msg"]) == (413, "REQUEST_TOO_LARGE")


async def test_no_circles_through_alias_domains(service: Service, root: Client) -> None:
    await with_user(root)
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    await root.ok("PUT", "user/u@ex.com", forwarding="u@al.com,u+x@ex.com")
    await root.ok("POST", "alias/l@ex.com", members="u@ex.com")
    await root.ok("PUT", "alias/l@ex.com", addMember="l@al.com,l+x@ex.com,l@ex.com")
    user = await root.ok("GET", "user/u@ex.com", view="canonical")
    alias = await root.ok("GET", "alias/l@ex.com", view="canonical")
    assert (user["forwarding"], alias["members"]) == (["u@ex.com"], ["u@ex.com"])


async def test_twins_in_alias_domains_are_one_address(service: Service, root: Client) -> None:
    await with_user(root)
    await root.ok("POST", "user/v@ex.com", password=PASSWORD)
    await root.ok("PUT", "domain/ex.com", addAliasDomain="al.com")
    answer = await root.ok("PUT", "user/u@ex.com", addAlias="v@al.com,c@al.com")
    assert [item["value"] for item in answer["_skipped"]] == ["v@al.com"]
    refused = await root.refused("POST", "user/c@ex.com", password=PASSWORD)
    assert refused[:2] == (409, "ALREADY_EXISTS")


@pytest.mark.sql_only("only in SQL has a route a switch of its own")
async def test_new_routes_to_a_disabled_user_are_off(service: Service, root: Client) -> None:
    await with_user(root, accountStatus="disabled")
    await root.ok("POST", "user/v@ex.com", password=PASSWORD)
    await root.ok("PUT", "user/v@ex.com", addForwarding="u@ex.com")
    await root.ok("POST", "alias/l@ex.com", members="u@ex.com,v@ex.com")
    await root.ok("PUT", "domain/ex.com", catchall="u@ex.com")
    to_user = {row for row in await forwardings(service.store) if row[1] == "u@ex.com"}
    assert {active for *_, active in to_user} == {0}
    assert len(to_user) == 4


async def test_policies_go_with_an_alias_address(service: Service, root: Client) -> None:
    await with_user(root)
    rows: dict[str, Any] = {}
    for how in ("removeAlias", "delete"):
        await root.ok("PUT", "user/u@ex.com", addAlias="s@ex.com")
        await root.ok("POST", "throttle/s@ex.com/outbound", period="60", max_msgs="1")
        await root.ok("POST", "wblist/inbound/blacklist/s@ex.com", addresses="@.")
        await root.ok("POST", "greylisting/s@ex.com", status="disable")
        if how == "removeAlias":
            await root.ok("PUT", "user/u@ex.com", removeAlias="s@ex.com")
        else:
            await root.ok("DELETE", "user/u@ex.com")
        rows[how] = [
            await service.store.rows("SELECT * FROM throttle", "iredapd"),
            await service.store.rows("SELECT * FROM wblist", "amavisd"),
            await service.store.rows(
                "SELECT * FROM greylisting WHERE account = 's@ex.com'", "iredapd"
            ),
        ]
    assert rows == {"removeAlias": [[], [], []], "delete": [[], [], []]}


async def test_the_panel_decides_how_short_passwords_may_be(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    admin = await service.admin_of("ex.com")
    await service.store.insert(
        "settings",
        {"account": "global", "k": "min_passwd_length", "v": '{"value": 14}'},
        database="iredadmin",
    )
    service.context.invalidate_caches()
    refused = await admin.refused("PUT", "domain/ex.com", minPasswordLength="8")
    assert refused == (400, "INVALID_NUMBER", ["minPasswordLength"])


@pytest.mark.sql_only("marks in domain_admins and expired: LDAP has no such thing")
async def test_who_cannot_log_in_is_no_last_global_admin(service: Service, root: Client) -> None:
    await with_user(root)
    mark = {"username": "u@ex.com", "domain": "ALL", "active": 1}
    await service.store.insert("domain_admins", mark)
    await root.ok("POST", "admin/gone@admins.test", password=PASSWORD, isGlobalAdmin="yes")
    await service.store.execute(
        "UPDATE admin SET expired = '2020-01-01 00:00:00' WHERE username = 'gone@admins.test'"
    )
    refused = await root.refused("PUT", f"admin/{ROOT}", accountStatus="disabled")
    assert refused[:2] == (409, "LAST_GLOBAL_ADMIN")


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
async def test_policies_outlive_a_rename_that_broke_off(
    root: Client, store: Store, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request again completes it: nothing of the account is lost."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("POST", "throttle/u@ex.com/outbound", period="3600", max_msgs="7")
    await root.ok("POST", "wblist/inbound/blacklist/u@ex.com", addresses="bad@example.org")
    # Of somebody who is long gone: it must not come to life.
    await store.insert(
        "greylisting",
        {"account": "n@ex.com", "priority": 100, "sender": "@.", "sender_priority": 0, "active": 0},
        database="iredapd",
    )
    await broken_off(root, "user/u@ex.com/change_email/n@ex.com", cut, monkeypatch)
    await root.ok("POST", "user/u@ex.com/change_email/n@ex.com")
    assert (await root.ok("GET", "throttle/n@ex.com/outbound"))["max_msgs"] == 7
    assert await root.ok("GET", "wblist/inbound/blacklist/n@ex.com") == ["bad@example.org"]
    assert (await root.ok("GET", "greylisting/n@ex.com"))["status"] == "inherit"
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    assert (await root.ok("GET", "throttle/u@ex.com/outbound")).get("max_msgs") is None
    assert await root.ok("GET", "wblist/inbound/blacklist/u@ex.com") == []


async def test_hidden_fields_are_hidden_in_every_view(store: Store) -> None:
    """Under the name that either storage has for them, in whatever case."""
    hidden = "Mobile,homeDirectory,maildir,mailQuota,USERPASSWORD,PassWord,cn"
    given = {"hidden_user_fields": hidden, "hidden_admin_fields": hidden}
    async with serving(store, **given) as service:
        root = await service.root()
        await with_user(root)
        await root.ok("PUT", "user/u@ex.com", mobile="123")
        for path in ("user/u@ex.com", "users/ex.com", f"admin/{ROOT}"):
            for view in ("canonical", "native"):
                found = await root.ok("GET", path, view=view)
                for item in found if isinstance(found, list) else [found]:
                    names = {name.lower() for name in item}
                    secret = {"mobile", "homedirectory", "maildir", "mailquota", "userpassword"}
                    assert not names & (secret | {"password", "cn"}), (path, view)
                    if view == "canonical":
                        assert not names & {"name", "quota"}, path
                    assert "mail" in names or "username" in names


async def test_a_global_admin_switches_an_unproved_alias_domain_on(store: Store) -> None:
    """Adding it anew says so; a reset that repeats what was read does not."""
    async with serving(store, require_domain_ownership=True) as service:
        root, owner = await service.root(), await creator(service)
        await owner.ok("POST", "domain/mine.test")
        await owner.ok("PUT", "domain/mine.test", addAliasDomain="one.test,two.test")
        await root.ok("POST", "user/u@mine.test", password=PASSWORD)

        async def live() -> set[str]:
            if store.name == "openldap":
                entry = store.directory.entry(domain_dn("mine.test"))
                assert entry is not None
                found = set(entry.get("domainAliasName", []))
                assert ("domainalias" in entry["enabledService"]) == bool(found)
                user = store.directory.entry(account_dn("u@mine.test"))
                assert user is not None
                assert set(user.get("shadowAddress", [])) == {f"u@{name}" for name in found}
                pending = set(entry.get("domainPendingAliasName", []))
                assert pending == {"one.test", "two.test"} - found
                return found
            rows = await store.rows("SELECT alias_domain FROM alias_domain WHERE active = 1")
            return {row["alias_domain"] for row in rows}

        assert await live() == set()
        await root.ok("PUT", "domain/mine.test", aliasDomains="one.test,two.test")
        await owner.ok("PUT", "domain/mine.test", addAliasDomain="one.test")
        assert await live() == set()
        await root.ok("PUT", "domain/mine.test", addAliasDomain="one.test")
        assert await live() == {"one.test"}
        await owner.ok("PUT", "domain/mine.test", addAliasDomain="one.test,two.test", name="X")
        assert await live() == {"one.test"}
