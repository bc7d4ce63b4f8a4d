"""Throttling, as iRedAPD reads it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import Store

GIB = 1024**3


@pytest.fixture(autouse=True)
async def accounts(root: Client) -> None:
    for domain in ("local.test", "sub.local.test", "other.test"):
        await root.ok("POST", f"domain/{domain}")
    for mail in ("user@local.test", "user@sub.local.test"):
        await root.ok("POST", f"user/{mail}", password=PASSWORD)


async def rows(store: Store) -> list[dict[str, Any]]:
    found = await store.rows("SELECT * FROM throttle ORDER BY account, kind, id", "iredapd")
    return [{key: value for key, value in row.items() if key != "id"} for row in found]


def row(account: str, kind: str = "outbound", priority: int = 0, **given: int) -> dict[str, Any]:
    limits = {"msg_size": -1, "max_msgs": -1, "max_quota": -1, "max_rcpts": -1}
    return {"account": account, "kind": kind, "priority": priority, "period": 3600} | limits | given


async def track(store: Store, account: str, counted: str, *, messages: int = 1) -> None:
    """Do what the daemon does when it counts a message."""
    await store.execute(
        "INSERT INTO throttle_tracking (tid, account, period, cur_msgs, init_time)"
        " SELECT id, :counted, period, :messages, 1000 FROM throttle WHERE account = :account",
        "iredapd",
        account=account,
        counted=counted,
        messages=messages,
    )


async def tracked(store: Store) -> list[str]:
    found = await store.rows(
        "SELECT r.account FROM throttle_tracking AS r JOIN throttle AS s ON s.id = r.tid"
        " ORDER BY r.account",
        "iredapd",
    )
    return [item["account"] for item in found]


# -- rows ------------------------------------------------------------------------------------------

USER = "user@local.test"
RECIPES = [
    (USER, "outbound", {"max_msgs": 2}, row(USER, priority=100, max_msgs=2)),
    ("local.test", "outbound", {"max_msgs": 2}, row("@local.test", priority=60, max_msgs=2)),
    ("global", "outbound", {"max_msgs": 2}, row("@.", max_msgs=2)),
    (USER, "outbound", {"max_msgs": -1}, row(USER, priority=100)),
    (USER, "outbound", {"max_msgs": 0}, row(USER, priority=100, max_msgs=0)),
    ("local.test", "outbound", {"max_msgs": 0}, row("@local.test", priority=60, max_msgs=0)),
    ("global", "outbound", {"max_msgs": 1}, row("@.", max_msgs=1)),
    (USER, "outbound", {}, row(USER, priority=100)),
    (USER, "inbound", {"max_msgs": 2}, row(USER, "inbound", 100, max_msgs=2)),
    (USER, "outbound", {"msg_size": 1000}, row(USER, priority=100, msg_size=1000)),
    (USER, "external", {"max_quota": 1000}, row(USER, "external", 100, max_quota=1000)),
    ("global", "inbound", {"max_rcpts": 50}, row("@.", "inbound", max_rcpts=50)),
]


@pytest.mark.parametrize("account, direction, form, expected", RECIPES)
async def test_recipe(
    store: Store, root: Client, account: str, direction: str, form: dict[str, int], expected: Any
) -> None:
    path = f"throttle/{account}/{direction}"
    assert await root.ok("GET", path) == {}
    await root.ok("POST", path, period="3600", **{key: str(value) for key, value in form.items()})
    assert await rows(store) == [expected]
    assert await root.ok("GET", path) == expected


async def test_all_forms_of_a_body(store: Store, root: Client) -> None:
    path = "throttle/global/inbound"
    wanted = row("@.", "inbound", period=60, max_msgs=5, msg_size=0)
    for payload in (
        {"json": {"period": 60, "max_msgs": 5, "msg_size": "0", "max_quota": None}},
        {"params": {"period": "60", "max_msgs": "5", "msg_size": "0", "max_quota": ""}},
        {"data": {"period": " 60 ", "max_msgs": "5", "msg_size": "0", "unknown": "x"}},
    ):
        status, answer = await root.call("POST", path, **payload)
        assert (status, answer["_success"]) == (200, True)
        assert await rows(store) == [wanted]


async def test_an_absent_limit_is_inherited_but_max_rcpts_stays(store: Store, root: Client) -> None:
    path = f"throttle/{USER}/outbound"
    await root.ok("POST", path, period="60", msg_size="1", max_msgs="2", max_quota="3",
                  max_rcpts="4")  # fmt: skip
    await root.ok("POST", path, period="120", max_msgs="5")
    assert await rows(store) == [row(USER, priority=100, period=120, max_msgs=5, max_rcpts=4)]
    await root.ok("POST", path, period="120", max_rcpts="")
    assert await rows(store) == [row(USER, priority=100, period=120)]


async def test_directions_and_accounts_are_apart(store: Store, root: Client) -> None:
    for account in ("global", "local.test", USER):
        for number, direction in enumerate(("inbound", "outbound", "external"), 1):
            path = f"throttle/{account}/{direction}"
            await root.ok("POST", path, period="3600", max_msgs=str(number))
    assert len(await rows(store)) == 9
    await root.ok("POST", "throttle/local.test/outbound", period="3600", max_msgs="9")
    await root.ok("DELETE", "throttle/local.test/external")
    shown = [(item["account"], item["kind"], item["max_msgs"]) for item in await rows(store)]
    assert sorted(shown) == [
        ("@.", "external", 3), ("@.", "inbound", 1), ("@.", "outbound", 2),
        ("@local.test", "inbound", 1), ("@local.test", "outbound", 9),
        (USER, "external", 3), (USER, "inbound", 1), (USER, "outbound", 2),
    ]  # fmt: skip


async def test_priorities_are_scale_a_and_corrected(store: Store, root: Client) -> None:
    """A row of another panel (scale M) would lose against a domain's."""
    await store.insert("throttle", row(USER, priority=10, max_msgs=5, max_rcpts=7),
                       database="iredapd")  # fmt: skip
    await root.ok("POST", "throttle/local.test/outbound", period="3600", max_msgs="1")
    await root.ok("POST", f"throttle/{USER}/outbound", period="3600", max_msgs="5")
    assert await rows(store) == [
        row("@local.test", priority=60, max_msgs=1),
        row(USER, priority=100, max_msgs=5, max_rcpts=7),
    ]


async def test_counted_settings_change_in_place_and_go(store: Store, root: Client) -> None:
    """The foreign key of ``throttle_tracking`` does not cascade; other counters stay."""
    for account in (USER, "local.test", "global"):
        await root.ok("POST", f"throttle/{account}/outbound", period="3600", max_msgs="1")
    for account in (USER, "@local.test", "@."):
        await track(store, account, f"counted-{account}", messages=2)
    before = await store.rows("SELECT id FROM throttle WHERE account = :a", "iredapd", a=USER)
    await root.ok("POST", f"throttle/{USER}/outbound", period="60", max_msgs="3")
    after = await store.rows("SELECT id FROM throttle WHERE account = :a", "iredapd", a=USER)
    assert before == after
    assert len(await tracked(store)) == 3
    await root.ok("DELETE", f"throttle/{USER}/outbound")
    assert await tracked(store) == ["counted-@.", "counted-@local.test"]
    assert await root.ok("GET", f"throttle/{USER}/outbound") == {}
    await root.ok("DELETE", f"throttle/{USER}/outbound")


@pytest.mark.parametrize("path", [f"throttle/{USER}/outbound", f"user/{USER}", "domain/local.test"])
async def test_while_the_daemon_counts(store: Store, root: Client, path: str) -> None:
    await root.ok("POST", f"throttle/{USER}/outbound", period="3600")
    async with store.connect("iredapd") as daemon:
        await daemon.execute(
            text(
                "INSERT INTO throttle_tracking (tid, account)"
                " SELECT id, account FROM throttle WHERE account = :account"
            ),
            {"account": USER},
        )
        deleting = asyncio.ensure_future(root.ok("DELETE", path))
        await asyncio.sleep(0.3)
        assert not deleting.done()
    await deleting
    assert await rows(store) == []
    assert await store.rows("SELECT * FROM throttle_tracking", "iredapd") == []


@pytest.mark.stores("postgresql")
async def test_duplicates_of_postgresql_are_folded(store: Store, root: Client) -> None:
    same = [
        row(USER, priority=60, max_msgs=1),
        row(USER, priority=100, max_msgs=2, max_rcpts=8),
        row(USER, priority=100, max_msgs=3),
    ]
    await store.insert("throttle", *same, row(USER, "inbound"), row("@."), database="iredapd")
    await track(store, USER, USER)
    await track(store, "@.", "other@local.test")
    assert (await root.ok("GET", f"throttle/{USER}/outbound"))["max_msgs"] == 2
    await root.ok("POST", f"throttle/{USER}/outbound", period="60", max_msgs="4")
    assert await rows(store) == [
        row("@."),
        row(USER, "inbound"),
        row(USER, priority=100, period=60, max_msgs=4, max_rcpts=8),
    ]
    # One of three duplicates stayed, with its counter, and the other direction has its own.
    assert await tracked(store) == ["other@local.test", USER, USER]
    await store.insert("throttle", same[0], database="iredapd")
    await root.ok("DELETE", f"throttle/{USER}/outbound")
    assert await rows(store) == [row("@."), row(USER, "inbound")]


async def test_period_0_is_refused(store: Store, root: Client) -> None:
    """It would disable the row, not the window."""
    path = f"throttle/{USER}/outbound"
    assert await root.refused("POST", path, period="0", max_msgs="5") == (
        400, "INVALID_NUMBER", ["period"],
    )  # fmt: skip
    assert await rows(store) == []


async def test_the_largest_numbers_fit(store: Store, root: Client) -> None:
    largest = {"period": 2**32 - 1, "max_quota": 10 * GIB, "msg_size": 2**63 - 1}
    await root.ok("POST", f"throttle/{USER}/outbound", **{k: str(v) for k, v in largest.items()},
                  max_msgs=str(2**63 - 1), max_rcpts=str(2**63 - 1))  # fmt: skip
    expected = row(USER, priority=100, max_msgs=2**63 - 1, max_rcpts=2**63 - 1) | largest
    assert await rows(store) == [expected]
    assert await root.ok("GET", f"throttle/{USER}/outbound") == expected


async def test_stored_text_is_lower_case(store: Store, root: Client) -> None:
    """Recipe: the accounts ``local.test`` and ``USER@local.test`` are dead."""
    await root.ok("POST", "throttle/USER%40Local.Test/outbound", period="60")
    await root.ok("POST", "throttle/LOCAL.test/outbound", period="60")
    await root.ok("POST", "throttle/Global/outbound", period="60")
    assert [item["account"] for item in await rows(store)] == ["@.", "@local.test", USER]


@pytest.mark.stores("mariadb")
async def test_letters_in_upper_case_are_corrected(store: Store, root: Client) -> None:
    await store.insert("throttle", row("User@Local.test", priority=1), database="iredapd")
    await root.ok("POST", f"throttle/{USER}/outbound", period="3600", max_msgs="1")
    assert await rows(store) == [row(USER, priority=100, max_msgs=1)]


async def test_are_documented(service: Service) -> None:
    documented = service.app.openapi()["paths"]["/api/throttle/{account}/{direction}"]["post"]
    assert "for each user separately" in documented["description"]
    schema = documented["requestBody"]["content"]["application/json"]["schema"]
    assert "once for each recipient" in schema["properties"]["max_msgs"]["description"]
    assert "4 GiB" in schema["properties"]["max_quota"]["description"]
    assert schema["required"] == ["period"]


# -- what holds in the end -------------------------------------------------------------------------


def decided(value: int, account: str | None, period: int | None = 3600) -> dict[str, Any]:
    return {"value": value, "period": period if account else None, "account": account}


EFFECTIVE = [
    ([row(USER, priority=100), row("@local.test", priority=60, max_msgs=1)],
     decided(1, "@local.test")),
    ([row(USER, priority=100, max_msgs=0), row("@local.test", priority=60, max_msgs=1)],
     decided(0, USER)),
    ([row("@local.test", priority=60, max_msgs=0), row("@.", max_msgs=1)],
     decided(0, "@local.test")),
    ([row(USER, priority=100, period=0, max_msgs=5), row("@local.test", priority=60, max_msgs=1)],
     decided(1, "@local.test")),
    ([row(USER, priority=0, max_msgs=5), row("@local.test", priority=60, max_msgs=1)],
     decided(1, "@local.test")),
    ([row(USER, priority=100), row("@.", max_msgs=1)], decided(1, "@.")),
    ([row("@.test", priority=40, max_msgs=6), row("@.", max_msgs=1)], decided(6, "@.test")),
    ([row("@.local.test", priority=50, max_msgs=7), row("@.", max_msgs=1)],
     decided(7, "@.local.test")),
    ([row("local.test", priority=60, max_msgs=1), row("@sub.local.test", priority=60, max_msgs=2)],
     decided(-1, None)),
    ([row(USER, "inbound", 100, max_msgs=1)], decided(-1, None)),
]  # fmt: skip


@pytest.mark.parametrize("stored, expected", EFFECTIVE)
async def test_effective(
    store: Store, root: Client, stored: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    """The recipes' answers: which row the daemon takes, row by hand or not."""
    await store.insert("throttle", *stored, database="iredapd")
    found = await root.ok("GET", f"throttle/{USER}/outbound", effective="yes")
    assert found == {
        "account": USER,
        "kind": "outbound",
        "effective": {
            "msg_size": decided(-1, None),
            "max_msgs": expected,
            "max_quota": decided(-1, None),
            "max_rcpts": decided(-1, None),
        },
    }


async def test_effective_of_each_limit_and_scope(root: Client) -> None:
    await root.ok("POST", "throttle/global/outbound", period="60", msg_size="1", max_quota="2")
    await root.ok("POST", "throttle/local.test/outbound", period="90", msg_size="3")
    await root.ok("POST", f"throttle/{USER}/outbound", period="120", max_rcpts="4")
    user = (await root.ok("GET", f"throttle/{USER}/outbound", effective="yes"))["effective"]
    assert user == {
        "msg_size": decided(3, "@local.test", 90),
        "max_msgs": decided(-1, None),
        "max_quota": decided(2, "@.", 60),
        "max_rcpts": decided(4, USER, 120),
    }
    domain = (await root.ok("GET", "throttle/local.test/outbound", effective="yes"))["effective"]
    assert domain["max_rcpts"] == decided(-1, None)
    assert domain["msg_size"] == decided(3, "@local.test", 90)
    everybody = await root.ok("GET", "throttle/global/outbound", effective="yes")
    assert everybody["account"] == "@."
    assert everybody["effective"]["msg_size"] == decided(1, "@.", 60)


# -- refusals --------------------------------------------------------------------------------------

WRONG_NUMBERS = ["-2", "1.5", "x", "1e3", str(2**63), "9" * 40, "0x10", "１"]


@pytest.mark.parametrize(
    "param, values",
    [
        ("period", ["0", "-1", "", "x", "1.0", str(2**32), "１"]),
        *((name, WRONG_NUMBERS) for name in ("msg_size", "max_msgs", "max_quota", "max_rcpts")),
    ],
)
async def test_wrong_parameter(store: Store, root: Client, param: str, values: list[str]) -> None:
    path = f"throttle/{USER}/outbound"
    await root.ok("POST", path, period="3600", max_msgs="5")
    for value in values:
        status, message, names = await root.refused(
            "POST", path, **({"period": "60"} | {param: value})
        )
        expected = "EMPTY_NOT_ALLOWED" if value == "" else "INVALID_NUMBER"
        assert (status, message, names) == (400, expected, [param]), value
    status, answer = await root.call("POST", path, json={"period": 60, param: [1, 2]})
    assert (status, answer["_errors"][0]["param"]) == (400, param)
    assert await rows(store) == [row(USER, priority=100, max_msgs=5)]


async def test_period_is_required_and_all_problems_are_named(store: Store, root: Client) -> None:
    path = "throttle/local.test/inbound"
    assert await root.refused("POST", path, max_msgs="1") == (400, "REQUIRED", ["period"])
    assert await root.refused("POST", path, msg_size="x", max_msgs="-5") == (
        400, "INVALID_PARAMETERS", ["max_msgs", "msg_size", "period"],
    )  # fmt: skip
    assert (await root.refused("GET", path, effective="maybe"))[2] == ["effective"]
    assert await rows(store) == []


async def test_targets(store: Store, root: Client) -> None:
    await root.ok("PUT", "domain/local.test", addAliasDomain="alias.test")
    for account, expected in {
        "nowhere.test": (404, "NO_SUCH_DOMAIN"),
        "alias.test": (404, "NO_SUCH_DOMAIN"),
        "nobody@local.test": (404, "NO_SUCH_ACCOUNT"),
        "user@nowhere.test": (404, "NO_SUCH_DOMAIN"),
        "local": (400, "INVALID_DOMAIN_NAME"),
        "a@b@local.test": (400, "INVALID_MAIL"),
    }.items():
        for method, form in (("GET", {}), ("POST", {"period": "60"}), ("DELETE", {})):
            refused = await root.refused(method, f"throttle/{account}/inbound", **form)
            assert refused[:2] == expected, account
    for word in ("sideways", "Inbound", "in"):
        refused = await root.refused("POST", f"throttle/local.test/{word}", period="60")
        assert refused[:2] == (404, "NO_SUCH_OPERATION")
    assert await rows(store) == []


async def test_permissions(service: Service, root: Client) -> None:
    admin = await service.admin_of("local.test")
    for account in ("local.test", USER):
        await admin.ok("POST", f"throttle/{account}/outbound", period="60", max_msgs="1")
        await admin.ok("GET", f"throttle/{account}/outbound", effective="yes")
    for account in ("global", "other.test", "x@other.test", "nowhere.test", "sub.local.test"):
        for method, form in (("GET", {}), ("POST", {"period": "60"}), ("DELETE", {})):
            refused = await admin.refused(method, f"throttle/{account}/outbound", **form)
            assert refused[:2] == (403, "PERMISSION_DENIED"), account
            nobody = await service.client().refused(method, f"throttle/{account}/outbound", **form)
            assert nobody[:2] == (401, "LOGIN_REQUIRED")
    await root.ok("PUT", "domain/local.test", disableUserProfile="throttle")
    assert (await admin.refused("GET", f"throttle/{USER}/outbound"))[0] == 403
    await admin.ok("GET", "throttle/local.test/outbound")
    await root.ok("PUT", "domain/local.test", disableDomainProfile="throttle")
    assert (await admin.refused("GET", "throttle/local.test/outbound"))[0] == 403
    await root.ok("GET", "throttle/local.test/outbound")
    await root.ok("DELETE", f"throttle/{USER}/outbound")


async def test_without_the_database(store: Store, root: Client) -> None:
    async with serving(store, iredapd_url="") as service:
        client = await service.root()
        for method, form in (("GET", {}), ("POST", {"period": "60"}), ("DELETE", {})):
            refused = await client.refused(method, "throttle/local.test/inbound", **form)
            assert refused[:2] == (501, "NOT_SUPPORTED_BY_BACKEND")


# -- company ---------------------------------------------------------------------------------------


async def test_20_parallel_posts_make_one_row(service: Service, store: Store) -> None:
    for path in (f"throttle/{USER}/outbound", "throttle/global/inbound"):
        clients = [await service.client().login() for _ in range(4)]
        calls = [
            clients[number % 4].ok("POST", path, period="3600", max_msgs=str(number))
            for number in range(1, 21)
        ]
        await asyncio.gather(*calls)
    found = await rows(store)
    assert [(item["account"], item["priority"]) for item in found] == [("@.", 0), (USER, 100)]
    assert all(1 <= item["max_msgs"] <= 20 and item["period"] == 3600 for item in found)


async def test_parallel_posts_and_deletes_of_a_counted_setting(
    service: Service, store: Store
) -> None:
    path = f"throttle/{USER}/outbound"
    clients = [await service.client().login() for _ in range(4)]
    await clients[0].ok("POST", path, period="60")
    await track(store, USER, USER)
    calls = [
        clients[n % 4].ok("DELETE", path) if n % 3 == 0 else clients[n % 4].ok("POST", path,
                                                                              period="60")
        for n in range(20)
    ]  # fmt: skip
    await asyncio.gather(*calls)
    assert len(await rows(store)) <= 1


async def test_parallel_posts_keep_what_another_one_set(service: Service, store: Store) -> None:
    """``max_rcpts`` is kept: also when the row is made at the same moment."""
    path = f"throttle/{USER}/outbound"
    clients = [await service.client().login() for _ in range(4)]
    forms = [{"max_rcpts": "7"}, *({"max_msgs": str(n)} for n in range(7))]
    calls = [clients[n % 4].ok("POST", path, period="60", **form) for n, form in enumerate(forms)]
    await asyncio.gather(*calls)
    assert [item["max_rcpts"] for item in await rows(store)] == [7]


async def test_removed_accounts_take_their_settings_along(store: Store, root: Client) -> None:
    for account in (USER, "local.test", "global"):
        await root.ok("POST", f"throttle/{account}/outbound", period="3600")
        await track(store, "@." if account == "global" else f"@{account}".replace("@user", "user"),
                    f"x-{account}@else.test")  # fmt: skip
    await root.ok("DELETE", f"user/{USER}")
    assert [item["account"] for item in await rows(store)] == ["@.", "@local.test"]
    await root.ok("DELETE", "domain/local.test")
    assert [item["account"] for item in await rows(store)] == ["@."]
    assert await tracked(store) == ["x-global@else.test"]


async def test_audit(store: Store, root: Client) -> None:
    await store.execute("DELETE FROM log", "iredadmin")
    await root.ok("POST", f"throttle/{USER}/outbound", period="3600", max_msgs="4711")
    await root.ok("POST", "throttle/global/inbound", period="3600")
    await root.ok("DELETE", f"throttle/{USER}/outbound")
    await root.ok("DELETE", f"throttle/{USER}/outbound")
    log = await store.rows("SELECT event, domain, username, msg FROM log ORDER BY id", "iredadmin")
    assert [tuple(item.values()) for item in log] == [
        ("iredapd", "local.test", USER, f"[API] Update throttle (outbound): {USER}."),
        ("iredapd", "", "", "[API] Update throttle (inbound): @.."),
        ("iredapd", "local.test", USER, f"[API] Update throttle (remove outbound): {USER}."),
    ]
