"""White- and blacklists: the rows that iRedAPD and Amavisd obey, on every database."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from iredapi.domain import addresses, sender_patterns
from tests.api.amavisd import add_address, add_user, local_test, rows, statements, users
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import Store

_PAIRS = {
    "inbound": (
        "SELECT u.email AS account, u.priority AS p1, u.policy_id, m.email AS address,"
        " m.priority AS p2, w.wb FROM wblist w JOIN users u ON u.id = w.rid"
        " JOIN mailaddr m ON m.id = w.sid ORDER BY u.priority DESC, m.priority DESC, m.email"
    ),
    "outbound": (
        "SELECT u.email AS account, u.priority AS p1, u.policy_id, m.email AS address,"
        " m.priority AS p2, w.wb FROM outbound_wblist w JOIN users u ON u.id = w.sid"
        " JOIN mailaddr m ON m.id = w.rid ORDER BY u.priority DESC, m.priority DESC, m.email"
    ),
}
GLOBAL, DOMAIN, USER = "global", "local.test", "u@local.test"
# Account, scale-M priority and policy of each scope; 1 is the shipped global policy.
AT = {GLOBAL: ("@.", 0, 1), DOMAIN: ("@local.test", 5, 0), USER: ("u@local.test", 10, 0)}


async def pairs(store: Store, direction: str = "inbound") -> list[tuple[Any, ...]]:
    """Account, its priority and policy, address, its priority, mark; nothing is dangling."""
    found = [tuple(row.values()) for row in await rows(store, _PAIRS[direction])]
    table = "wblist" if direction == "inbound" else "outbound_wblist"
    assert len(found) == len(await rows(store, f"SELECT wb FROM {table}"))
    return found


# (calls, expected rows): account scope, address, its priority, mark; the order is the daemon's.
_Call = tuple[str, str, str]
_Expected = list[tuple[str, str, int, str]]
_W, _B = "whitelist", "blacklist"
RECIPES: dict[str, tuple[str, list[_Call], _Expected]] = {
    "global B": ("inbound", [(_B, GLOBAL, "x@remote.test")], [(GLOBAL, "x@remote.test", 10, "B")]),
    "global W": ("inbound", [(_W, GLOBAL, "x@remote.test")], [(GLOBAL, "x@remote.test", 10, "W")]),
    "global B + user W": (
        "inbound",
        [(_B, GLOBAL, "x@remote.test"), (_W, USER, "x@remote.test")],
        [(USER, "x@remote.test", 10, "W"), (GLOBAL, "x@remote.test", 10, "B")],
    ),
    "domain W + user B": (
        "inbound",
        [(_W, DOMAIN, "x@remote.test"), (_B, USER, "x@remote.test")],
        [(USER, "x@remote.test", 10, "B"), (DOMAIN, "x@remote.test", 10, "W")],
    ),
    "W domain + B e-mail": (
        "inbound",
        [(_W, USER, "@remote.test"), (_B, USER, "x@remote.test")],
        [(USER, "x@remote.test", 10, "B"), (USER, "@remote.test", 5, "W")],
    ),
    "W client IP + B e-mail": (
        "inbound",
        [(_W, USER, "203.0.113.7"), (_B, USER, "x@remote.test")],
        [(USER, "x@remote.test", 10, "B"), (USER, "203.0.113.7", 9, "W")],
    ),
    "W client IP + B anybody": (
        "inbound",
        [(_W, USER, "203.0.113.7"), (_B, USER, "@.")],
        [(USER, "203.0.113.7", 9, "W"), (USER, "@.", 0, "B")],
    ),
    "W network + B anybody": (
        "inbound",
        [(_W, USER, "203.0.113.0/24"), (_B, USER, "@.")],
        [(USER, "203.0.113.0/24", 7, "W"), (USER, "@.", 0, "B")],
    ),
    "user: B anybody + W e-mail": (
        "inbound",
        [(_B, USER, "@."), (_W, USER, "ok@remote.test")],
        [(USER, "ok@remote.test", 10, "W"), (USER, "@.", 0, "B")],
    ),
    "domain row": ("inbound", [(_B, DOMAIN, "@.remote.test")], [(DOMAIN, "@.remote.test", 3, "B")]),
    "inbound B of a local user": (
        "inbound",
        [(_B, USER, "other@local.test")],
        [(USER, "other@local.test", 10, "B")],
    ),
    "outbound B": ("outbound", [(_B, USER, "x@remote.test")], [(USER, "x@remote.test", 10, "B")]),
    "outbound global B": ("outbound", [(_B, GLOBAL, "@remote.test")],
                          [(GLOBAL, "@remote.test", 5, "B")]),
    "outbound domain B": ("outbound", [(_B, DOMAIN, "@remote.test")],
                          [(DOMAIN, "@remote.test", 5, "B")]),
    "outbound domain B + user W": (
        "outbound",
        [(_B, DOMAIN, "x@remote.test"), (_W, USER, "x@remote.test")],
        [(USER, "x@remote.test", 10, "W"), (DOMAIN, "x@remote.test", 10, "B")],
    ),
    "outbound client IP": ("outbound", [(_B, USER, "203.0.113.7")],
                           [(USER, "203.0.113.7", 9, "B")]),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda name: str(name).replace(" ", "_"))
async def test_recipes(service: Service, root: Client, recipe: str) -> None:
    direction, calls, expected = RECIPES[recipe]
    await local_test(root)
    for kind, scope, address in calls:
        await root.ok("POST", f"wblist/{direction}/{kind}/{scope}", addresses=address)
    wanted = [(*AT[scope], address, priority, wb) for scope, address, priority, wb in expected]
    assert await pairs(service.store, direction) == wanted
    # The ids are not swapped and the other direction is untouched.
    other = "outbound" if direction == "inbound" else "inbound"
    assert await pairs(service.store, other) == []
    for kind, scope, address in calls:
        assert await root.ok("GET", f"wblist/{direction}/{kind}/{scope}") == [address]


async def test_undefined_or_dead_rows_cannot_be_made(service: Service, root: Client) -> None:
    """Wrong priorities, upper case, swapped ids."""
    await local_test(root)
    store = service.store
    await add_user(store, "u@local.test", priority=7, policy_id=0)
    await add_user(store, "@local.test", priority=7, policy_id=0)
    for address in ("x@remote.test", "@remote.test"):
        await add_address(store, address, 7)
    for scope in ("U@LOCAL.test", "Local.TEST"):
        await root.ok("POST", f"wblist/inbound/whitelist/{scope}",
                      addresses="X@Remote.TEST, @REMOTE.test, @MÜNCHEN.de")  # fmt: skip
    found = await pairs(store)
    assert [row[:5] for row in found] == [
        (*AT[scope], address, priority)
        for scope in (USER, DOMAIN)
        for address, priority in [
            ("x@remote.test", 10),
            ("@remote.test", 5),
            ("@xn--mnchen-3ya.de", 5),
        ]
    ]
    assert len(await rows(store, "SELECT id FROM mailaddr")) == 3


async def test_a_row_of_users_gets_no_policy(service: Service, root: Client) -> None:
    """The column's default of 1 would hang the global policy above the domain's."""
    await local_test(root)
    for scope in (GLOBAL, DOMAIN, USER):
        for direction, kind in itertools.product(("inbound", "outbound"), (_W, _B)):
            await root.ok("POST", f"wblist/{direction}/{kind}/{scope}", addresses="x@remote.test")
    assert await users(service.store) == [AT[DOMAIN], AT[USER]]
    found = await rows(service.store, "SELECT id, policy_id FROM users WHERE priority = 0")
    assert found == [{"id": 1, "policy_id": 1}]


async def test_adding_moves_and_removing_is_exact(service: Service, root: Client) -> None:
    """Section 3.3: POST, PUT, DELETE, GET; and it all can be repeated."""
    await local_test(root)
    white, black = f"wblist/inbound/whitelist/{USER}", f"wblist/inbound/blacklist/{USER}"
    for _ in range(2):
        await root.ok("POST", white, addresses="b@r.test,a@r.test,@r.test")
    await root.ok("POST", f"wblist/outbound/whitelist/{USER}", addresses="a@r.test")
    await root.ok("POST", f"wblist/inbound/whitelist/{DOMAIN}", addresses="a@r.test")
    assert await root.ok("GET", white) == ["@r.test", "a@r.test", "b@r.test"]
    await root.ok("POST", black, addresses="a@r.test,c@r.test")
    assert await root.ok("GET", white) == ["@r.test", "b@r.test"]
    assert await root.ok("GET", black) == ["a@r.test", "c@r.test"]
    # PUT removes what is on the list that the path names, and only there.
    answer = await root.ok("PUT", white, addresses="a@r.test,b@r.test,never@r.test")
    assert [(item["value"], item["reason"]) for item in answer["_skipped"]] == [
        ("a@r.test", "NOT_FOUND"),
        ("never@r.test", "NOT_FOUND"),
    ]
    assert await root.ok("GET", white) == ["@r.test"]
    assert await root.ok("GET", black) == ["a@r.test", "c@r.test"]
    assert await root.ok("DELETE", black) == {"_success": True, "_changed": ["addresses"]}
    assert await root.ok("GET", black) == []
    assert await root.ok("GET", white) == ["@r.test"]
    assert await root.ok("GET", f"wblist/outbound/whitelist/{USER}") == ["a@r.test"]
    assert await root.ok("GET", f"wblist/inbound/whitelist/{DOMAIN}") == ["a@r.test"]
    log = await service.store.rows(
        "SELECT event, domain, username, msg FROM log WHERE event = 'update_wblist' ORDER BY id",
        "iredadmin",
    )
    assert len(log) == 6  # what was added twice changed nothing the second time
    assert log[-1] == {
        "event": "update_wblist",
        "domain": "local.test",
        "username": USER,
        "msg": "[API] Update inbound blacklist (remove all): u@local.test.",
    }


async def test_reading_and_removing_makes_and_drops_no_rows(service: Service, root: Client) -> None:
    """Rows of ``users`` and ``mailaddr`` stay when a list becomes empty."""
    await local_test(root)
    path = f"wblist/inbound/whitelist/{USER}"
    assert await root.ok("GET", path) == []
    await root.ok("PUT", path, addresses="x@remote.test")
    await root.ok("DELETE", path)
    await root.ok("POST", path, addresses="nonsense")
    assert await users(service.store) == []
    assert await rows(service.store, "SELECT id FROM mailaddr") == []
    await root.ok("POST", path, addresses="x@remote.test")
    before = (
        await rows(service.store, "SELECT id FROM users"),
        await rows(service.store, "SELECT id FROM mailaddr"),
    )
    await root.ok("DELETE", path)
    after = (
        await rows(service.store, "SELECT id FROM users"),
        await rows(service.store, "SELECT id FROM mailaddr"),
    )
    assert before == after


async def test_invalid_addresses_are_dropped_and_told(service: Service, root: Client) -> None:
    await local_test(root)
    path = f"wblist/inbound/blacklist/{DOMAIN}"
    _, answer = await root.call(
        "POST", path, data={"addresses": "ok@r.test, r.test, 10.0.0.5/24,,999.1.1.1 ,@.,OK@R.test"}
    )
    assert answer == {
        "_success": True,
        "_changed": ["addresses"],
        "_skipped": [
            {"param": "addresses", "value": value, "reason": "INVALID_VALUE"}
            for value in ("r.test", "10.0.0.5/24", "999.1.1.1")
        ],
    }
    assert await root.ok("GET", path) == ["@.", "ok@r.test"]
    for form in ({"addresses": ""}, {"addresses": " , "}, {}):
        assert await root.ok("POST", path, **form) == {"_success": True, "_changed": []}
        assert await root.ok("PUT", path, **form) == {"_success": True, "_changed": []}
    status, answer = await root.call("PUT", path, json={"addresses": ["ok@r.test", "r.test"]})
    assert (status, answer["_skipped"][0]["value"]) == (200, "r.test")
    assert await root.ok("GET", path) == ["@."]


async def test_what_other_programs_stored_can_be_read_and_removed(
    service: Service, root: Client
) -> None:
    """Section 2.5: GET returns whatever is stored, and PUT takes its spelling."""
    await local_test(root)
    store = service.store
    account = await add_user(store, "@local.test", priority=5, policy_id=0)
    odd = ["192.0.2.*", "2620:0:2d0:200::7/128", "10.0.0.5/24", "Upper@Case.test", "user@*"]
    for address in odd:
        number = await add_address(store, address, 7)
        await store.insert("wblist", {"rid": account, "sid": number, "wb": "W"}, database="amavisd")
    path = f"wblist/inbound/whitelist/{DOMAIN}"
    assert await root.ok("GET", path) == sorted(odd)
    answer = await root.ok("PUT", path, addresses=",".join([*odd, "junk"]))
    assert [item["value"] for item in answer["_skipped"]] == ["junk"]
    assert await root.ok("GET", path) == []


async def test_whitelisting_does_not_touch_greylisting(service: Service, root: Client) -> None:
    """Other tables, other effect; a whitelisted sender is still greylisted."""
    await local_test(root)
    await root.ok("POST", f"wblist/inbound/whitelist/{GLOBAL}", addresses="x@remote.test")
    assert await service.store.rows("SELECT sender FROM greylisting_whitelists", "iredapd") == []
    found = await service.store.rows("SELECT account, active FROM greylisting", "iredapd")
    assert found == [{"account": "@.", "active": 1}]


async def test_binary_columns_hold_the_text_itself(service: Service, root: Client) -> None:
    """bytea and VARBINARY: what the daemons compare byte by byte is the address, and comes back."""
    await local_test(root)
    address = "o'brien+x=1@remote.test"
    await root.ok("POST", f"wblist/inbound/blacklist/{GLOBAL}", addresses=address)
    query = {
        "postgresql": "SELECT encode(email, 'hex') AS hex FROM mailaddr",
        "mariadb": "SELECT LOWER(HEX(email)) AS hex FROM mailaddr",
        "sqlite": "SELECT LOWER(HEX(email)) AS hex FROM mailaddr",
    }[service.store.dialect]
    found = await service.store.rows(query, "amavisd")
    assert [row["hex"] for row in found] == [address.encode().hex()]
    assert await root.ok("GET", f"wblist/inbound/blacklist/{GLOBAL}") == [address]


async def test_extensions_are_documented(service: Service) -> None:
    """Amavisd does not strip them, iRedAPD does: clients are told where it matters."""
    document = service.app.openapi()
    spam = document["paths"]["/api/spampolicy/user/{mail}"]["put"]["description"]
    wblist = document["paths"]["/api/wblist/{direction}/{kind}/{account}"]["post"]["description"]
    assert "user+x@example.com" in spam
    assert "user+x@example.com" in wblist


FORMS = {
    # Sent → stored, priority of iRedAPD's scale.
    "User@D.test": ("user@d.test", 10),
    "user+tag@d.test": ("user+tag@d.test", 10),
    "@d.test": ("@d.test", 5),
    "@.D.test": ("@.d.test", 3),
    "@.com": ("@.com", 2),
    "@.": ("@.", 0),
    "192.168.2.10": ("192.168.2.10", 9),
    "192.168.2.10/32": ("192.168.2.10", 9),
    "192.168.2.0/24": ("192.168.2.0/24", 7),
    "192.168.2.0": ("192.168.2.0", 9),
    "2001:DB8:0:0::1": ("2001:db8::1", 9),
    "2620:0:2d0:200::7/128": ("2620:0:2d0:200::7", 9),
    "2001:db8::/32": ("2001:db8::/32", 7),
    "192.0.2.*": ("192.0.2.*", 8),
    "192.0.*.1": ("192.0.*.1", 8),
    "user@*": ("user@*", 7),
    "é@d.test": None,
    "d.test": None,
    "@": None,
    "@@d.test": None,
    "a@b@d.test": None,
    "user@": None,
    "user@d.test@": None,
    "user@d.test\nx": None,
    "<user@d.test>": None,
    "*": None,
    "@*": None,
    "*@d.test": None,
    "192.*.2.1": None,
    "192.0.2.1/24": None,
    "192.0.2.0/33": None,
    "192.0.2.0/255.255.255.0": None,
    "192.0.2": None,
    "192.0.2.1.": None,
    "192.0.02.1": None,
    "999.999.999.999": None,
    "fe80::1%eth0": None,
    "@192.0.2.1": None,
    "@-bad.test": None,
    "x" * 65 + "@d.test": None,
    "@" + "a." * 140 + "test": None,
}


@pytest.mark.parametrize("sent", FORMS, ids=lambda text: str(text)[:20])
def test_normal_forms(sent: str) -> None:
    expected = FORMS[sent]
    if expected is None:
        with pytest.raises(addresses.InvalidAddress):
            sender_patterns.wblist_address(sent)
        return
    found = sender_patterns.wblist_address(sent)
    assert (found, sender_patterns.priority_amavisd(found)) == expected
    assert sender_patterns.wblist_address(found) == found


def test_greylisting_senders() -> None:
    for text in ("u@d.test", "@d.test", "@.d.test", "@.com", "@.", "192.0.2.1", "2001:db8::/32"):
        assert sender_patterns.greylisting_sender(text) == text
    for text in ("192.0.2.*", "u@*", "d.test", ""):
        with pytest.raises(addresses.InvalidAddress):
            sender_patterns.greylisting_sender(text)
    long = f"{'x' * 60}@{'d' * 40}.test"
    assert sender_patterns.greylisting_sender(long) == long
    with pytest.raises(addresses.InvalidAddress):
        sender_patterns.greylisting_sender(long, 100)


async def test_refusals_change_nothing(service: Service, root: Client) -> None:
    await local_test(root)
    path = f"wblist/inbound/blacklist/{DOMAIN}"
    many = ",".join(f"x{n}@r.test" for n in range(10_001))
    for method in ("POST", "PUT"):
        assert await root.refused(method, path, addresses=many) == (
            400, "INVALID_VALUE", ["addresses"],
        )  # fmt: skip
        status, answer = await root.call(method, path, json={"addresses": {"a": 1}})
        assert (status, answer["_errors"][0]["param"]) == (400, "addresses")
        for other in ("nowhere.test", "gone@local.test", "u@nowhere.test"):
            found = await root.refused(
                method, f"wblist/inbound/blacklist/{other}", addresses="a@r.test"
            )
            code = "NO_SUCH_ACCOUNT" if other == "gone@local.test" else "NO_SUCH_DOMAIN"
            assert found == (404, code, [])
        for account, code in (("no domain", "INVALID_DOMAIN_NAME"), ("@x", "INVALID_MAIL")):
            found = await root.refused(
                method, f"wblist/inbound/blacklist/{account}", addresses="a@r.test"
            )
            assert found == (400, code, ["account"])
    for path in ("wblist/sideways/blacklist/global", "wblist/inbound/greylist/global"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert (await root.refused(method, path))[:2] == (404, "NO_SUCH_OPERATION")
    assert await users(service.store) == []
    assert await rows(service.store, "SELECT id FROM mailaddr") == []


async def test_who_may(service: Service, root: Client) -> None:
    await local_test(root)
    await root.ok("POST", "domain/foreign.test")
    admin = await service.admin_of("local.test")
    nobody = service.client()
    for method in ("GET", "POST", "PUT", "DELETE"):
        form = {} if method in ("GET", "DELETE") else {"addresses": "a@r.test"}
        for scope in (DOMAIN, USER):
            await admin.ok(method, f"wblist/inbound/whitelist/{scope}", **form)
        for scope in (GLOBAL, "foreign.test", "u@foreign.test", "absent.test"):
            path = f"wblist/inbound/whitelist/{scope}"
            assert await admin.refused(method, path, **form) == (403, "PERMISSION_DENIED", [])
        for scope in (GLOBAL, DOMAIN, USER):
            path = f"wblist/inbound/whitelist/{scope}"
            assert (await nobody.refused(method, path, **form))[:2] == (401, "LOGIN_REQUIRED")
    await root.ok("PUT", "domain/local.test", disableUserProfile="wblist")
    await admin.ok("GET", f"wblist/inbound/whitelist/{DOMAIN}")
    assert (await admin.refused("GET", f"wblist/inbound/whitelist/{USER}"))[0] == 403
    await root.ok("PUT", "domain/local.test", disableDomainProfile="wblist",
                  enableUserProfile="wblist")  # fmt: skip
    for scope, method in itertools.product((DOMAIN, USER), ("GET", "POST", "PUT", "DELETE")):
        path = f"wblist/inbound/whitelist/{scope}"
        assert (await admin.refused(method, path))[:2] == (403, "PERMISSION_DENIED")
        await root.ok(method, path)


async def test_aliases_have_lists_too(service: Service, root: Client) -> None:
    """Section 3.0: aliases and lists are recipients as well."""
    await local_test(root)
    await root.ok("POST", "alias/sales@local.test", members="u@local.test")
    await root.ok("POST", "wblist/inbound/blacklist/sales@local.test", addresses="a@r.test")
    assert (await pairs(service.store))[0][:3] == ("sales@local.test", 10, 0)


async def test_accounts_that_go_or_move(service: Service, root: Client) -> None:
    """Section 3.7: lists and policies are carried along, and nothing is left behind."""
    await local_test(root)
    store = service.store
    for scope in (GLOBAL, DOMAIN, USER):
        for direction in ("inbound", "outbound"):
            await root.ok("POST", f"wblist/{direction}/whitelist/{scope}", addresses="a@r.test")
    for path in (f"spampolicy/user/{USER}", f"spampolicy/domain/{DOMAIN}"):
        await root.ok("PUT", path, bypass_spam_checks="yes")
    await root.ok("POST", f"user/{USER}/change_email/new@local.test")
    assert await root.ok("GET", "wblist/inbound/whitelist/new@local.test") == ["a@r.test"]
    shown = await root.ok("GET", "spampolicy/user/new@local.test")
    assert (shown["account"], shown["bypass_spam_checks"]) == ("new@local.test", "yes")
    await root.ok("DELETE", "user/new@local.test")
    assert [row[0] for row in await pairs(store)] == ["@local.test", "@."]
    await root.ok("DELETE", "domain/local.test")
    for direction in ("inbound", "outbound"):
        assert [row[0] for row in await pairs(store, direction)] == ["@."]
    assert await users(store) == []
    found = await rows(store, "SELECT policy_name FROM policy")
    assert found == [{"policy_name": "@."}]


async def test_twenty_at_once(service: Service, root: Client) -> None:
    """One row of ``users`` and of ``mailaddr``, no error. Ids are made inside a transaction."""
    await local_test(root)
    calls = [
        root.call("POST", f"wblist/inbound/{kind}/{USER}",
                  data={"addresses": f"same@r.test,own{number}@r.test"})
        for number, kind in enumerate([_W, _B] * 10)
    ]  # fmt: skip
    answers = await asyncio.gather(*calls)
    assert [answer for answer in answers if answer[0] != 200] == []
    assert await users(service.store) == [AT[USER]]
    found = await pairs(service.store)
    assert len(found) == 21
    assert len({row[3] for row in found}) == 21


async def test_twenty_accounts_at_once(service: Service, root: Client) -> None:
    """Many accounts, the same new addresses in other orders."""
    await local_test(root)
    many = [f"x{number}@r.test" for number in range(50)]
    calls = [
        root.call("POST", f"wblist/{direction}/{kind}/{scope}",
                  json={"addresses": many if number % 2 else many[::-1]})
        for number, (direction, kind, scope, _) in enumerate(
            itertools.product(("inbound", "outbound"), (_W, _B), (GLOBAL, DOMAIN, USER), range(2))
        )
    ]  # fmt: skip
    assert {status for status, _ in await asyncio.gather(*calls)} == {200}
    assert len(await rows(service.store, "SELECT id FROM mailaddr")) == 50
    assert len(await pairs(service.store)) == 150
    assert len(await pairs(service.store, "outbound")) == 150


async def test_ten_thousand_addresses(service: Service, root: Client) -> None:
    """A constant number of statements, whatever the list's length."""
    await local_test(root)
    path = f"wblist/inbound/blacklist/{USER}"
    await root.ok("POST", f"wblist/inbound/whitelist/{USER}", addresses="first@r.test")
    counts: dict[str, set[int]] = {}
    started = time.monotonic()
    for size in (10, 10_000):
        many = [f"a{size}x{number:05}@r.test" for number in range(size)]
        for method, step in (("POST", "new"), ("POST", "again"), ("PUT", "remove")):
            with statements(service) as sent:
                await root.ok(method, path, addresses=",".join(many))
            counts.setdefault(step, set()).add(len(sent))
            listed = await root.ok("GET", path)
            assert listed == ([] if step == "remove" else many)
        with statements(service) as sent:
            await root.ok("POST", path, addresses=",".join(many))
            await root.ok("DELETE", path)
        counts.setdefault("delete", set()).add(len(sent))
    assert {step: len(numbers) for step, numbers in counts.items()} == dict.fromkeys(counts, 1)
    assert max(max(numbers) for numbers in counts.values()) <= 10
    assert time.monotonic() - started < 60


async def test_priorities_of_many_are_corrected_in_few_statements(
    service: Service, root: Client
) -> None:
    await local_test(root)
    for number in range(20):
        await add_address(service.store, f"x{number}@r.test", 7)
    with statements(service) as sent:
        await root.ok("POST", f"wblist/inbound/blacklist/{USER}",
                      addresses=",".join(f"x{number}@r.test" for number in range(20)))  # fmt: skip
    assert len(sent) < 10
    assert {row[4] for row in await pairs(service.store)} == {10}


@pytest.mark.stores("sqlite")
async def test_without_amavisd(store: Store) -> None:
    async with serving(store, amavisd_url="") as service:
        root = await service.root()
        await root.ok("POST", "domain/local.test")
        await root.ok("POST", "user/u@local.test", password=PASSWORD)
        for method, scope in itertools.product(("GET", "POST", "PUT", "DELETE"), AT):
            form = {} if method in ("GET", "DELETE") else {"addresses": "a@r.test"}
            found = await root.refused(method, f"wblist/inbound/whitelist/{scope}", **form)
            assert found == (501, "NOT_SUPPORTED_BY_BACKEND", [])
