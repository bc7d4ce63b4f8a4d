"""Spam policies: the columns that Amavisd reads, on every database."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from iredapi.domain import spam
from iredapi.domain.scopes import scope
from tests.api.amavisd import Row, add_user, amavisd_sees, local_test, rows, users
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import Store

PATHS = {
    "@.": "spampolicy/global",
    "@local.test": "spampolicy/domain/local.test",
    "u@local.test": "spampolicy/user/u@local.test",
}
USER, DOMAIN, GLOBAL = PATHS["u@local.test"], PATHS["@local.test"], PATHS["@."]
PARAMETERS = {
    "bypass_spam_checks", "bypass_virus_checks", "bypass_banned_checks", "bypass_header_checks",
    "quarantine_spam", "quarantine_virus", "quarantine_banned", "quarantine_bad_header",
    "prefix_spam_in_subject", "always_insert_x_spam_headers", "spam_score", "banned_rulenames",
}  # fmt: skip


async def policies(store: Store) -> dict[str, Row]:
    """What is not NULL in each policy, without its id and name."""
    found = await rows(store, "SELECT * FROM policy")
    return {
        row["policy_name"]: {
            name: value
            for name, value in row.items()
            if value is not None and name not in {"id", "policy_name"}
        }
        for row in found
    }


MAPPING: list[tuple[dict[str, str], dict[str, Any]]] = [
    *(({name: word}, {name: flag})
      for name in sorted(PARAMETERS) if name.startswith("bypass")
      for word, flag in (("yes", "Y"), ("no", "N"))),
    ({"quarantine_spam": "yes"}, {"spam_lover": "N", "spam_quarantine_to": "spam-quarantine"}),
    ({"quarantine_spam": "no"}, {"spam_lover": "Y", "spam_quarantine_to": ""}),
    ({"quarantine_virus": "yes"},
     {"virus_lover": "N", "virus_quarantine_to": "virus-quarantine"}),
    ({"quarantine_virus": "no"}, {"virus_lover": "Y", "virus_quarantine_to": ""}),
    ({"quarantine_banned": "yes"},
     {"banned_files_lover": "N", "banned_quarantine_to": "banned-quarantine"}),
    ({"quarantine_banned": "no"}, {"banned_files_lover": "Y", "banned_quarantine_to": ""}),
    ({"quarantine_bad_header": "yes"},
     {"bad_header_lover": "N", "bad_header_quarantine_to": "bad-header-quarantine"}),
    ({"quarantine_bad_header": "no"},
     {"bad_header_lover": "Y", "bad_header_quarantine_to": ""}),
    ({"prefix_spam_in_subject": "yes"}, {"spam_subject_tag2": "[SPAM] "}),
    ({"prefix_spam_in_subject": "no"}, {"spam_subject_tag2": ""}),
    ({"always_insert_x_spam_headers": "yes"}, {"spam_tag_level": -999}),
    ({"always_insert_x_spam_headers": "no"}, {"spam_tag_level": 2}),
    ({"spam_score": "4"}, {"spam_tag2_level": 4, "spam_kill_level": 4}),
    ({"spam_score": "6.9"}, {"spam_tag2_level": 6.9, "spam_kill_level": 6.9}),
    # Headers must begin where the mark does.
    ({"spam_score": "1.5"},
     {"spam_tag2_level": 1.5, "spam_kill_level": 1.5, "spam_tag_level": 1.5}),
    ({"spam_score": "-3", "always_insert_x_spam_headers": "no"},
     {"spam_tag2_level": -3, "spam_kill_level": -3, "spam_tag_level": -3}),
    ({"spam_score": "1", "always_insert_x_spam_headers": "yes"},
     {"spam_tag2_level": 1, "spam_kill_level": 1, "spam_tag_level": -999}),
    ({"spam_score": ""}, {}),
    ({"banned_rulenames": "ALLOW_MS_WORD, NO-ZIP"}, {"banned_rulenames": "ALLOW_MS_WORD,NO-ZIP"}),
    ({"banned_rulenames": ""}, {}),
]  # fmt: skip


async def test_columns_of_each_parameter(service: Service, root: Client) -> None:
    """Section 4.2, and 4.3: lover and quarantine are only made together.

    Nothing else is filled in: NULL and the empty text are not the same.
    """
    await local_test(root)
    for form, columns in MAPPING:
        await root.ok("PUT", USER, **form)
        assert (await policies(service.store))["u@local.test"] == columns, form
        name, value = next(iter(form.items()))
        shown = await root.ok("GET", USER)
        expected: Any = value
        if name == "spam_score":
            expected = float(value) if value else None
        elif name == "banned_rulenames":
            expected = [part.strip() for part in value.split(",") if part]
        assert shown[name] == expected, form
        assert {key for key, item in shown.items() if item is None or item == []} >= (
            PARAMETERS - form.keys() - {"always_insert_x_spam_headers"}
        )
        assert shown["account"] == "u@local.test"
        assert {key: item for key, item in shown["columns"].items() if item is not None} == columns
        await root.ok("DELETE", USER)


async def test_combinations_of_parameters(service: Service, root: Client) -> None:
    """Not loved and not quarantined is lost; no call leads there."""
    await local_test(root)
    words = ("yes", "no", None)
    for first, second in itertools.product(words, words):
        for word in (first, second):
            if word is not None:
                names = [name for name in PARAMETERS if name.startswith("quarantine_")]
                await root.ok("PUT", USER, **dict.fromkeys(names, word))
        found = (await policies(service.store)).get("u@local.test", {})
        for lover, target in (
            ("spam_lover", "spam_quarantine_to"),
            ("virus_lover", "virus_quarantine_to"),
            ("banned_files_lover", "banned_quarantine_to"),
            ("bad_header_lover", "bad_header_quarantine_to"),
        ):
            pair = found.get(lover), found.get(target)
            assert pair in {("Y", ""), ("N", target.replace("_quarantine_to", "-quarantine")
                                        .replace("_", "-")), (None, None)}  # fmt: skip
        await root.ok("DELETE", USER)


async def test_a_later_call_changes_only_what_it_sends(service: Service, root: Client) -> None:
    await local_test(root)
    await root.ok("PUT", USER, quarantine_spam="yes", spam_score="4", bypass_virus_checks="no")
    await root.ok("PUT", USER, spam_score="")
    await root.ok("PUT", USER, bypass_virus_checks="yes")
    assert (await policies(service.store))["u@local.test"] == {
        "spam_lover": "N",
        "spam_quarantine_to": "spam-quarantine",
        "bypass_virus_checks": "Y",
    }
    _, answer = await root.call("PUT", USER, json={"bypass_virus_checks": False, "spam_score": 5})
    assert answer == {"_success": True, "_changed": ["bypass_virus_checks", "spam_score"]}
    shown = await root.ok("GET", USER)
    assert (shown["bypass_virus_checks"], shown["spam_score"]) == ("no", 5)
    log = await service.store.rows(
        "SELECT event, domain, username, msg FROM log WHERE msg LIKE '%spam policy%' ORDER BY id",
        "iredadmin",
    )
    assert log[-1] == {
        "event": "update",
        "domain": "local.test",
        "username": "u@local.test",
        "msg": "[API] Update spam policy (bypass_virus_checks, spam_score): u@local.test.",
    }


async def test_the_tag_level_follows_a_low_score(service: Service, root: Client) -> None:
    """Section 4.2: headers are never inserted later than the mark, and inherited again after."""
    await local_test(root)

    async def level() -> Any:
        return (await policies(service.store))["u@local.test"].get("spam_tag_level")

    for score, expected in (
        ("1", 1),
        ("0.5", 0.5),
        ("1.5", 1.5),
        ("4", None),
        ("1", 1),
        ("", None),
    ):
        await root.ok("PUT", USER, spam_score=score)
        assert await level() == expected, score
    await root.ok("PUT", USER, always_insert_x_spam_headers="yes")
    await root.ok("PUT", USER, spam_score="1")
    assert await level() == -999
    await root.ok("PUT", USER, always_insert_x_spam_headers="no")
    assert await level() == 1


async def test_rows_of_users(service: Service, root: Client) -> None:
    """The priorities are always written."""
    await local_test(root)
    for path in (DOMAIN, USER):
        await root.ok("PUT", path, bypass_spam_checks="yes")
    ids = {
        row["policy_name"]: row["id"]
        for row in await rows(service.store, "SELECT id, policy_name FROM policy")
    }
    assert await users(service.store) == [
        ("@local.test", 5, ids["@local.test"]),
        ("u@local.test", 10, ids["u@local.test"]),
    ]
    await service.store.execute("UPDATE users SET priority = 7", "amavisd")
    for path in (GLOBAL, DOMAIN, USER):
        await root.ok("PUT", path, bypass_spam_checks="yes")
    found = await rows(service.store, "SELECT priority FROM users ORDER BY id")
    assert [row["priority"] for row in found] == [0, 5, 10]


async def test_columns_inherit_one_by_one(service: Service, root: Client) -> None:
    await local_test(root)
    await root.ok("PUT", DOMAIN, quarantine_spam="yes", spam_score="4",
                  prefix_spam_in_subject="yes")  # fmt: skip
    await root.ok("PUT", USER, prefix_spam_in_subject="no")
    seen = await amavisd_sees(service.store, "u@local.test", "@local.test", "@.")
    assert (seen["spam_lover"], seen["spam_quarantine_to"]) == ("N", "spam-quarantine")
    assert (seen["spam_tag2_level"], seen["spam_kill_level"]) == (4, 4)
    assert seen["spam_subject_tag2"] == ""
    other = await amavisd_sees(service.store, "other@local.test", "@local.test", "@.")
    assert other["spam_subject_tag2"] == "[SPAM] "
    answer = await root.ok("GET", USER, effective="yes")
    assert answer["account"] == "u@local.test"
    effective = answer["effective"]
    assert set(effective) == PARAMETERS
    assert effective["quarantine_spam"] == {"value": "yes", "from": "@local.test"}
    assert effective["spam_score"] == {"value": 4, "from": "@local.test"}
    assert effective["prefix_spam_in_subject"] == {"value": "no", "from": "u@local.test"}
    assert effective["quarantine_virus"] == {"value": "yes", "from": "@."}
    assert effective["always_insert_x_spam_headers"] == {"value": None, "from": None}
    columns = {name: item["value"] for name, item in answer["columns"].items()}
    assert columns == {name: value for name, value in seen.items()
                       if name in columns and value is not None}  # fmt: skip
    whole = await root.ok("GET", "spampolicy/user/other@local.test", effective="yes")
    assert whole["effective"]["prefix_spam_in_subject"] == {"value": "yes", "from": "@local.test"}
    assert await root.ok("GET", "spampolicy/user/other@local.test") == {}
    everybody = await root.ok("GET", GLOBAL, effective="yes")
    assert everybody["effective"]["quarantine_spam"] == {"value": "no", "from": "@."}


async def test_effective_tells_what_others_have_done(service: Service, root: Client) -> None:
    """A user's row that points to the global policy hides the domain's: it is told as it is."""
    await local_test(root)
    await add_user(service.store, "u@local.test", priority=10)  # policy_id: the default, 1
    await root.ok("PUT", DOMAIN, quarantine_spam="yes", banned_rulenames="A,B")
    await root.ok("PUT", GLOBAL, banned_rulenames="C")
    seen = await amavisd_sees(service.store, "u@local.test", "@local.test", "@.")
    assert seen["spam_lover"] == "Y"
    effective = (await root.ok("GET", USER, effective="yes"))["effective"]
    assert effective["quarantine_spam"] == {"value": "no", "from": "u@local.test"}
    # Amavisd adds up the rules of all policies that it finds.
    assert effective["banned_rulenames"] == {
        "value": ["C", "A", "B"],
        "from": ["u@local.test", "@local.test", "@."],
    }


async def test_others_policies_are_never_changed(service: Service, root: Client) -> None:
    """A policy is an account's own when link and name agree."""
    await local_test(root)
    store = service.store
    shipped = (await policies(store))["@."]
    await add_user(store, "u@local.test", priority=10)  # policy_id: the default, 1
    assert await root.ok("GET", USER) == {}
    await root.ok("PUT", USER, bypass_spam_checks="yes")
    assert (await policies(store))["@."] == shipped
    assert (await policies(store))["u@local.test"] == {"bypass_spam_checks": "Y"}
    await root.ok("DELETE", USER)
    assert await users(store) == [("u@local.test", 10, 0)]
    # A policy of the name that nobody points to is used again, but nothing of it comes back.
    row = {"policy_name": "u@local.test", "spam_kill_level": 1, "message_size_limit": 5}
    await store.insert("policy", row, database="amavisd")
    assert await root.ok("GET", USER) == {}
    await root.ok("PUT", USER, bypass_virus_checks="no")
    assert (await policies(store))["u@local.test"] == {"bypass_virus_checks": "N"}
    # A link into the void is no policy.
    await store.execute("DELETE FROM policy WHERE policy_name = 'u@local.test'", "amavisd")
    assert await root.ok("GET", USER) == {}
    await root.ok("PUT", USER, bypass_virus_checks="yes")
    assert (await root.ok("GET", USER))["bypass_virus_checks"] == "yes"
    assert len(await policies(store)) == 2


async def test_columns_that_are_not_ours_stay(service: Service, root: Client) -> None:
    """What is set by hand is left alone, ``banned_rulenames`` too when it is not sent."""
    await local_test(root)
    await root.ok("PUT", USER, bypass_spam_checks="no")
    await service.store.execute(
        "UPDATE policy SET banned_rulenames = 'X', spam_tag3_level = 9, spam_admin = 'a@b.test'"
        " WHERE policy_name = 'u@local.test'",
        "amavisd",
    )
    await root.ok("PUT", USER, bypass_spam_checks="yes")
    assert (await policies(service.store))["u@local.test"] == {
        "bypass_spam_checks": "Y",
        "banned_rulenames": "X",
        "spam_tag3_level": 9,
        "spam_admin": "a@b.test",
    }


async def test_deleting_a_policy_keeps_the_lists(service: Service, root: Client) -> None:
    """The row of ``users`` stays, for its lists."""
    await local_test(root)
    await root.ok("POST", "wblist/inbound/whitelist/u@local.test", addresses="a@r.test")
    await root.ok("PUT", USER, bypass_spam_checks="yes")
    await root.ok("DELETE", USER)
    assert await users(service.store) == [("u@local.test", 10, 0)]
    assert list(await policies(service.store)) == ["@."]
    assert await root.ok("GET", "wblist/inbound/whitelist/u@local.test") == ["a@r.test"]
    assert await root.ok("DELETE", USER) == {"_success": True, "_changed": []}
    assert await root.ok("GET", USER) == {}
    # And the other way round: deleting a list keeps the policy.
    await root.ok("PUT", USER, bypass_spam_checks="yes")
    await root.ok("DELETE", "wblist/inbound/whitelist/u@local.test")
    assert (await root.ok("GET", USER))["bypass_spam_checks"] == "yes"


async def test_reading_and_deleting_makes_no_rows(service: Service, root: Client) -> None:
    await local_test(root)
    for path in (DOMAIN, USER):
        assert await root.ok("GET", path) == {}
        await root.ok("DELETE", path)
        await root.ok("PUT", path)
    assert await users(service.store) == []
    assert list(await policies(service.store)) == ["@."]


async def test_the_global_policy_comes_back_as_shipped(service: Service, root: Client) -> None:
    """Without it Amavisd's file quarantines all four categories."""
    store = service.store
    shipped = (await policies(store))["@."]
    assert shipped == dict(spam.SHIPPED)
    await root.ok("DELETE", GLOBAL)
    assert await policies(store) == {}
    found = await rows(store, "SELECT email, priority, policy_id FROM users")
    assert found == [{"email": "@.", "priority": 0, "policy_id": 0}]
    assert await root.ok("GET", GLOBAL) == {}
    await root.ok("PUT", GLOBAL, spam_score="5")
    assert (await policies(store))["@."] == shipped | {"spam_tag2_level": 5, "spam_kill_level": 5}
    await root.ok("DELETE", GLOBAL)
    await store.execute("DELETE FROM users", "amavisd")
    await root.ok("PUT", GLOBAL, quarantine_spam="yes")
    found = await rows(store, "SELECT email, priority FROM users")
    assert found == [{"email": "@.", "priority": 0}]
    assert (await root.ok("GET", GLOBAL))["quarantine_spam"] == "yes"


WRONG: list[tuple[str, str, str]] = [
    *((name, value, code)
      for name in sorted(PARAMETERS - {"spam_score", "banned_rulenames"})
      for value, code in (("", "EMPTY_NOT_ALLOWED"), ("maybe", "INVALID_VALUE"))),
    *(("spam_score", value, "INVALID_NUMBER")
      for value in ("x", "nan", "inf", "1e3", "1000", "-100", "4,5", "1.2345", "0x4", "٤", "4 5")),
    *(("banned_rulenames", value, "INVALID_TEXT") for value in ("É", "x" * 65, "a;b")),
]  # fmt: skip


async def test_refusals_change_nothing(service: Service, root: Client) -> None:
    await local_test(root)
    for name, value, code in WRONG:
        form = {"quarantine_spam": "yes", name: value}
        assert await root.refused("PUT", USER, **form) == (400, code, [name]), (name, value)
    assert await root.refused("GET", USER, effective="perhaps") == (
        400, "INVALID_VALUE", ["effective"],
    )  # fmt: skip
    wanted: tuple[int, str, list[str]]
    for path, wanted in (
        ("spampolicy/user/gone@local.test", (404, "NO_SUCH_ACCOUNT", [])),
        ("spampolicy/user/u@nowhere.test", (404, "NO_SUCH_DOMAIN", [])),
        ("spampolicy/domain/nowhere.test", (404, "NO_SUCH_DOMAIN", [])),
        ("spampolicy/domain/no domain", (400, "INVALID_DOMAIN_NAME", ["domain"])),
        ("spampolicy/domain/u@local.test", (400, "INVALID_DOMAIN_NAME", ["domain"])),
        ("spampolicy/user/local.test", (400, "INVALID_MAIL", ["mail"])),
        ("spampolicy/local.test", (404, "NO_SUCH_OPERATION", [])),
    ):
        for method in ("GET", "PUT", "DELETE"):
            form = {"bypass_spam_checks": "yes"} if method == "PUT" else {}
            assert await root.refused(method, path, **form) == wanted
    assert await users(service.store) == []
    assert list(await policies(service.store)) == ["@."]


async def test_who_may(service: Service, root: Client) -> None:
    await local_test(root)
    await root.ok("POST", "domain/foreign.test")
    admin = await service.admin_of("local.test")
    nobody = service.client()
    foreign = ["spampolicy/domain/foreign.test", "spampolicy/user/u@foreign.test",
               "spampolicy/domain/absent.test"]  # fmt: skip
    for method in ("GET", "PUT", "DELETE"):
        form = {"bypass_spam_checks": "yes"} if method == "PUT" else {}
        for path in (DOMAIN, USER):
            await admin.ok(method, path, **form)
        for path in (GLOBAL, *foreign):
            assert await admin.refused(method, path, **form) == (403, "PERMISSION_DENIED", [])
        for path in PATHS.values():
            assert (await nobody.refused(method, path, **form))[:2] == (401, "LOGIN_REQUIRED")
    await root.ok("PUT", "domain/local.test", disableUserProfile="spampolicy")
    await admin.ok("GET", DOMAIN)
    assert (await admin.refused("GET", USER))[:2] == (403, "PERMISSION_DENIED")
    await root.ok("PUT", "domain/local.test", disableDomainProfile="spampolicy",
                  enableUserProfile="spampolicy")  # fmt: skip
    for path, method in itertools.product((DOMAIN, USER), ("GET", "PUT", "DELETE")):
        form = {"bypass_spam_checks": "yes"} if method == "PUT" else {}
        assert (await admin.refused(method, path, **form))[:2] == (403, "PERMISSION_DENIED")
        await root.ok(method, path, **form)


@pytest.mark.parametrize("account", PATHS)
async def test_twenty_at_once(service: Service, root: Client, account: str) -> None:
    """One row of ``users``, one policy, no error, and no change is lost."""
    await local_test(root)
    await service.store.execute("DELETE FROM users", "amavisd")
    await service.store.execute("DELETE FROM policy", "amavisd")
    names = sorted(PARAMETERS - {"spam_score", "banned_rulenames"})
    calls = [root.call("PUT", PATHS[account], data={name: "yes"}) for name in names * 2]
    answers = await asyncio.gather(*calls)
    assert [answer for answer in answers if answer[0] != 200] == []
    found = await rows(service.store, "SELECT email FROM users")
    assert found == [{"email": account}]
    assert list(await policies(service.store)) == [account]
    shown = await root.ok("GET", PATHS[account])
    assert {name: shown[name] for name in names} == dict.fromkeys(names, "yes")


async def test_setting_and_deleting_at_once(service: Service, root: Client) -> None:
    await local_test(root)
    calls = [
        root.call("PUT", USER, data={"quarantine_spam": "yes"})
        if number % 2
        else root.call("DELETE", USER)
        for number in range(20)
    ]
    assert {status for status, _ in await asyncio.gather(*calls)} == {200}
    linked = (await users(service.store))[0][2]
    assert ((await root.ok("GET", USER)) == {}) is (linked == 0)
    assert len(await policies(service.store)) == (1 if linked == 0 else 2)


def test_keys_that_amavisd_asks_for() -> None:
    """Section 2.4."""
    assert spam.lookups(scope("User@Sub.Dom.test")) == [
        "user@sub.dom.test", "user", "@sub.dom.test", "@.sub.dom.test", "@.dom.test", "@.test",
        "@.",
    ]  # fmt: skip
    assert spam.lookups(scope("dom.test")) == ["@dom.test", "@.dom.test", "@.test", "@."]
    assert spam.lookups(scope("global")) == ["@."]


@pytest.mark.stores("sqlite")
async def test_without_amavisd(store: Store) -> None:
    async with serving(store, amavisd_url="") as service:
        root = await service.root()
        await root.ok("POST", "domain/local.test")
        await root.ok("POST", "user/u@local.test", password=PASSWORD)
        for method, path in itertools.product(("GET", "PUT", "DELETE"), PATHS.values()):
            form = {"bypass_spam_checks": "yes"} if method == "PUT" else {}
            wanted: tuple[int, str, list[str]] = (501, "NOT_SUPPORTED_BY_BACKEND", [])
            assert await root.refused(method, path, **form) == wanted
