"""What normal admins may not decide (ADR 13): routes, limits, and users with more rights."""

from __future__ import annotations

from typing import Any

import pytest

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.openldap import account_dn
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)

DENIED = (403, "PERMISSION_DENIED")
MAIL = "both@a.com"
GUARDED: list[dict[str, str]] = [
    {"password": "N3w-Password"},
    {"password_hash": hash_password("N3w-Password")},
    {"accountStatus": "disabled"},
    {"forwarding": "thief@gmail.com"},
    {"addForwarding": "thief@gmail.com"},
    {"removeForwarding": "keep@gmail.com"},
    {"senderBcc": "thief@gmail.com"},
    {"recipientBcc": "thief@gmail.com"},
    {"transport": "smtp:[192.0.2.1]"},
    {"aliases": "x@a.com"},
    {"addAlias": "x@a.com"},
    {"removeAlias": "also@a.com"},
    {"services": ""},
    {"removeService": "imap"},
    {"mailboxFolder": "Elsewhere"},
]


async def there(service: Service, root: Client) -> Client:
    """a.com and b.com; users of a.com, one of whom manages b.com too; the admin of a.com."""
    for name in ("a.com", "b.com"):
        await root.ok("POST", f"domain/{name}")
    for name in ("both", "deputy", "plain"):
        await root.ok("POST", f"user/{name}@a.com", password=PASSWORD)
    await root.ok("PUT", f"user/{MAIL}", addForwarding="keep@gmail.com", addAlias="also@a.com")
    for name in ("a.com", "b.com"):
        await root.ok("PUT", f"domain/admins/{name}", addAdmin=MAIL)
    await root.ok("PUT", "domain/admins/a.com", addAdmin="deputy@a.com")
    return await service.admin_of("a.com", maxDomains="5")


async def test_users_who_manage_another_domain(service: Service, root: Client) -> None:
    admin = await there(service, root)
    before = await root.ok("GET", f"user/{MAIL}", view="canonical")
    for form in GUARDED:
        refused = await admin.refused("PUT", f"user/{MAIL}", **form, name="Thief")
        assert refused == (*DENIED, sorted(form)), form
    for method, path in (
        ("PUT", f"user/{MAIL}/change_email/new@a.com"),
        ("DELETE", f"user/{MAIL}"),
        ("DELETE", "domain/a.com"),
    ):
        assert (await admin.refused(method, path))[:2] == DENIED, path
    assert await root.ok("GET", f"user/{MAIL}", view="canonical") == before
    await service.client().login(MAIL)


async def test_what_is_left_to_the_admin_of_the_domain(service: Service, root: Client) -> None:
    """What is personal, and what changes nothing; of users with no more rights, everything."""
    admin = await there(service, root)
    personal = {"name": "New", "gn": "G", "sn": "S", "employeeid": "7", "quota": "20"}
    same = {
        "accountStatus": "active", "isGlobalAdmin": "no", "transport": "", "senderBcc": "",
        "forwarding": f"keep@gmail.com,{MAIL}", "aliases": "also@a.com",
        "mailboxFormat": "maildir", "preferredLanguage": "de_DE",
    }  # fmt: skip
    await admin.ok("PUT", f"user/{MAIL}", **personal, **same)
    for name in ("plain", "deputy"):
        for form in GUARDED:
            await admin.ok("PUT", f"user/{name}@a.com", **form)
        await admin.ok("PUT", f"user/{name}@a.com/change_email/new-{name}@a.com")
        await admin.ok("DELETE", f"user/new-{name}@a.com")
    # Who manages both domains, and a global admin.
    await root.ok("PUT", "domain/admins/b.com", addAdmin="a-admin@admins.test")
    await admin.ok("PUT", f"user/{MAIL}", password="N3w-Password", forwarding="x@gmail.com")
    await root.ok("PUT", f"user/{MAIL}", password=PASSWORD)
    await admin.ok("DELETE", f"user/{MAIL}")


async def test_the_admin_itself(service: Service, root: Client) -> None:
    """Who manages both domains changes its own account as it likes."""
    await there(service, root)
    own = await service.client().login(MAIL)
    await own.ok("PUT", f"user/{MAIL}", forwarding=MAIL, addAlias="x@a.com", senderBcc="y@a.com")
    await own.ok("PUT", f"user/{MAIL}", password="N3w-Password")


async def test_all_users_at_once(service: Service, root: Client) -> None:
    """Who has more rights is left out and named; the others get what was sent."""
    admin = await there(service, root)
    for form in (
        {"password": "N3w-Password"},
        {"accountStatus": "disabled"},
        {"transport": "smtp:[192.0.2.1]"},
    ):
        answer = await admin.ok("PUT", "users/a.com", **form)
        assert [item["value"] for item in answer["_skipped"]] == [MAIL], form
    assert "_skipped" not in await admin.ok("PUT", "users/a.com", language="de_DE")
    await service.client().login(MAIL)
    profile = await root.ok("GET", f"user/{MAIL}", view="canonical")
    assert (profile["accountStatus"], profile["transport"]) == ("active", "")
    profile = await root.ok("GET", "user/plain@a.com", view="canonical")
    assert (profile["accountStatus"], profile["transport"]) == ("disabled", "smtp:[192.0.2.1]")


@pytest.mark.sql_only("users write their own limits in LDAP: they give no rights there")
async def test_users_who_may_create_more(service: Service, root: Client) -> None:
    """The password of a mail user who may create domains, or more of them, active or not."""
    await there(service, root)
    none = await service.admin_of("a.com", mail="none@admins.test")
    some = await service.admin_of("a.com", mail="some@admins.test", maxDomains="5", maxUsers="9")
    for settings, allowed in (
        ("create_new_domains:yes;create_max_domains:5;create_max_users:9;", some),
        ("create_new_domains:yes;create_max_domains:6;create_max_users:9;", None),
        ("create_new_domains:yes;create_max_domains:5;", None),
        ("create_new_domains:yes;create_max_domains:1;create_max_users:1;", some),
    ):  # fmt: skip
        await service.store.execute(
            "UPDATE mailbox SET settings = :s, active = 1 WHERE username = 'deputy@a.com'",
            s=settings,
        )
        for active in ("active", "disabled"):
            await root.ok("PUT", "user/deputy@a.com", accountStatus=active)
            for admin in (none, some):
                form = {"password": PASSWORD, "recipientBcc": "x@gmail.com"}
                if admin is allowed:
                    await admin.ok("PUT", "user/deputy@a.com", **form)
                    continue
                refused = await admin.refused("PUT", "user/deputy@a.com", **form)
                assert refused[:2] == DENIED, settings
                answer = await admin.ok("PUT", "users/a.com", password=PASSWORD)
                assert "deputy@a.com" in [item["value"] for item in answer["_skipped"]]
                assert (await admin.refused("DELETE", "user/deputy@a.com"))[:2] == DENIED
    await none.ok("PUT", "user/deputy@a.com", name="New")
    # The same of one who manages nothing yet.
    await root.ok("PUT", "domain/admins/a.com", removeAdmin="deputy@a.com")
    await service.store.execute(
        "UPDATE mailbox SET isadmin = 1, settings = 'create_new_domains:yes;'"
        " WHERE username = 'deputy@a.com'"
    )
    form = {"password": "N3w-Password"}
    assert (await none.refused("PUT", "user/deputy@a.com", **form))[:2] == DENIED
    answer = await none.ok("PUT", "users/a.com", **form)
    assert "deputy@a.com" in [item["value"] for item in answer["_skipped"]]
    await root.ok("POST", "verify_password/user/deputy@a.com", password=PASSWORD)


async def test_rights_that_wait_for_a_mark(service: Service, root: Client) -> None:
    """Another program may give the mark at any time; who has the password by then is an admin."""
    admin = await there(service, root)
    if service.store.name == "openldap":
        service.store.directory.modify(account_dn(MAIL), delete={"enabledService": "domainadmin"})
    else:
        await service.store.execute("UPDATE mailbox SET isadmin = 0 WHERE username = :m", m=MAIL)
    for form in ({"password": "N3w-Password"}, {"mailboxFolder": "Elsewhere"}):
        assert await admin.refused("PUT", f"user/{MAIL}", **form) == (*DENIED, sorted(form))


# Where mail goes ---------------------------------------------------------------------------------

INSIDE = [
    "smtp:[127.0.0.1]:10025", "smtp:[127.0.0.1]", "smtp:127.1.2.3", "relay:[::1]:10027",
    "smtp:[::ffff:127.0.0.1]", "smtp:[0.0.0.0]", "smtp:[169.254.169.254]", "smtp:[224.0.0.1]",
    "smtp:localhost:10025", "smtp:[localhost]", "smtp:x.localhost", "smtp:localhost.localdomain",
    "smtp:amavis:10024", "smtp:[mail.example.com]:10025", "smtp:mail.example.com:9998",
    "smtp:[192.0.2.1]:7777", "smtp:0x7f.0.0.1", "smtp:2130706433", "smtp:127.1",
    "smtp:[mx.server.example]", "lmtp:inet:127.0.0.1:9999", "lmtp:unix:/var/run/x",
    "lmtp:inet:localhost:24", "smtp:[192.0.2.1],[127.0.0.1]", "pipe:x", "vacation:", "error:x",
    "discard:", "mlmmj:a.com/x", "smtp-amavis:[127.0.0.1]:10024", "local:",
]  # fmt: skip
OUTSIDE = [
    "dovecot", "lmtp:unix:private/dovecot-lmtp", "lmtp:inet:127.0.0.1:24", "smtp:", "relay:",
    "smtp:[192.0.2.1]", "smtp:[192.0.2.1]:25", "relay:mail.example.com:587", "smtp:x.example.com",
    "smtp:[2001:db8::1]:2525", "smtp:[10.0.0.5]", "smtp:[192.168.1.2]:25", "lmtp:[192.0.2.9]:24",
    "lmtp:inet:lmtp.example.com:24", "smtp:[mx1.example.com],[mx2.example.com]",
]  # fmt: skip


async def test_where_mail_goes(store: Store, root: Client) -> None:
    async with serving(store, server_hostname="mx.server.example") as service:
        admin = await there(service, root)
        places = [("domain/a.com", "transport"), ("user/plain@a.com", "transport")]
        for path, name in (*places, ("users/a.com", "transport")):
            for value in INSIDE:
                refused = await admin.refused("PUT", path, **{name: value})
                assert refused == (*DENIED, [name]), (path, value)
        refused = await admin.refused("POST", "domain/new.com", transport=INSIDE[0])
        assert refused == (*DENIED, ["transport"])
        for value in (INSIDE[0], "smtp:[mx.server.example]"):
            form = {"password": PASSWORD, "transport": value}
            refused = await admin.refused("POST", "user/new@a.com", **form)
            assert refused == (*DENIED, ["transport"]), value
        for path, name in places:
            for value in OUTSIDE:
                await admin.ok("PUT", path, **{name: value})
        for value in ("[127.0.0.1]:10025", "localhost", "smtp:[::1]", "[192.0.2.1]:10025", "db"):
            assert await admin.refused("PUT", "domain/a.com", outboundRelay=value) == (
                *DENIED, ["outboundRelay"],
            )  # fmt: skip
            if not value.startswith("smtp:"):
                form = {"is_backupmx": "yes", "primarymx": value}
                refused = await admin.refused("PUT", "domain/a.com", **form)
                assert refused == (*DENIED, ["primarymx"])
        for value in ("[192.0.2.1]:587", "relay.example.com", "DUNNO", "smtp:[10.0.0.5]", ""):
            await admin.ok("PUT", "domain/a.com", outboundRelay=value)
        # A global admin may; and what is there may be sent again with something else.
        inside = {"transport": INSIDE[0], "outboundRelay": "[127.0.0.1]:10025"}
        await root.ok("PUT", "domain/a.com", **inside)
        await root.ok("PUT", "user/plain@a.com", transport=INSIDE[0])
        await admin.ok("PUT", "domain/a.com", **inside, name="New")
        await admin.ok("PUT", "user/plain@a.com", transport=INSIDE[0], name="New")
        await root.ok("PUT", "domain/a.com", is_backupmx="yes", primarymx="[127.0.0.1]:10025")
        await admin.ok("PUT", "domain/a.com", is_backupmx="yes", primarymx="[127.0.0.1]:10025")


# Limits ------------------------------------------------------------------------------------------


async def test_a_cap_of_quota_stays(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/a.com", maxUserQuota="100")
    admin = await service.admin_of("a.com")
    creator = await service.admin_of("a.com", mail="creator@admins.test", maxDomains="5")
    for value in ("0", "101", "100000"):
        refused = await admin.refused("PUT", "domain/a.com", maxUserQuota=value)
        assert refused == (*DENIED, ["maxUserQuota"])
    for value in ("100", "99"):
        await admin.ok("PUT", "domain/a.com", maxUserQuota=value)
    await creator.ok("PUT", "domain/a.com", maxUserQuota="200")
    await root.ok("PUT", "domain/a.com", maxUserQuota="0")
    await admin.ok("PUT", "domain/a.com", maxUserQuota="50")


@pytest.mark.parametrize(
    "given, forms",
    [
        ({}, [{"maxPasswordLength": "7"}, {"maxPasswordLength": "1"}]),
        ({"min_password_length": 12}, [{"maxPasswordLength": "11"}]),
        ({"max_password_length": 20}, [{"minPasswordLength": "21"}]),
        ({}, [{"minPasswordLength": "10", "maxPasswordLength": "9"}]),
    ],
)
async def test_lengths_that_no_password_has(
    store: Store, root: Client, given: dict[str, Any], forms: list[dict[str, str]]
) -> None:
    await root.ok("POST", "domain/a.com")
    async with serving(store, **given) as service:
        for client in (await service.admin_of("a.com"), await service.root()):
            for form in forms:
                status, code, names = await client.refused("PUT", "domain/a.com", **form)
                assert (status, code) == (400, "INVALID_NUMBER")
                assert names[0] in form
        await client.ok("PUT", "domain/a.com", minPasswordLength="15", maxPasswordLength="16")
        await client.ok("POST", "user/u@a.com", password="Corr3ct-Horse-15")
