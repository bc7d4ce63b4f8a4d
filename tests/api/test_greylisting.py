"""Greylisting, as iRedAPD reads it.

Sender domains and the DNS are in ``test_greylisting_domains``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import Store

USER = "u@local.test"
LONG = f"{'l' * 60}@{'d' * 60}.{'e' * 60}.test"
"""An address of more than 100 characters: more than MySQL has room for."""


@pytest.fixture(autouse=True)
async def accounts(root: Client) -> None:
    for domain in ("local.test", "other.test"):
        await root.ok("POST", f"domain/{domain}")
    await root.ok("POST", f"user/{USER}", password=PASSWORD)


async def rows(store: Store, table: str = "greylisting") -> list[dict[str, Any]]:
    found = await store.rows(f"SELECT * FROM {table} ORDER BY account, sender", "iredapd")
    return [{key: value for key, value in row.items() if key != "id"} for row in found]


def row(account: str, priority: int, active: int, sender: str = "@.", **given: Any) -> Any:
    return {
        "account": account,
        "priority": priority,
        "sender": sender,
        "sender_priority": 0,
        "comment": "",
        "active": active,
    } | given


def entry(sender: str, account: str = "@.", comment: str = "") -> dict[str, Any]:
    return {"account": account, "sender": sender, "comment": comment}


async def whitelist(store: Store, *entries: dict[str, Any]) -> None:
    await store.insert("greylisting_whitelists", *entries, database="iredapd")


SEED = row("@.", 0, 1)


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "calls, expected",
    [
        ([], [SEED]),
        ([("DELETE", "global", "")], []),
        ([("POST", "global", "disable")], [row("@.", 0, 0)]),
        ([("POST", "local.test", "disable")], [SEED, row("@local.test", 60, 0)]),
        ([("POST", "local.test", "disable"), ("POST", USER, "enable")],
         [SEED, row("@local.test", 60, 0), row(USER, 100, 1)]),
        ([("DELETE", "global", ""), ("POST", "global", "enable")], [SEED]),
        ([("POST", USER, "enable"), ("POST", USER, "disable")], [SEED, row(USER, 100, 0)]),
        ([("POST", USER, "disable"), ("DELETE", USER, "")], [SEED]),
    ],
)  # fmt: skip
async def test_settings(
    store: Store, root: Client, calls: list[tuple[str, str, str]], expected: list[Any]
) -> None:
    for method, account, status in calls:
        form = {"status": status} if status else {}
        await root.ok(method, f"greylisting/{account}", **form)
    found = await rows(store)
    assert sorted(found, key=str) == sorted(expected, key=str)


async def test_get(store: Store, root: Client) -> None:
    assert await root.ok("GET", "greylisting/global") == {"account": "@.", "status": "enable"}
    assert await root.ok("GET", f"greylisting/{USER}") == {"account": USER, "status": "inherit"}
    await root.ok("POST", "greylisting/local.test", status="disable")
    assert await root.ok("GET", "greylisting/local.test") == {
        "account": "@local.test",
        "status": "disable",
    }
    await root.ok("DELETE", "greylisting/global")
    assert (await root.ok("GET", "greylisting/global"))["status"] == "inherit"


async def test_deleting_keeps_settings_for_single_senders(store: Store, root: Client) -> None:
    exception = row("@local.test", 60, 0, "@remote.test", sender_priority=60, comment="by hand")
    await store.insert("greylisting", exception, database="iredapd")
    await root.ok("POST", "greylisting/local.test", status="enable")
    await root.ok("DELETE", "greylisting/local.test")
    await root.ok("DELETE", "greylisting/local.test")
    assert await rows(store) == [SEED, exception]


async def test_wrong_priorities_and_numbers_are_corrected(store: Store, root: Client) -> None:
    """Recipe: a domain row with priority 0 is undefined; ``active`` 2 is off."""
    wrong = row("@local.test", 0, 1, sender_priority=7, comment="x")
    await store.insert("greylisting", wrong, database="iredapd")
    await store.execute("UPDATE greylisting SET active = 2 WHERE account = '@.'", "iredapd")
    assert (await root.ok("GET", "greylisting/global"))["status"] == "disable"
    await root.ok("POST", "greylisting/local.test", status="disable")
    await root.ok("POST", "greylisting/global", status="enable")
    assert await rows(store) == [SEED, row("@local.test", 60, 0)]


async def test_all(store: Store, root: Client) -> None:
    await root.ok("POST", f"greylisting/{USER}", status="enable")
    await root.ok("POST", "greylisting/local.test", status="disable")
    exception = row("@local.test", 60, 0, "@remote.test", sender_priority=60, comment="x")
    await store.insert("greylisting", exception, database="iredapd")
    shown = await root.ok("GET", "greylisting/all")
    assert [(item["account"], item["sender"], item["status"]) for item in shown] == [
        (USER, "@.", "enable"),
        ("@local.test", "@remote.test", "disable"),
        ("@local.test", "@.", "disable"),
        ("@.", "@.", "enable"),
    ]
    assert shown[1] == {
        "account": "@local.test", "sender": "@remote.test", "status": "disable",
        "priority": 60, "sender_priority": 60, "comment": "x",
    }  # fmt: skip
    await store.execute("DELETE FROM greylisting", "iredapd")
    assert await root.ok("GET", "greylisting/all") == []


async def test_all_of_many(store: Store, root: Client) -> None:
    many = [
        row(f"u{n}@local.test", 100 if n % 2 else 60, 1, sender_priority=n % 3) for n in range(2100)
    ]
    await store.insert("greylisting", *many, database="iredapd")
    shown = await root.ok("GET", "greylisting/all")
    assert len({item["account"] for item in shown}) == len(shown) == 2101
    order = [(-item["priority"], -item["sender_priority"]) for item in shown]
    assert order == sorted(order)


async def test_stored_text_is_lower_case(store: Store, root: Client) -> None:
    """Recipe: the account ``local.test`` is ignored; the API cannot make it."""
    await root.ok("POST", "greylisting/U%40Local.Test", status="Enable")
    await root.ok("POST", "greylisting/LOCAL.TEST", status="DISABLE")
    await root.ok("POST", "greylisting/GLOBAL", status="no")
    assert await rows(store) == [row("@.", 0, 0), row("@local.test", 60, 0), row(USER, 100, 1)]


EXCEPTION = row("@.", 0, 0, "@remote.test", sender_priority=60)


@pytest.mark.parametrize(
    "stored, status, decided_by, exceptions",
    [
        ([SEED], "enable", "@.", []),
        ([], "disable", None, []),
        ([row("@.", 0, 0)], "disable", "@.", []),
        ([SEED, row("@local.test", 60, 0)], "disable", "@local.test", []),
        ([SEED, row("@other.test", 60, 0)], "enable", "@.", []),
        ([SEED, row("@local.test", 60, 0), row(USER, 100, 1)], "enable", USER, []),
        ([SEED, row("local.test", 60, 0)], "enable", "@.", []),
        ([SEED, row("@local.test", 60, 0, "")], "enable", "@.", [("@local.test", "", "disable")]),
        ([SEED, EXCEPTION], "enable", "@.", [("@.", "@remote.test", "disable")]),
        ([EXCEPTION], "disable", None, [("@.", "@remote.test", "disable")]),
        # The account's priority outranks the sender's.
        ([SEED, EXCEPTION, row("@local.test", 60, 1)], "enable", "@local.test", []),
        ([SEED, row("@.local.test", 50, 0)], "disable", "@.local.test", []),
        ([SEED, row("@.test", 40, 0)], "disable", "@.test", []),
    ],
)
async def test_effective(
    store: Store, root: Client, stored: list[Any], status: str, decided_by: str | None,
    exceptions: list[tuple[str, str, str]],
) -> None:  # fmt: skip
    """The recipes' answers, rows by hand or not."""
    await store.execute("DELETE FROM greylisting", "iredapd")
    await store.insert("greylisting", *stored, database="iredapd")
    found = await root.ok("GET", f"greylisting/{USER}", effective="yes")
    assert found == {
        "account": USER,
        "status": status,
        "decided_by": decided_by,
        "exceptions": [
            {"account": a, "sender": sender, "status": word} for a, sender, word in exceptions
        ],
    }


async def test_wrong_status(store: Store, root: Client) -> None:
    for account in ("global", "local.test", USER):
        path = f"greylisting/{account}"
        assert await root.refused("POST", path) == (400, "REQUIRED", ["status"])
        assert await root.refused("POST", path, status="") == (
            400, "EMPTY_NOT_ALLOWED", ["status"],
        )  # fmt: skip
        for value in ("inherit", "2", "enable,disable"):
            refused = await root.refused("POST", path, status=value)
            assert refused == (400, "INVALID_VALUE", ["status"])
        assert (await root.refused("GET", path, effective="x"))[2] == ["effective"]
    assert await rows(store) == [SEED]


# -- whitelists ------------------------------------------------------------------------------------

WORKING = ["192.0.2.1", "192.0.2.0/24", "x@remote.test", "@remote.test", "@.remote.test", "@.test"]


@pytest.mark.parametrize("account, stored", [
    ("global", "@."), ("local.test", "@local.test"), (USER, USER),
])  # fmt: skip
@pytest.mark.parametrize("param", ["senders", "addSenders"])
async def test_whitelist(store: Store, root: Client, account: str, stored: str, param: str) -> None:
    path = f"greylisting/{account}/whitelists"
    senders = [*WORKING, "@.", "2001:db8::7", "2001:db8::/32"]
    await root.ok("POST", path, **{param: ",".join(senders)})
    assert sorted(await rows(store, "greylisting_whitelists"), key=str) == sorted(
        (entry(sender, stored) for sender in senders), key=str
    )
    assert sorted(await root.ok("GET", path)) == sorted(senders)


async def test_reset_add_remove(store: Store, root: Client) -> None:
    path = "greylisting/local.test/whitelists"
    await whitelist(store, entry("@kept.test", "@local.test", "AUTO-WHITELISTED"),
                    entry("@gone.test", "@local.test"), entry("@gone.test", USER))  # fmt: skip
    await root.ok("POST", path, senders="@kept.test, 192.0.2.1,,@kept.test")
    assert await rows(store, "greylisting_whitelists") == [
        entry("192.0.2.1", "@local.test"),
        entry("@kept.test", "@local.test", "AUTO-WHITELISTED"),
        entry("@gone.test", USER),
    ]
    await root.ok("POST", path, addSenders="@new.test,192.0.2.1", removeSenders="@kept.test")
    assert sorted(await root.ok("GET", path)) == ["192.0.2.1", "@new.test"]
    # Removals come first.
    await root.ok("POST", path, addSenders="@new.test", removeSenders="@new.test,192.0.2.1")
    assert await root.ok("GET", path) == ["@new.test"]
    answer = await root.ok("POST", path, addSenders="", removeSenders="@absent.test,@NEW.test")
    skipped = {"param": "removeSenders", "value": "@absent.test", "reason": "NOT_FOUND"}
    assert answer["_skipped"] == [skipped]
    await root.ok("POST", path, addSenders="@new.test")
    await root.ok("POST", path)
    assert await root.ok("GET", path) == ["@new.test"]
    await root.ok("POST", path, senders="")
    assert await rows(store, "greylisting_whitelists") == [entry("@gone.test", USER)]
    status, _ = await root.call("POST", path, json={"senders": ["@a.test", "@b.test"]})
    assert status == 200
    assert await root.ok("GET", path) == ["@a.test", "@b.test"]


@pytest.mark.parametrize(
    "sent, stored",
    [
        ("X@Remote.Test", "x@remote.test"),
        ("@REMOTE.test", "@remote.test"),
        ("@bücher.example", "@xn--bcher-kva.example"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("2001:db8::0/32", "2001:db8::/32"),
        ("2620:0:2d0:200::7/128", "2620:0:2d0:200::7"),
    ],
)
async def test_normal_forms(store: Store, root: Client, sent: str, stored: str) -> None:
    """IPv6 networks only work as ``…::/n``, and those of one address only as the address."""
    for param in ("senders", "addSenders"):
        await root.ok("POST", "greylisting/global/whitelists", **{param: sent})
        assert await root.ok("GET", "greylisting/global/whitelists") == [stored]
    await root.ok("POST", "greylisting/global/whitelists", removeSenders=sent)
    assert await rows(store, "greylisting_whitelists") == []


async def test_what_other_tools_stored_is_shown_and_can_be_removed(
    store: Store, root: Client
) -> None:
    odd = ["192.0.2.*", "user@*", "bare.test", "10.0.0.5/24", "2001:0db8::1", "192.0.2.9/32"]
    await whitelist(store, *(entry(sender) for sender in odd), entry("@Kept.test"))
    path = "greylisting/global/whitelists"
    assert sorted(await root.ok("GET", path)) == sorted([*odd, "@Kept.test"])
    await root.ok("POST", path, removeSenders=",".join(odd[:4]))
    await root.ok("POST", path, removeSenders="2001:0DB8::1,192.0.2.9/32")
    assert await root.ok("GET", path) == ["@Kept.test"]
    await root.ok("POST", path, removeSenders="@kept.test")
    assert await root.ok("GET", path) == []
    await whitelist(store, *(entry(sender) for sender in odd))
    await root.ok("POST", path, senders="@new.test")
    assert await root.ok("GET", path) == ["@new.test"]


@pytest.mark.stores("mariadb")
async def test_an_entry_in_other_letters_is_the_same_on_mariadb(store: Store, root: Client) -> None:
    await whitelist(store, entry("@Kept.test"), entry("@gone.test"))
    await root.ok("POST", "greylisting/global/whitelists", senders="@kept.test")
    assert await root.ok("GET", "greylisting/global/whitelists") == ["@Kept.test"]


MALFORMED = [
    "bare.test", "192.0.2.*", "user@*", "10.0.0.5/24", "a@b@c.test", "@", "@..", "x y@z.de",
    "192.0.2.1/33", "999.1.1.1", "user@remote.test\n@x.test", "2001:db8::1/32",
]  # fmt: skip


@pytest.mark.parametrize("param", ["senders", "addSenders", "removeSenders"])
async def test_malformed_senders(store: Store, root: Client, param: str) -> None:
    path = "greylisting/local.test/whitelists"
    await whitelist(store, entry("@kept.test", "@local.test"))
    for value in MALFORMED:
        status, message, names = await root.refused("POST", path, **{param: f"@good.test,{value}"})
        assert (status, names) == (400, [param]), value
        assert message in {"INVALID_SENDER", "INVALID_TEXT"}
    too_long = await root.refused("POST", path, **{param: f"{'x' * 300}@remote.test"})
    assert (too_long[0], too_long[2]) == (400, [param])
    too_many = {param: [f"x{n}@remote.test" for n in range(10_001)]}
    status, answer = await root.call("POST", path, json=too_many)
    assert (status, answer["_errors"][0]["param"]) == (400, param)
    assert await rows(store, "greylisting_whitelists") == [entry("@kept.test", "@local.test")]


async def test_conflicts(store: Store, root: Client) -> None:
    path = "greylisting/local.test/whitelists"
    for other in ("addSenders", "removeSenders"):
        refused = await root.refused("POST", path, **{"senders": "", other: "@x.test"})
        assert refused == (400, "CONFLICTING_PARAMETERS", sorted([other, "senders"]))
    assert await rows(store, "greylisting_whitelists") == []


async def test_length(store: Store, root: Client) -> None:
    """MySQL has room for 100 characters, and would answer with an error."""
    await root.ok("POST", f"domain/{LONG.partition('@')[2]}")
    await root.ok("POST", f"user/{LONG}", password=PASSWORD)
    calls: list[tuple[str, dict[str, str], str]] = [
        (f"greylisting/{LONG}", {"status": "enable"}, "account"),
        (f"greylisting/{LONG}/whitelists", {"senders": "@x.test"}, "account"),
        ("greylisting/global/whitelists", {"senders": LONG}, "senders"),
        ("greylisting/global/whitelists", {"addSenders": f"@x.test,{LONG}"}, "addSenders"),
    ]
    for path, form, param in calls:
        if store.dialect == "mariadb":
            assert (await root.refused("POST", path, **form))[::2] == (400, [param])
        else:
            await root.ok("POST", path, **form)
    for path in (f"greylisting/{LONG}", f"greylisting/{LONG}/whitelists"):
        await root.ok("GET", path)
    await root.ok("DELETE", f"greylisting/{LONG}")
    await root.ok("POST", "greylisting/global/whitelists", removeSenders=LONG)
    if store.dialect == "mariadb":
        assert await rows(store, "greylisting_whitelists") == []


async def test_the_two_whitelists_are_apart(store: Store, root: Client) -> None:
    await root.ok("POST", "greylisting/global/whitelists", senders="@remote.test")
    assert await store.rows("SELECT * FROM wblist", "amavisd") == []
    await root.ok("POST", "wblist/inbound/whitelist/global", addresses="@other.test")
    assert await root.ok("GET", "greylisting/global/whitelists") == ["@remote.test"]


async def test_10000_senders(store: Store, root: Client) -> None:
    path = "greylisting/global/whitelists"
    many = [f"x{n}@remote.test" for n in range(10_000)]
    for param, expected in (("senders", 10_000), ("removeSenders", 0), ("addSenders", 10_000)):
        await root.call("POST", path, json={param: many})
        assert len(await root.ok("GET", path)) == expected
    await root.ok("POST", path, senders="@x.test")
    assert await root.ok("GET", path) == ["@x.test"]


# -- who, where, company ---------------------------------------------------------------------------


async def test_permissions(service: Service, root: Client) -> None:
    admin = await service.admin_of("local.test")
    for account in ("local.test", USER):
        await admin.ok("POST", f"greylisting/{account}", status="disable")
        await admin.ok("GET", f"greylisting/{account}", effective="yes")
        await admin.ok("POST", f"greylisting/{account}/whitelists", senders="@x.test")
        await admin.ok("GET", f"greylisting/{account}/whitelists")
        await admin.ok("DELETE", f"greylisting/{account}")
    calls = [("GET", "all", {}), ("GET", "whitelist_spf_domains", {}),
             ("POST", "whitelist_spf_domains", {"domains": "x.test"})]  # fmt: skip
    for account in ("global", "other.test", "x@other.test", "nowhere.test"):
        calls += [("GET", account, {}), ("POST", account, {"status": "disable"}),
                  ("DELETE", account, {}), ("GET", f"{account}/whitelists", {}),
                  ("POST", f"{account}/whitelists", {"senders": ""})]  # fmt: skip
    for method, path, form in calls:
        refused = await admin.refused(method, f"greylisting/{path}", **form)
        assert refused[:2] == (403, "PERMISSION_DENIED"), path
        nobody = await service.client().refused(method, f"greylisting/{path}", **form)
        assert nobody[:2] == (401, "LOGIN_REQUIRED")
    await root.ok("PUT", "domain/local.test", disableDomainProfile="greylisting")
    for path in ("local.test", USER, "local.test/whitelists", f"{USER}/whitelists"):
        assert (await admin.refused("GET", f"greylisting/{path}"))[0] == 403
        await root.ok("GET", f"greylisting/{path}")


async def test_targets(store: Store, root: Client) -> None:
    for account, expected in {
        "nowhere.test": (404, "NO_SUCH_DOMAIN"),
        "nobody@local.test": (404, "NO_SUCH_ACCOUNT"),
        "local": (400, "INVALID_DOMAIN_NAME"),
        "@local.test": (400, "INVALID_MAIL"),
    }.items():
        for method, path, form in (
            ("GET", "", {}), ("POST", "", {"status": "enable"}), ("DELETE", "", {}),
            ("GET", "/whitelists", {}), ("POST", "/whitelists", {"senders": "@x.test"}),
        ):  # fmt: skip
            refused = await root.refused(method, f"greylisting/{account}{path}", **form)
            assert refused[:2] == expected, (method, account)
    assert await rows(store) == [SEED]
    assert await rows(store, "greylisting_whitelists") == []


async def test_without_the_database(store: Store, root: Client) -> None:
    async with serving(store, iredapd_url="") as service:
        client = await service.root()
        for method, path, form in (
            ("GET", "all", {}), ("GET", "global", {}), ("POST", "global", {"status": "enable"}),
            ("DELETE", USER, {}), ("GET", "local.test/whitelists", {}),
            ("POST", "local.test/whitelists", {"senders": "@x.test"}),
            ("GET", "whitelist_spf_domains", {}),
            ("POST", "whitelist_spf_domains", {"domains": "x.test"}),
        ):  # fmt: skip
            refused = await client.refused(method, f"greylisting/{path}", **form)
            assert refused[:2] == (501, "NOT_SUPPORTED_BY_BACKEND"), path


async def test_20_parallel_settings_make_one_row(service: Service, store: Store) -> None:
    clients = [await service.client().login() for _ in range(4)]
    calls = [
        clients[n % 4].ok("POST", f"greylisting/{USER}", status="enable" if n % 2 else "disable")
        for n in range(20)
    ]
    await asyncio.gather(*calls)
    found = await rows(store)
    assert [(item["account"], item["priority"]) for item in found] == [("@.", 0), (USER, 100)]


async def test_20_parallel_whitelists(service: Service, root: Client) -> None:
    """Additions all survive; of replacements exactly one does."""
    clients = [await service.client().login() for _ in range(4)]
    path = "greylisting/local.test/whitelists"
    await asyncio.gather(
        *(clients[n % 4].ok("POST", path, addSenders=f"@all.test,@d{n}.test") for n in range(20))
    )
    assert len(await root.ok("GET", path)) == 21
    path = f"greylisting/{USER}/whitelists"
    await asyncio.gather(
        *(clients[n % 4].ok("POST", path, senders=f"@a{n}.test,@b{n}.test") for n in range(20))
    )
    left = await root.ok("GET", path)
    assert len(left) == 2
    assert left[0][2:] == left[1][2:]


async def test_audit(store: Store, root: Client) -> None:
    await store.execute("DELETE FROM log", "iredadmin")
    await root.ok("POST", f"greylisting/{USER}", status="enable")
    await root.ok("DELETE", f"greylisting/{USER}")
    await root.ok("DELETE", f"greylisting/{USER}")
    await root.ok("POST", "greylisting/global/whitelists", addSenders="@x.test,@y.test",
                  removeSenders="@z.test")  # fmt: skip
    await root.ok("POST", "greylisting/whitelist_spf_domains", domains="x.test")
    log = await store.rows("SELECT event, msg FROM log ORDER BY id", "iredadmin")
    assert [tuple(item.values()) for item in log] == [
        ("iredapd", f"[API] Update greylisting (enable): {USER}."),
        ("iredapd", f"[API] Update greylisting (remove): {USER}."),
        ("iredapd", "[API] Update greylisting whitelist (add 2, remove 1): @.."),
        ("iredapd", "[API] Update greylisting whitelist of domains (reset to 1): @.."),
    ]
