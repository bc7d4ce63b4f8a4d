"""Lists, searches and addresses over all domains of an admin; nothing of others is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import PASSWORD, ROOT, Client, Service
from tests.contract.test_statement_counts import counted
from tests.servers.openldap import account_dn

OWN, OTHER = "own.com", "other.org"


async def _fill(service: Service, root: Client) -> None:
    for domain, name in ((OWN, "Firm"), (OTHER, "Strangers")):
        await root.ok("POST", f"domain/{domain}", name=name)
        for local in ("ann", "bob", "cid"):
            mail = f"{local}@{domain}"
            await root.ok("POST", f"user/{mail}", password=PASSWORD, name=f"Person {local}")
        await root.ok("POST", f"alias/sales@{domain}", members=f"ann@{domain}", name="Sales")
        mail = f"list@{domain}"
        if service.store.name == "openldap":
            entry = {"objectClass": "mailList", "mail": mail, "accountStatus": "active"}
            entry |= {"enabledService": "mlmmj", "cn": "News"}
            service.store.directory.add(account_dn(mail, "Groups"), entry)
        else:
            row = {"address": mail, "domain": domain, "mlid": domain, "name": "News"}
            await service.store.insert("maillists", row)


async def _walk(client: Client, path: str, **form: Any) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        status, answer = await client.call("GET", path, params=form | {"limit": "2"} | more)
        assert (status, answer["_success"]) == (200, True), answer
        found, cursor = found + answer["_data"], answer["_next"]
    return found


def _mails(*locals_: str, domains: tuple[str, ...] = (OTHER, OWN)) -> list[str]:
    return [f"{local}@{domain}" for local in locals_ for domain in domains]


async def test_lists_over_all_domains(service: Service, root: Client) -> None:
    await _fill(service, root)
    admin = await service.admin_of(OWN)
    nobody = await service.admin_of(mail="nobody@admins.test")
    wanted = {"users": ("ann", "bob", "cid"), "aliases": ("sales",), "mls": ("list",)}
    for path, locals_ in wanted.items():
        plain, mine = {"email_only": "yes"}, _mails(*locals_, domains=(OWN,))
        assert await _walk(root, path, **plain) == _mails(*locals_), path
        assert await root.ok("GET", path, **plain) == _mails(*locals_), path
        assert await _walk(admin, path, **plain) == mine, path
        assert await admin.ok("GET", path, search=OTHER) == []
        assert await nobody.ok("GET", path) == []
        for view in ("native", "canonical"):
            shown = await _walk(admin, path, view=view)
            assert shown == await admin.ok("GET", f"{path}/{OWN}", view=view), (path, view)
        status, answer = await admin.call("GET", path, params={"total": "yes", "limit": "1"})
        assert (status, answer["_total"]) == (200, len(locals_))
        # The place of another admin's cursor is refused.
        if len(locals_) > 1:
            status, answer = await root.call("GET", path, params={"cursor": answer["_next"]})
            assert (status, answer["_msg"]) == (400, "INVALID_CURSOR")
    by_name = await root.ok("GET", "users", email_only="yes", sort="-name")
    assert by_name == _mails("ann", "bob", "cid")[::-1]


async def test_search_over_all_kinds(service: Service, root: Client) -> None:
    await _fill(service, root)
    admin = await service.admin_of(OWN)

    async def found(client: Client, q: str, **form: Any) -> list[tuple[str, str, bool]]:
        items = await client.ok("GET", "search", q=q, **form)
        return [(item["kind"], item["address"], item["exact"]) for item in items]

    assert await found(root, "ANN") == [
        ("user", f"ann@{OTHER}", False), ("user", f"ann@{OWN}", False),
    ]  # fmt: skip
    everything = [
        ("domain", OWN, True), ("user", f"ann@{OWN}", False), ("user", f"bob@{OWN}", False),
        ("user", f"cid@{OWN}", False), ("alias", f"sales@{OWN}", False),
        ("ml", f"list@{OWN}", False),
    ]  # fmt: skip
    assert await found(root, OWN) == await found(admin, OWN) == everything
    assert await found(root, f"Cid@{OWN}", limit="1") == [("user", f"cid@{OWN}", True)]
    # An exact match is there although others come before it.
    for local in ("a1bob", "a2bob"):
        await root.ok("POST", f"user/{local}@{OWN}", password=PASSWORD)
    assert await found(root, f"bob@{OWN}", limit="1") == [("user", f"bob@{OWN}", True)]
    assert await found(admin, "news", kind="ml,user") == [("ml", f"list@{OWN}", False)]
    assert await found(admin, "strangers") == []
    assert await found(admin, f"bob@{OTHER}") == []
    assert await found(admin, f"bob@{OTHER}", limit="1") == []
    assert await found(admin, OTHER, limit="1") == []
    for text in ("%%", "__", "**", "\\\\", "(("):
        assert await found(root, text) == [], text
    for form, code, param in (
        ({"q": "a"}, "INVALID_TEXT", "q"), ({}, "REQUIRED", "q"),
        ({"q": "ab", "kind": "group"}, "INVALID_VALUE", "kind"),
        ({"q": "ab", "kind": ""}, "EMPTY_NOT_ALLOWED", "kind"),
        ({"q": "ab", "limit": "0"}, "INVALID_NUMBER", "limit"),
    ):  # fmt: skip
        assert await root.refused("GET", "search", **form) == (400, code, [param])
    items = await root.ok("GET", "search", q="person bob")
    assert [(item["name"], item["accountStatus"]) for item in items] == [
        ("Person bob", "active"), ("Person bob", "active"),
    ]  # fmt: skip


async def test_every_search_takes_characters_as_they_are(service: Service, root: Client) -> None:
    """Wildcards of SQL and LDAP, and what they escape with, stand for themselves everywhere."""
    marks = {"percent": "%", "line": "_", "star": "*", "slash": "\\", "round": "(", "none": "o"}
    for word, mark in marks.items():
        name = {"name": f"n{mark}x"}
        await root.ok("POST", f"domain/{word}.com", **name)
        await root.ok("POST", f"alias/{word}@{word}.com", **name)
        await root.ok("POST", f"admin/{word}@admins.test", password=PASSWORD, **name)
    paths = {
        "domains": ("search", ["{}.com"]), "aliases": ("search", ["{0}@{0}.com"]),
        "admins": ("search", ["{}@admins.test"]),
        "search": ("q", ["{}.com", "{0}@{0}.com"]),
    }  # fmt: skip
    for path, (param, expected) in paths.items():
        for word, mark in marks.items():
            form = {param: f"n{mark}x", "limit": "50"}
            items = await root.ok("GET", path, **form)
            found = [_name_of(item) for item in items]
            assert found == [one.format(word) for one in expected], (path, mark)
        for wrong in ("%", "n\0x", "(", " * "):
            assert await root.refused("GET", path, **{param: wrong}) == (
                400, "INVALID_TEXT", [param],
            )  # fmt: skip
    for path in ("users", "mls", "alias_domains"):
        for mark in marks.values():
            assert await root.ok("GET", path, search=f"n{mark}x") == []


def _name_of(item: dict[str, Any]) -> str:
    found = item.get("address") or item.get("mail") or item.get("domain") or item["domainName"]
    return str(found[0] if isinstance(found, list) else found)


async def test_what_an_address_is(service: Service, root: Client) -> None:
    await root.ok("POST", f"admin/admin@{OWN}", password=PASSWORD)
    await _fill(service, root)
    await root.ok("PUT", f"user/ann@{OWN}", addAlias=f"other-ann@{OWN}")
    await root.ok("PUT", f"domain/{OWN}", aliasDomains="alias.com", catchall="far@far.org")
    admin = await service.admin_of(OWN)
    wanted = {
        "ann": ("user", f"ann@{OWN}"), "Sales": ("alias", f"sales@{OWN}"),
        "list": ("ml", f"list@{OWN}"), "other-ann": ("alias_address", f"ann@{OWN}"),
        "new": ("free", None), "admin": ("admin", f"admin@{OWN}"),
    }  # fmt: skip
    if service.store.name != "openldap":
        row = {"address": f"hop@{OWN}", "forwarding": "far@far.org", "domain": OWN}
        await service.store.insert("forwardings", row)
        wanted["hop"] = ("forwarding", None)
        row = {"address": f"far@{OWN}", "forwarding": f"bob@{OTHER}", "domain": OWN}
        await service.store.insert("forwardings", row | {"is_alias": 1})
    else:
        far = account_dn(f"bob@{OTHER}")
        service.store.directory.modify(far, add={"shadowAddress": f"far@{OWN}"})
    for local, (kind, account) in wanted.items():
        found = await admin.ok("GET", f"exists/{local}@{OWN}")
        assert found == {"mail": f"{local}@{OWN}".lower(), "kind": kind, "account": account}
    # Who has it is not for the admins of another domain.
    for client, account in ((root, f"bob@{OTHER}"), (admin, None)):
        found = await client.ok("GET", f"exists/far@{OWN}")
        assert (found["kind"], found["account"]) == ("alias_address", account)
    assert await admin.refused("GET", f"exists/ann@{OTHER}") == (403, "PERMISSION_DENIED", [])
    assert await admin.refused("GET", "exists/x@nowhere.net") == (403, "PERMISSION_DENIED", [])
    assert await root.refused("GET", "exists/x@nowhere.net") == (404, "NO_SUCH_DOMAIN", [])
    assert await root.refused("GET", "exists/x@alias.com") == (404, "NO_SUCH_DOMAIN", [])
    # What is said to be free can be created, and what is not cannot.
    await root.ok("POST", f"user/new@{OWN}", password=PASSWORD)
    for local in wanted:
        status, code, _ = await root.refused("POST", f"user/{local}@{OWN}", password=PASSWORD)
        assert (status, code) == (409, "ALREADY_EXISTS"), local
    # Nobody has these, but a new account cannot have them either.
    for local in ("", "an%20n", "x(", "*", "%25", "+ann", "new+x", ".new", "n..w", "%C3%BC"):
        for client in (root, admin):
            refused = await client.refused("GET", f"exists/{local}@{OWN}")
            assert refused == (400, "INVALID_MAIL", ["mail"]), local
        refused = await root.refused("POST", f"alias/{local}@{OWN}")
        assert refused == (400, "INVALID_MAIL", ["mail"]), local


async def test_admins_of_both_kinds(service: Service, root: Client) -> None:
    await root.ok("POST", f"domain/{OWN}", quota="500", numberOfUsers="7", numberOfLists="-1")
    await root.ok("POST", f"domain/{OTHER}", quota="30", numberOfAliases="3")
    for local in ("ann", "bob"):
        await root.ok(
            "POST", f"user/{local}@{OWN}", password=PASSWORD, name=f"U {local}", quota="9"
        )
    await root.ok("PUT", f"user/bob@{OWN}", isGlobalAdmin="yes")
    await root.ok("PUT", f"domain/admins/{OWN}", addAdmin=f"ann@{OWN}")
    limits = {"maxDomains": "5", "maxQuota": "2", "quotaUnit": "GB", "maxUsers": "-1"}
    admin = await service.admin_of(OWN, OTHER, mail="zoe@admins.test", **limits, name="A zoe")
    await service.admin_of(mail="off@admins.test")
    await root.ok("PUT", "admin/off@admins.test", accountStatus="disabled")
    every = await _walk(root, "admins")
    assert [(item["mail"], item["kind"], item["isGlobalAdmin"]) for item in every] == [
        (f"ann@{OWN}", "user", "no"), (f"bob@{OWN}", "user", "yes"),
        ("off@admins.test", "admin", "no"), (ROOT, "admin", "yes"),
        ("zoe@admins.test", "admin", "no"),
    ]  # fmt: skip
    assert every == await root.ok("GET", "admins")
    zoe = every[-1]
    assert {name: value for name, value in zoe.items() if name.startswith(("max", "used"))} == {
        "maxDomains": 5, "maxQuota": 2, "maxUsers": -1, "maxAliases": 0, "maxLists": 0,
        "usedDomains": 2, "usedQuota": 530, "usedUsers": 7, "usedAliases": 3, "usedLists": 0,
    }  # fmt: skip
    assert (zoe["quotaUnit"], zoe["managedDomains"], zoe["name"]) == ("GB", [OTHER, OWN], "A zoe")
    assert (every[0]["managedDomains"], every[0]["usedQuota"]) == ([OWN], 500)
    mails = [item["mail"] for item in every]
    assert [item["mail"] for item in await _walk(root, "admins", sort="-address")] == mails[::-1]
    by_name = await _walk(root, "admins", sort="name", fields="mail,name")
    assert [item["mail"] for item in by_name][:1] == ["zoe@admins.test"]
    assert [[*item] for item in by_name] == [["mail", "name"]] * 5
    disabled = await root.ok("GET", "admins", status="disabled")
    assert [item["mail"] for item in disabled] == ["off@admins.test"]
    assert [item["mail"] for item in await root.ok("GET", "admins", search="A ZOE")] == mails[-1:]
    status, answer = await root.call("GET", "admins", params={"limit": "2", "total": "yes"})
    assert (status, answer["_total"]) == (200, 5)
    assert await root.refused("GET", "admins", fields="password") == (
        400, "INVALID_VALUE", ["fields"],
    )  # fmt: skip
    assert await admin.refused("GET", "admins") == (403, "PERMISSION_DENIED", [])


async def test_alias_domains(service: Service, root: Client) -> None:
    await root.ok("POST", f"domain/{OWN}", aliasDomains="b.test,c.test")
    await root.ok("POST", f"domain/{OTHER}", aliasDomains="a.test,d.test")
    admin = await service.admin_of(OWN)
    every = [
        {"aliasDomain": f"{name}.test", "domain": target, "accountStatus": "active"}
        for name, target in (("a", OTHER), ("b", OWN), ("c", OWN), ("d", OTHER))
    ]
    assert await _walk(root, "alias_domains") == await root.ok("GET", "alias_domains") == every
    assert await _walk(admin, "alias_domains") == every[1:3]
    by_target = await _walk(root, "alias_domains", sort="-target", fields="aliasDomain")
    assert [item["aliasDomain"][0] for item in by_target] == ["c", "b", "d", "a"]
    assert await admin.ok("GET", "alias_domains", search="d.te") == []
    assert await root.ok("GET", "alias_domains", search=OTHER) == [every[0], every[3]]
    assert await root.ok("GET", "alias_domains", status="disabled") == []
    wrong = (400, "INVALID_VALUE", ["sort"])
    assert await root.refused("GET", "alias_domains", sort="created") == wrong


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_statements_do_not_grow_with_the_page(service: Service, root: Client) -> None:
    await _fill(service, root)
    row = {"password": "x", "domain": OWN, "settings": ""}
    await service.store.insert("mailbox", *({"username": f"u{n}@{OWN}"} | row for n in range(150)))
    forms: tuple[dict[str, str], ...] = (
        {},
        {"view": "canonical"},
        {"sort": "used"},
        {"total": "yes", "search": "own"},
    )
    for path in (f"users/{OWN}", "users", "search", "admins"):
        for form in {"search": ({"q": "own"},), "admins": ({},)}.get(path, forms):
            costs = []
            for limit in ("1", "1", "100"):
                call = root.ok("GET", path, limit=limit, **form)
                costs.append((await counted(service, call)).total())
            assert costs[1] == costs[2] <= 20, (path, form, costs)


@pytest.mark.stores("openldap")
async def test_unsubscribable_lists_in_pages(root: Client) -> None:
    await root.ok("POST", f"domain/{OWN}")
    await root.ok("POST", f"user/ann@{OWN}", password=PASSWORD)
    for local in ("one", "two", "six"):
        members = f"ann@{OWN},x@far.org"
        await root.ok("POST", f"maillist/{local}@{OWN}", members=members, name=f"L {local}")
    listed = await root.ok("GET", f"maillists/{OWN}", email_only="yes")
    assert listed == _mails("one", "six", "two", domains=(OWN,))
    for view in ("native", "canonical"):
        shown = await _walk(root, f"maillists/{OWN}", view=view)
        assert shown == [await root.ok("GET", f"maillist/{mail}", view=view) for mail in listed]
    assert await _walk(root, f"maillists/{OWN}", email_only="yes", sort="-name") == listed[::-1]
    assert [item["kind"] for item in await root.ok("GET", "search", q="two@")] == ["maillist"]
    assert (await root.ok("GET", f"exists/two@{OWN}"))["kind"] == "maillist"
