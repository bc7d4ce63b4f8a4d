"""Lists in pages: order, cursors, search, choice and total, the same on every storage."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_hostile_values import CORPUS
from tests.clients import PASSWORD, Client, Service
from tests.servers.openldap import account_dn

DOMAIN, OTHER = "ex.com", "else.org"
NAMES = {
    "ann": "100% Real", "axb": "AxB", "bob": "A_B", "cid": "A*B", "dan": "A\\B", "eve": "A(B)",
    "fay": "Ünïcode Él", "gus": "zero", "hal": "Zebra",
}  # fmt: skip
"""Local parts and names of the users; every second one is disabled, the quota is the place."""


async def _fill(root: Client) -> None:
    await root.ok("POST", f"domain/{DOMAIN}")
    await root.ok("POST", f"domain/{OTHER}")
    for place, (local, name) in enumerate(NAMES.items()):
        form = {"name": name, "quota": str(100 - place), "employeeid": f"emp-{place}"}
        status = "disabled" if place % 2 else "active"
        await root.ok(
            "POST", f"user/{local}@{DOMAIN}", password=PASSWORD, accountStatus=status, **form
        )
    await root.ok("POST", f"user/ann@{OTHER}", password=PASSWORD, name="A_B")


async def _answer(client: Client, path: str, **form: Any) -> dict[str, Any]:
    status, answer = await client.call("GET", path, params=form)
    assert (status, answer["_success"]) == (200, True), answer
    return answer


async def _walk(client: Client, path: str, **form: Any) -> list[Any]:
    """Return what all pages of a list have, one after the other."""
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = await _answer(client, path, **form, **more)
        assert len(answer["_data"]) <= int(form["limit"])
        found += answer["_data"]
        cursor = answer["_next"]
    return found


def _mails(*locals_: str) -> list[str]:
    return [f"{local}@{DOMAIN}" for local in locals_]


async def test_every_order_of_users_in_pages(service: Service, root: Client) -> None:
    await _fill(root)
    path, plain = f"users/{DOMAIN}", {"email_only": "yes"}
    published = await root.ok("GET", path, **plain)
    assert published == _mails(*NAMES)
    sent = [(f"gus@{DOMAIN}", 3), (f"bob@{DOMAIN}", 7), (f"axb@{DOMAIN}", 5)]
    for mail, size in sent:
        row = {"username": mail, "bytes": size, "messages": 1, "domain": DOMAIN}
        await service.store.insert("used_quota", row, database=service.store.accounts)
    unused = [local for local in NAMES if local not in ("gus", "axb", "bob")]
    wanted = {
        "address": _mails(*NAMES),
        "quota": _mails(*reversed(NAMES)),
        "used": _mails(*unused, "gus", "axb", "bob"),
    }
    for sort in ("address", "name", "created", "modified", "quota", "used"):
        whole = await root.ok("GET", path, sort=sort, **plain)
        backward = await root.ok("GET", path, sort=f"-{sort}", **plain)
        assert whole == wanted.get(sort, whole)
        assert sorted(whole) == published
        assert backward == whole[::-1], sort
        for limit in (1, 4, 9):
            form = plain | {"limit": limit}
            assert await _walk(root, path, sort=sort, **form) == whole, (sort, limit)
            assert await _walk(root, path, sort=f"-{sort}", **form) == backward, (sort, limit)
    for view, key in (("canonical", "mail"), ("native", "username")):
        items = await _walk(root, path, limit=4, view=view)
        assert items == await root.ok("GET", path, view=view), view
        assert [_name(item, key) for item in items] == published


def _name(item: dict[str, Any], key: str) -> str:
    found = item.get(key) or item["mail"]
    return str(found[0] if isinstance(found, list) else found)


async def test_the_envelope_of_a_page(root: Client) -> None:
    await _fill(root)
    path = f"users/{DOMAIN}"
    plain = await _answer(root, path, email_only="yes")
    assert list(plain) == ["_success", "_data"]
    page = await _answer(root, path, email_only="yes", limit="2", total="yes")
    assert list(page) == ["_success", "_data", "_next", "_total"]
    assert (page["_data"], page["_total"]) == (_mails("ann", "axb"), len(NAMES))
    following = await _answer(root, path, email_only="yes", cursor=page["_next"])
    assert (following["_data"], following["_next"]) == (_mails(*NAMES)[2:], None)
    whole = await _answer(root, path, email_only="yes", total="yes", status="disabled")
    assert list(whole) == ["_success", "_data", "_total"]
    assert (len(whole["_data"]), whole["_total"]) == (4, 4)
    # A page that ends with the last item has nothing behind it.
    assert (await _answer(root, path, limit=len(NAMES)))["_next"] is None
    page = await _answer(root, path, limit="2", view="canonical", fields="quota,MAIL")
    assert page["_data"] == [
        {"mail": f"ann@{DOMAIN}", "quota": 100}, {"mail": f"axb@{DOMAIN}", "quota": 99},
    ]  # fmt: skip


SEARCHES: list[tuple[str, list[str]]] = [
        ("100%", ["ann"]), ("0%", ["ann"]), ("%%", []), ("a_b", ["bob"]), ("__", []),
        ("a*b", ["cid"]), ("**", []), ("a\\b", ["dan"]), ("\\\\", []), ("\\b", ["dan"]),
        ("a(b", ["eve"]), ("b)", ["eve"]), (")(cn=", []), ("ÜN", ["fay"]), ("él", ["fay"]),
        ("' or '1", []), ("ze", ["gus", "hal"]), ("EMP-8", ["hal"]), ("hal@EX.com", ["hal"]),
        ("@ex", list(NAMES)), ("no-such", []), (" axb ", ["axb"]),
]  # fmt: skip
"""Texts, and whom they find."""


async def test_search_takes_every_character_as_it_is(root: Client) -> None:
    await _fill(root)
    for text, locals_ in SEARCHES:
        answer = await _answer(
            root, f"users/{DOMAIN}", search=text, email_only="yes", limit="100", total="yes"
        )
        assert (answer["_data"], answer["_total"]) == (_mails(*locals_), len(locals_)), text


WRONG: list[tuple[dict[str, str], str, list[str]]] = [
    ({"search": "a"}, "INVALID_TEXT", ["search"]),
    ({"search": " a "}, "INVALID_TEXT", ["search"]),
    ({"search": ""}, "EMPTY_NOT_ALLOWED", ["search"]),
    ({"search": "a\0b"}, "INVALID_TEXT", ["search"]),
    ({"search": "a\nb"}, "INVALID_TEXT", ["search"]),
    ({"search": "a" * 256}, "INVALID_TEXT", ["search"]),
    ({"limit": "0"}, "INVALID_NUMBER", ["limit"]),
    ({"limit": "1001"}, "INVALID_NUMBER", ["limit"]),
    ({"limit": "x"}, "INVALID_NUMBER", ["limit"]),
    ({"limit": ""}, "EMPTY_NOT_ALLOWED", ["limit"]),
    ({"sort": "password"}, "INVALID_VALUE", ["sort"]),
    ({"sort": "--name"}, "INVALID_VALUE", ["sort"]),
    ({"status": "gone"}, "INVALID_VALUE", ["status"]),
    ({"total": "2"}, "INVALID_VALUE", ["total"]),
    ({"modified_since": "yesterday"}, "INVALID_VALUE", ["modified_since"]),
    ({"modified_since": "0001-01-01T00:00:00+14:00"}, "INVALID_VALUE", ["modified_since"]),
    ({"fields": "mail,nothing", "view": "canonical"}, "INVALID_VALUE", ["fields"]),
    ({"fields": "nothing"}, "INVALID_VALUE", ["fields"]),
    ({"fields": "a b"}, "INVALID_VALUE", ["fields"]),
    ({"fields": ","}, "EMPTY_NOT_ALLOWED", ["fields"]),
    ({"with": ""}, "EMPTY_NOT_ALLOWED", ["with"]),
    ({"fields": "mail", "email_only": "yes"}, "CONFLICTING_PARAMETERS", ["email_only", "fields"]),
    (
        {"status": "active", "disabled_only": "yes"},
        "CONFLICTING_PARAMETERS",
        ["disabled_only", "status"],
    ),
    ({"cursor": "AAAA"}, "INVALID_CURSOR", ["cursor"]),
    ({"cursor": "é"}, "INVALID_CURSOR", ["cursor"]),
    ({"cursor": "A" * 9000}, "INVALID_CURSOR", ["cursor"]),
    ({"cursor": ""}, "EMPTY_NOT_ALLOWED", ["cursor"]),
]


async def test_wrong_parameters_of_a_list(root: Client) -> None:
    await root.ok("POST", f"domain/{DOMAIN}")
    for form, code, params in WRONG:
        found = await root.refused("GET", f"users/{DOMAIN}", **form)
        assert found == (400, code, params), form
    _, answer = await root.call(
        "GET", f"users/{DOMAIN}", params={"fields": "x", "view": "canonical"}
    )
    detail = answer["_errors"][0]["detail"]
    assert detail.startswith("Items have no x. They have ")
    assert "mail, " in detail


async def test_choice_by_status_and_time(root: Client) -> None:
    await _fill(root)
    path, plain = f"users/{DOMAIN}", {"email_only": "yes"}
    active, disabled = _mails(*list(NAMES)[::2]), _mails(*list(NAMES)[1::2])
    assert await root.ok("GET", path, status="active", **plain) == active
    assert await _walk(root, path, status="disabled", limit=1, **plain) == disabled
    assert await _walk(root, path, disabled_only="yes", limit=3, **plain) == disabled
    for moment, wanted in (
        ("2020-01-01", _mails(*NAMES)), ("2020-01-01T00:00:00Z", _mails(*NAMES)),
        ("2099-01-01 00:00:00", []),
    ):  # fmt: skip
        assert await root.ok("GET", path, modified_since=moment, **plain) == wanted, moment


async def test_a_cursor_is_for_one_list_one_query_and_one_admin(
    service: Service, root: Client
) -> None:
    await _fill(root)
    path, form = f"users/{DOMAIN}", {"limit": "2", "search": "ex.com"}
    cursor = (await _answer(root, path, **form))["_next"]
    admin = await service.admin_of(DOMAIN)
    others: list[tuple[Client, str, dict[str, str]]] = [
        (root, f"users/{OTHER}", form),
        (root, path, {"limit": "2"}),
        (root, path, form | {"search": "ex.co"}),
        (root, path, form | {"sort": "-address"}),
        (root, path, form | {"sort": "name"}),
        (root, path, form | {"status": "active"}),
        (root, path, form | {"modified_since": "2020-01-01"}),
        (admin, path, form),
    ]
    answers = set()
    for client, where, query in others:
        status, answer = await client.call("GET", where, params=query | {"cursor": cursor})
        assert (status, answer["_msg"]) == (400, "INVALID_CURSOR"), query
        answers.add(str(answer["_errors"]))
    status, answer = await root.call("GET", path, params=form | {"cursor": cursor[:-1] + "_"})
    assert {*answers, str(answer["_errors"])} == answers
    assert len(answers) == 1
    # What does not choose items may change.
    found = await _answer(root, path, **form | {"cursor": cursor, "limit": "1", "total": "yes"})
    assert ([_name(item, "username") for item in found["_data"]]) == _mails("bob")
    assert await admin.refused("GET", f"users/{OTHER}", limit="2") == (403, "PERMISSION_DENIED", [])


@pytest.mark.parametrize("sort", ["address", "-quota"])
async def test_a_walk_has_everybody_once_while_others_come_and_go(root: Client, sort: str) -> None:
    await _fill(root)
    path, form = f"users/{DOMAIN}", {"limit": "2", "sort": sort, "email_only": "yes"}
    first = await _answer(root, path, **form)
    reached = first["_data"][-1]
    gone = next(mail for mail in _mails(*NAMES) if mail not in first["_data"])
    await root.ok("DELETE", f"user/{reached}")
    await root.ok("DELETE", f"user/{gone}")
    for local in ("a0", "bobby", "zz"):
        await root.ok("POST", f"user/{local}@{DOMAIN}", password=PASSWORD, quota="50")
    found, cursor = first["_data"], first["_next"]
    while cursor is not None:
        answer = await _answer(root, path, **form, cursor=cursor)
        found, cursor = found + answer["_data"], answer["_next"]
    throughout = set(_mails(*NAMES)) - {reached, gone}
    assert throughout <= set(found)
    assert len(found) == len(set(found))


LOCALS = ("ann", "bob_x", "cid", "dan", "eve")


async def _add_lists(service: Service) -> None:
    """Mailing lists as other programs add them: no list server is needed."""
    for place, local in enumerate(LOCALS):
        mail, name = f"l-{local}@{DOMAIN}", f"N{9 - place}"
        if service.store.name == "openldap":
            entry = {"objectClass": "mailList", "mail": mail, "enabledService": "mlmmj"}
            more = {"accountStatus": "disabled" if place % 2 else "active", "cn": name}
            service.store.directory.add(account_dn(mail, "Groups"), entry | more)
        else:
            row = {"address": mail, "domain": DOMAIN, "mlid": local, "name": name}
            await service.store.insert("maillists", row | {"active": int(not place % 2)})


async def test_the_other_lists_in_pages(service: Service, root: Client) -> None:
    await root.ok("POST", f"domain/{DOMAIN}", name="Zoo", quota="7")
    for place, local in enumerate(LOCALS):
        status, name = ("disabled" if place % 2 else "active"), f"N{9 - place}"
        form = {"accountStatus": status, "name": name}
        await root.ok("POST", f"alias/a-{local}@{DOMAIN}", members=f"x{place}@far.org", **form)
        await root.ok(
            "POST", f"domain/{local.replace('_', '-')}.test", quota=str(90 - place), **form
        )
    await _add_lists(service)
    domains = [f"{local.replace('_', '-')}.test" for local in LOCALS]
    every: dict[str, tuple[str, list[str], list[str]]] = {
        f"aliases/{DOMAIN}": ("email_only", _mails(*(f"a-{n}" for n in LOCALS)), ["name"]),
        f"mls/{DOMAIN}": ("email_only", _mails(*(f"l-{n}" for n in LOCALS)), ["name"]),
        "domains": ("name_only", domains, ["name", "quota"]),
    }
    for path, (switch, names, sorts) in every.items():
        form = {switch: "yes", "limit": "2"}
        first = "domain" if path == "domains" else "address"
        choice = {"search": ".test"} if path == "domains" else {}
        assert await _walk(root, path, **form, **choice) == names, path
        assert await _walk(root, path, **form, **choice, sort=f"-{first}") == names[::-1], path
        for sort in sorts:
            assert await _walk(root, path, **form, **choice, sort=sort) == names[::-1], path
        for sort in ("created", "modified"):
            found = await _walk(root, path, **form, **choice, sort=sort)
            assert sorted(found) == names, (path, sort)
        assert await _walk(root, path, **form, **choice, status="disabled") == names[1::2], path
        assert await _walk(root, path, **form, search="an") == [names[0], names[3]], path
        assert await _walk(root, path, **form, search="b_") == [n for n in names if "b_" in n]
        assert await _walk(root, path, **form, search="n7") == [names[2]], path
        for view in ("native", "canonical"):
            items = await _walk(root, path, view=view, limit=2)
            assert items == await root.ok("GET", path, view=view), (path, view)
        key = "domain" if path == "domains" else "mail"
        page = await _answer(root, path, limit=1, view="canonical", fields=key, total="yes")
        assert [list(item) for item in page["_data"]] == [[key]]
        assert page["_total"] == len(names) + (path == "domains")
    admin = await service.admin_of(DOMAIN, domains[0])
    mine = await _walk(admin, "domains", name_only="yes", limit=1)
    assert mine == sorted([DOMAIN, domains[0]])
    page = await _answer(admin, "domains", limit=1, total="yes", search=".test", name_only="yes")
    assert (page["_data"], page["_next"], page["_total"]) == ([domains[0]], None, 1)
    nobody = await service.admin_of(mail="nobody@admins.test")
    page = await _answer(nobody, "domains", limit=1, total="yes")
    assert (page["_data"], page["_next"], page["_total"]) == ([], None, 0)


async def test_hostile_texts_find_nothing_and_break_nothing(root: Client) -> None:
    await root.ok("POST", f"domain/{DOMAIN}")
    await root.ok("POST", f"user/ann@{DOMAIN}", password=PASSWORD, name="Ann")
    for kind, value in CORPUS.items():
        if kind == "surrogate":  # no URL can have it
            continue
        for path, name in (
            (f"users/{DOMAIN}", "search"), ("users", "search"), ("domains", "search"),
            ("search", "q"), (f"users/{DOMAIN}", "fields"), (f"users/{DOMAIN}", "sort"),
            (f"users/{DOMAIN}", "cursor"), (f"users/{DOMAIN}", "modified_since"),
        ):  # fmt: skip
            status, answer = await root.call("GET", path, params={name: value, "limit": "5"})
            if status == 200:
                assert answer["_data"] == [], (kind, path, name)
            else:
                wrong = {item["param"] for item in answer["_errors"]}
                assert (status, wrong) == (400, {name}), (kind, path, answer)


@pytest.mark.stores("mariadb")
async def test_a_page_reads_a_range_of_an_index(service: Service, root: Client) -> None:
    """The whole domain is read for another order only: the server counts what it reads."""
    store = service.store
    await root.ok("POST", f"domain/{DOMAIN}")
    await store.execute(
        "INSERT INTO mailbox (username, password, domain, settings, disclaimer)"
        f" SELECT CONCAT('u', seq, '@{DOMAIN}'), 'x', '{DOMAIN}', '', '' FROM seq_1_to_3000"
    )

    async def reads() -> int:
        rows = await store.rows("SHOW GLOBAL STATUS LIKE 'Handler_read%'")
        return sum(int(row["Value"]) for row in rows)

    costs: dict[str, list[int]] = {}
    for sort in ("address", "-address", "created") * 3:
        before = await reads()
        await root.ok("GET", f"users/{DOMAIN}", limit="5", email_only="yes", sort=sort)
        costs.setdefault(sort, []).append(await reads() - before)
    # At times the tables are looked at again, which reads some rows, too.
    least = {sort: min(found) for sort, found in costs.items()}
    assert least["address"] < 300, costs
    assert least["-address"] < 300, costs
    assert least["created"] > 3000, costs
