"""A request for what is stored already writes nothing; one that changes something names it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.histories import HASH
from tests.servers.openldap import BASE
from tests.servers.snapshot import dump, tables_of
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
LONG_AGO = "2001-02-03 04:05:06"

# fmt: off
MADE: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "domain/ex.com", {}),
    ("POST", "domain/other.com", {}),
    ("POST", "user/bob@ex.com", {"password_hash": HASH}),
    ("POST", "user/u@ex.com", {"password": PASSWORD}),
    ("POST", "alias/a@ex.com", {}),
    ("POST", "admin/adm@admins.test", {"password": PASSWORD}),
)
RECORDS: dict[str, tuple[str, str, dict[str, str], list[str]]] = {
    "domain": ("PUT", "domain/ex.com", {
        "name": "Ex", "quota": "5000", "language": "de_DE", "defaultQuota": "10",
        "maxUserQuota": "400", "numberOfUsers": "30", "numberOfAliases": "40",
        "numberOfLists": "5", "senderBcc": "s@far.test", "recipientBcc": "r@far.test",
        "minPasswordLength": "9", "maxPasswordLength": "40", "outboundRelay": "smtp:[192.0.2.9]:25",
        "catchall": "bob@ex.com,Far@far.test", "aliasDomains": "al.com,bl.com",
        "services": "self-service", "disableDomainProfile": "bcc", "enableUserProfile": "bcc",
        "accountStatus": "active", "transport": "smtp:[192.0.2.1]", "disableUserProfile": "",
    }, ["aliasDomains", "catchall", "defaultQuota", "disabledDomainProfile", "language",
        "maxPasswordLength", "maxUserQuota", "minPasswordLength", "name", "numberOfAliases",
        "numberOfLists", "numberOfUsers", "outboundRelay", "quota", "recipientBcc", "senderBcc",
        "services", "transport"]),
    "backup": ("PUT", "domain/other.com", {"is_backupmx": "yes", "primarymx": "mx.far.test"},
               ["is_backupmx", "primarymx", "transport"]),
    "user, its own fields": ("PUT", "user/u@ex.com", {
        "name": "Ü", "gn": "G", "sn": "S", "employeeid": "7", "mobile": "+49 2,+49 1",
        "telephoneNumber": "1", "language": "de_DE", "password": "An0ther-Horse",
        "mailboxFormat": "mdbox", "mailboxFolder": "Box",
    }, ["employeeid", "gn", "language", "mailboxFolder", "mailboxFormat", "mobile", "name",
        "password", "sn", "telephoneNumber"]),
    "user, one field": ("PUT", "user/u@ex.com", {"name": "Ünè"}, ["name"]),
    "user, one empty field": ("PUT", "user/u@ex.com", {"gn": ""}, ["gn"]),
    "user, its password": ("PUT", "user/u@ex.com", {"password": "N3w-Horse-x"}, ["password"]),
    "user, a hash": ("PUT", "user/u@ex.com", {"password_hash": HASH, "name": "H"},
                     ["name", "password"]),
    "user, more": ("PUT", "user/u@ex.com", {
        "quota": "77", "accountStatus": "disabled", "transport": "dovecot",
        "forwarding": "U@ex.com,bob@ex.com,far@far.test", "aliases": "x@ex.com,y@ex.com",
        "senderBcc": "s@far.test", "recipientBcc": "r@far.test", "services": "imap,deliver",
        "isGlobalAdmin": "yes", "maildir": "/var/vmail/vmail1/own/u",
    }, ["accountStatus", "aliases", "forwarding", "isGlobalAdmin", "maildir", "quota",
        "recipientBcc", "senderBcc", "services", "transport"]),
    "user, again": ("PUT", "user/u@ex.com", {"accountStatus": "active", "isGlobalAdmin": "no"},
                    ["accountStatus", "isGlobalAdmin"]),
    "user, additions": ("PUT", "user/u@ex.com", {
        "addForwarding": "new@far.test", "removeForwarding": "gone@far.test",
        "addAlias": "z@ex.com", "addService": "pop3", "removeService": "sogo",
    }, ["aliases", "forwarding", "services"]),
    "users": ("PUT", "users/ex.com", {
        "accountStatus": "active", "language": "fr_FR", "transport": "smtp:[192.0.2.7]",
        "quota": "55",
    }, ["language", "quota", "transport"]),
    "alias": ("PUT", "alias/a@ex.com", {
        "name": "A", "members": "bob@ex.com,Far@far.test", "accountStatus": "disabled",
    }, ["accountStatus", "members", "name"]),
    "alias, one member": ("PUT", "alias/a@ex.com", {"addMember": "u@ex.com"}, ["members"]),
    "admin": ("PUT", "admin/adm@admins.test", {
        "name": "N", "password": "An0ther-Horse", "accountStatus": "disabled", "language": "de_DE",
        "maxDomains": "3", "maxQuota": "4", "quotaUnit": "GB", "maxUsers": "5", "maxAliases": "6",
        "maxLists": "7", "disableViewingMailLog": "yes", "disableManagingQuarantinedMails": "yes",
        "isGlobalAdmin": "no",
    }, ["accountStatus", "disableManagingQuarantinedMails", "disableViewingMailLog", "language",
        "maxAliases", "maxDomains", "maxLists", "maxQuota", "maxUsers", "name", "password",
        "quotaUnit"]),
    "domain admins": ("PUT", "domain/admins/ex.com", {"addAdmin": "adm@admins.test,bob@ex.com"},
                      ["admins"]),
    "fewer domain admins": ("PUT", "domain/admins/ex.com", {"removeAdmin": "bob@ex.com"},
                            ["admins"]),
    "throttle": ("POST", "throttle/ex.com/outbound", {"period": "60", "max_msgs": "5"},
                 ["max_msgs", "max_quota", "max_rcpts", "msg_size", "period"]),
    "greylisting": ("POST", "greylisting/ex.com", {"status": "enable"}, ["status"]),
    "greylisting whitelist": ("POST", "greylisting/ex.com/whitelists",
                              {"senders": "a@far.test,@b.test"}, ["senders"]),
    "more of it": ("POST", "greylisting/ex.com/whitelists",
                   {"addSenders": "c@far.test", "removeSenders": "nobody@far.test"}, ["senders"]),
    "greylisting domains": ("POST", "greylisting/whitelist_spf_domains",
                            {"domains": "far.test,b.test"}, ["domains"]),
    "spam policy": ("PUT", "spampolicy/domain/ex.com",
                    {"spam_score": "4.5", "bypass_virus_checks": "yes"},
                    ["bypass_virus_checks", "spam_score"]),
    "wblist": ("POST", "wblist/inbound/whitelist/ex.com", {"addresses": "a@far.test,b@far.test"},
               ["addresses"]),
    "less of it": ("PUT", "wblist/inbound/whitelist/ex.com", {"addresses": "a@far.test"},
                   ["addresses"]),
    "no wblist": ("DELETE", "wblist/inbound/whitelist/ex.com", {}, ["addresses"]),
    "no spam policy": ("DELETE", "spampolicy/domain/ex.com", {},
                       ["bypass_virus_checks", "spam_score"]),
    "no greylisting": ("DELETE", "greylisting/ex.com", {}, ["status"]),
    "no throttle": ("DELETE", "throttle/ex.com/outbound", {},
                    ["max_msgs", "max_quota", "max_rcpts", "msg_size", "period"]),
}
# fmt: on


async def age(store: Store) -> None:
    """Make all times old, so that whatever is touched shows."""
    for (database, name), table in tables_of(store).items():
        for column in ("modified", "passwordlastchange"):
            if column in table.c:
                assert database != "openldap"
                async with store.admin_engine(database).begin() as connection:
                    await connection.execute(text(f"UPDATE {name} SET {column} = '{LONG_AGO}'"))


async def trace(store: Store) -> Any:
    """Everything that is stored, with the marks that LDAP puts on what is written."""
    found: dict[Any, Any] = dict(await dump(store))
    if store.openldap is not None:
        found["written"] = {
            str(entry.dn): entry["entryCSN"]
            for entry in store.openldap.root.search(BASE, 2, attrlist=["entryCSN"])
        }
    if store.name == "postgresql":
        async with store.admin_engine("vmail").connect() as connection:
            for name in ("mailbox", "domain", "alias", "admin", "forwardings"):
                rows = await connection.execute(text(f"SELECT ctid, xmin FROM {name}"))
                found[name] = sorted(str(row) for row in rows)
    return found


async def test_stored_values_are_not_written_again(service: Service, root: Client) -> None:
    for method, path, form in MADE:
        await root.ok(method, path, **form)
    for case, (method, path, form, wanted) in RECORDS.items():
        status, answer = await root.call(method, path, data=form)
        assert status == 200, (case, answer)
        assert answer["_changed"] == wanted, case
        await service.context.drain()
        await age(service.store)
        before = await trace(service.store)
        status, answer = await root.call(method, path, data=form)
        assert (status, answer["_changed"]) == (200, []), (case, answer)
        await service.context.drain()
        after = await trace(service.store)
        assert {key for key in after if after[key] != before[key]} == set(), case
    # What is different is named, and nothing beside it.
    _, path, form, _ = RECORDS["user, its own fields"]
    status, answer = await root.call("PUT", path, data={**form, "sn": "T"})
    assert answer["_changed"] != []


async def test_case_and_blanks_are_differences_of_names(root: Client) -> None:
    """MariaDB finds these equal."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD, name="alice", gn="jose")
    for form in ({"name": "Alice"}, {"gn": "José"}, {"name": "ALICE", "gn": "JOSÉ"}):
        _, answer = await root.call("PUT", "user/u@ex.com", data=form)
        assert answer["_changed"] == sorted(form)
        shape = await root.ok("GET", "user/u@ex.com", view="canonical")
        assert {name: shape[name] for name in form} == form


# What has no effect, and what is not as it was asked for ------------------------------------------

# fmt: off
WRITES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("POST", "domain/new.com", {}), ("PUT", "domain/ex.com", {"name": "N"}),
    ("PUT", "domain/admins/ex.com", {"addAdmin": "bob@ex.com"}),
    ("POST", "user/new@ex.com", {"password": PASSWORD}), ("PUT", "user/u@ex.com", {"name": "N"}),
    ("PUT", "users/ex.com", {"language": "de_DE"}),
    ("POST", "user/bob@ex.com/change_email/rob@ex.com", {}),
    ("POST", "alias/new.a@ex.com", {}), ("PUT", "alias/a@ex.com", {"name": "N"}),
    ("POST", "alias/new.a@ex.com/change_email/old.a@ex.com", {}),
    ("POST", "admin/new@admins.test", {"password": PASSWORD}),
    ("PUT", "admin/adm@admins.test", {"name": "N"}),
    ("POST", "throttle/ex.com/inbound", {"period": "60"}),
    ("POST", "greylisting/ex.com", {"status": "enable"}),
    ("POST", "greylisting/ex.com/whitelists", {"addSenders": "x@far.test"}),
    ("POST", "greylisting/whitelist_spf_domains", {"addDomains": "far.test"}),
    ("PUT", "spampolicy/user/u@ex.com", {"spam_score": "3"}),
    ("POST", "wblist/outbound/blacklist/global", {"addresses": "x@far.test"}),
    ("PUT", "wblist/outbound/blacklist/global", {"addresses": "x@far.test"}),
    ("POST", "tokens", {"label": "x"}),
    ("DELETE", "user/rob@ex.com", {}), ("DELETE", "alias/a@ex.com", {}),
    ("DELETE", "admin/new@admins.test", {}), ("DELETE", "domain/new.com", {}),
    ("DELETE", "throttle/ex.com/inbound", {}), ("DELETE", "greylisting/ex.com", {}),
    ("DELETE", "spampolicy/user/u@ex.com", {}), ("DELETE", "wblist/outbound/blacklist/global", {}),
)
# fmt: on
UNKNOWN = {"qouta": "5", "suspended": "yes", "email_only": "yes", "foo[0]": "x"}
"""No operation's, another one's, and an item of no list."""


async def test_every_write_reports_ignored_parameters(service: Service, root: Client) -> None:
    for method, path, form in MADE:
        await root.ok(method, path, **form)
    for method, path, form in WRITES:
        before = await trace(service.store)
        status, answer = await root.call(
            method, path, data=form | UNKNOWN, params={"strict": "yes"}
        )
        assert (status, answer["_msg"]) == (400, "IGNORED_PARAMETER"), (method, path, answer)
        assert sorted(item["param"] for item in answer["_errors"]) == sorted(UNKNOWN)
        assert await trace(service.store) == before, (method, path)
        status, answer = await root.call(method, path, data=form | UNKNOWN)
        assert (status, answer.get("_ignored")) == (200, sorted(UNKNOWN)), (method, path, answer)
        # What it knows is carried out, and strict is no parameter that nobody knows.
        again = {"data": form} if form else {}
        _, answer = await root.call(method, path, params={"strict": "no"}, **again)
        assert "_ignored" not in answer, (method, path, answer)


async def test_login_and_logout_report_ignored_parameters(store: Store, root: Client) -> None:
    login = {"username": "root@admins.test", "password": PASSWORD}
    for path, form in (("login", login), ("logout", {})):
        for carrier in ("params", "json"):
            more = form | UNKNOWN | ({"strict": "yes"} if carrier == "json" else {})
            query = {"strict": "yes"} if carrier == "params" else {}
            status, answer = await root.call("POST", path, json=more, params=query)
            assert (status, answer["_msg"]) == (400, "IGNORED_PARAMETER"), path
            assert sorted(item["param"] for item in answer["_errors"]) == sorted(UNKNOWN)
            assert (await root.call("GET", "whoami"))[0] == 200  # nobody was logged out
        assert await root.ok("POST", path, strict="yes", **form) in (None, {"_success": True})
        status, answer = await root.call("POST", path, json=form | UNKNOWN)
        assert (status, answer["_ignored"]) == (200, sorted(UNKNOWN)), path
        await root.login("root@admins.test")
    async with serving(store, strict=True, query_login=False) as service:
        client = await service.root()
        assert (await client.refused("POST", "logout", x="1"))[1] == "IGNORED_PARAMETER"
        query = {"strict": "no"}
        assert (await client.call("POST", "login", json=login | UNKNOWN, params=query))[0] == 200


async def test_a_misspelt_name_is_guessed(root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    _, answer = await root.call("PUT", "domain/ex.com", json={"qouta": 5, "strict": True})
    assert "Was quota meant?" in answer["_errors"][0]["detail"]
    status, answer = await root.call("PUT", "domain/ex.com", params={"strict": "perhaps"})
    assert (status, answer["_errors"][0]["param"]) == (400, "strict")


async def test_a_server_may_be_strict(store: Store, root: Client) -> None:
    async with serving(store, strict=True) as service:
        client = await service.root()
        assert (await client.refused("POST", "domain/strict.com", qouta="5"))[2] == ["qouta"]
        status, answer = await client.call("POST", "domain/strict.com?strict=no", data=UNKNOWN)
        assert (status, answer["_ignored"]) == (200, sorted(UNKNOWN))


async def test_cut_values_are_reported(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com", maxUserQuota="100", defaultQuota="90")
    cut = {"param": "quota", "asked": 500, "stored": 100, "why": "MAX_USER_QUOTA"}
    for method, path, form in (
        ("POST", "user/u@ex.com", {"password": PASSWORD, "mailQuota": "500"}),
        ("POST", "user/v@ex.com", {"password": PASSWORD, "quota": "500", "senderBcc": "s@f.test"}),
        ("PUT", "user/u@ex.com", {"quota": "500", "name": "U"}),
        ("PUT", "users/ex.com", {"quota": "500", "language": "de_DE"}),
    ):
        before = await trace(service.store)
        status, answer = await root.call(method, path, data=form, params={"strict": "yes"})
        assert (status, answer["_msg"]) == (400, "VALUE_ADJUSTED"), (path, answer)
        assert [item["param"] for item in answer["_errors"]] == ["quota"]
        assert await trace(service.store) == before, path
        status, answer = await root.call(method, path, data=form)
        assert (status, answer["_adjusted"]) == (200, [cut]), path
    # The value is a default of the server: it is reported all the same.
    await root.ok("PUT", "domain/ex.com", quota="250")
    _, answer = await root.call("POST", "user/w@ex.com", data={"password": PASSWORD})
    assert answer["_adjusted"] == [
        {"param": "quota", "asked": 90, "stored": 50, "why": "DOMAIN_QUOTA"}
    ]
    _, answer = await root.call("PUT", "user/w@ex.com", data={"quota": "50"})
    assert answer == {"_success": True, "_changed": []}


async def test_limits_of_a_global_admin_are_none(root: Client) -> None:
    form = {"password": PASSWORD, "isGlobalAdmin": "yes", "maxDomains": "3", "maxUsers": "4"}
    refused = await root.refused("POST", "admin/a@admins.test", strict="yes", **form)
    assert refused == (400, "IGNORED_PARAMETER", ["maxDomains", "maxUsers"])
    _, answer = await root.call("POST", "admin/a@admins.test", data=form)
    assert answer == {"_success": True, "_ignored": ["maxDomains", "maxUsers"]}
    _, answer = await root.call("PUT", "admin/a@admins.test", data={"maxLists": "4"})
    assert answer == {"_success": True, "_changed": [], "_ignored": ["maxLists"]}


async def test_concurrent_requests_report_their_own_changes(service: Service, root: Client) -> None:
    """Changes that arrive at the same moment share a message, not an answer."""
    await root.ok("POST", "domain/ex.com")
    for number in range(12):
        await root.ok("POST", f"user/u{number}@ex.com", password=PASSWORD, name=f"N{number % 3}")
    await service.context.drain()
    await age(service.store)
    logged = len(await service.store.rows("SELECT id FROM log", "iredadmin"))
    answers = await asyncio.gather(
        *(
            root.call("PUT", f"user/u{n}@ex.com", data={"name": "N1", "gn": "" if n % 2 else "G"})
            for n in range(12)
        )
    )
    wanted = [
        [name for name, is_new in (("gn", n % 2 == 0), ("name", n % 3 != 1)) if is_new]
        for n in range(12)
    ]
    assert [answer["_changed"] for _, answer in answers] == wanted
    await service.context.drain()
    rows = await service.store.rows("SELECT id FROM log", "iredadmin")
    assert len(rows) - logged == sum(map(bool, wanted))
    if service.store.name != "openldap":
        rows = await service.store.rows("SELECT modified FROM mailbox ORDER BY username")
        old = sum(str(row["modified"]).startswith(LONG_AGO) for row in rows)
        assert old == sum(not names for names in wanted)


async def test_a_password_that_is_in_use(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not set it does not learn whether it is right, nor from the time."""
    hasher, work = service.context.hasher, list[str]()
    make, verify = hasher.hash, hasher.verify

    async def making(plain: str, *more: Any) -> str:
        work.append("hash")
        return await make(plain, *more)

    async def verifying(plain: str, stored: str) -> bool:
        work.append("verify")
        return await verify(plain, stored)

    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "domain/other.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    await root.ok("PUT", "domain/admins/other.com", addAdmin="u@ex.com")
    admin = await service.admin_of("ex.com")
    monkeypatch.setattr(hasher, "hash", making)
    monkeypatch.setattr(hasher, "verify", verifying)
    for password in (PASSWORD, "An0ther-Horse"):
        refused = await admin.refused("PUT", "user/u@ex.com", password=password)
        assert refused == (403, "PERMISSION_DENIED", ["password"])
    monkeypatch.undo()
    assert work == ["hash", "verify"] * 2
    _, answer = await root.call("PUT", "user/u@ex.com", data={"password": PASSWORD})
    assert answer["_changed"] == []
    _, answer = await root.call("PUT", "user/u@ex.com", data={"password": "An0ther-Horse"})
    assert answer["_changed"] == ["password"]
    await root.ok("POST", "verify_password/user/u@ex.com", password="An0ther-Horse")
    # Of another scheme: the hash is made anew.
    await root.ok("PUT", "user/u@ex.com", password_hash="{SHA}+SzwEI1zT4dDC7RJ0f4xMxkIqxs=")
    _, answer = await root.call("PUT", "user/u@ex.com", data={"password": "Corr3ct-Horse"})
    assert answer["_changed"] == ["password"]
