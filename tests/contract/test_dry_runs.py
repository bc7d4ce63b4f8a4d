"""``dry_run=yes``: a write is checked as the real one, tells its changes, and changes nothing.

``make fuzz`` tries ``DRY_RUNS`` random calls on each storage; else a few, always the same.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import pytest
from starlette.routing import compile_path

from iredapi.web.idempotency import NOT_HERE
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.contract import random_calls
from tests.contract.dry_runs import DRY, Twice
from tests.contract.histories import RICH, Step, step
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
FULL: Final = "DRY_RUNS" in os.environ
CALLS: Final = int(os.environ.get("DRY_RUNS", "40"))
SEED: Final = os.environ.get("DRY_RUNS_SEED", "1")
# fmt: off
MORE = (
    step("POST", "ml/news@make.com", name="News", owner="first@make.com", subscribers="x@far.org",
         require_confirm="no"),
    step("PUT", "ml/news@make.com", name="Newer", add_subscribers="y@far.org,first@make.com",
         remove_subscribers="x@far.org", require_confirm="no", max_message_size="1024"),
    step("PUT", "ml/news@make.com", accountStatus="disabled"),
    step("POST", "maillist/m@make.com", name="M", members="first@make.com"),
    step("PUT", "maillist/m@make.com", addMember="far@far.org"),
    step("POST", "throttle/alice@ex.com/outbound", period="60", max_msgs="7"),
    step("POST", "throttle/alice@ex.com/outbound", period="60", max_msgs="9"),
    step("POST", "throttle/ex.com/inbound", period="60", max_quota="9"),
    step("PUT", "spampolicy/user/alice@ex.com", bypass_spam_checks="yes"),
    step("POST", "wblist/inbound/blacklist/alice@ex.com", addresses="a@far.org,@b.org"),
    step("POST", "wblist/inbound/whitelist/alice@ex.com", addresses="a@far.org"),
    step("PUT", "wblist/inbound/whitelist/alice@ex.com", addresses="a@far.org,no@far.org"),
    step("POST", "wblist/inbound/whitelist/alice@ex.com", addresses="c@far.org"),
    step("POST", "greylisting/ex.com", status="enable"),
    step("POST", "greylisting/ex.com/whitelists", senders="a@far.org,b@far.org"),
    step("POST", "greylisting/ex.com/whitelists", addSenders="c@far.org",
         removeSenders="b@far.org"),
    step("POST", "user/nobody@nowhere.com", password=PASSWORD),
    step("POST", "user/alice@ex.com", password=PASSWORD),
    step("PUT", "user/alice@ex.com", password="x"),
    step("PUT", "user/robert@ex.com", name="Bob", unknown="1"),
    step("PUT", "user/robert@ex.com", name="Rob", unknown="1", strict="yes"),
    step("POST", "user/alice@ex.com/change_email/alicia@ex.com"),
    step("PUT", "domain/ex.com", suspend="yes"),
    step("PUT", "users/ex.com", language="de_DE", quota="99"),
    step("DELETE", "wblist/inbound/whitelist/alicia@ex.com"),
    step("DELETE", "throttle/ex.com/inbound"),
    step("DELETE", "spampolicy/user/alicia@ex.com"),
    step("DELETE", "greylisting/ex.com"),
    step("POST", "greylisting/whitelist_spf_domains", domains="far.org,near.org"),
    step("POST", "greylisting/whitelist_spf_domains", addDomains="b.org", removeDomains="far.org"),
    step("PUT", "spampolicy/domain/ex.com", bypass_spam_checks="yes"),
    step("PUT", "spampolicy/global", bypass_spam_checks="yes"),
    step("DELETE", "spampolicy/domain/ex.com"),
    step("DELETE", "spampolicy/global"),
    step("PUT", "user/carol@ex.com/change_email/caro@ex.com"),
    step("PUT", "alias/crew@ex.com/change_email/cru@ex.com"),
    step("DELETE", "user/caro@ex.com", keep_mailbox_days="3"),
    step("PUT", "deleted_mailbox/{newest}", keep_mailbox_days="30"),
    step("DELETE", "user/alicia@ex.com"),
    step("DELETE", "maillist/m@make.com"),
    step("DELETE", "ml/none@make.com"),
    step("POST", "ml/last@make.com", name="Last"),
    step("DELETE", "ml/news@make.com"),
    step("PUT", "user/second@make.com", isGlobalAdmin="yes"),
    step("DELETE", "user/second@make.com"),
    step("POST", "domain/make.com/verify"),
    step("DELETE", "domain/make.com"),
    step("DELETE", "domain/ex.com/keep_mailbox_days/7"),
)
# fmt: on
ALWAYS = {
    "user/alice@ex.com",
    "user/second@make.com",
    "user/nobody@nowhere.com",
    "ml/news@make.com",
    "throttle/alice@ex.com/outbound",
}  # fmt: skip
"""Paths of requests that are always sent twice: refusals, and what one request does not show."""


async def test_the_whole_life(root: Client, service: Service, store: Store) -> None:
    """Every operation, first as a dry run: nothing changes, and the real call says the same.

    In full each request of the history is, else the first one of each operation and a few more.
    """
    twice, succeeded = Twice(root, service), Counter[str]()
    for item in (*RICH, *MORE):
        if "{newest}" in item.path:
            newest = (await root.ok("GET", "deleted_mailboxes"))[-1]["id"]
            item = replace(item, path=item.path.format(newest=newest))  # noqa: PLW2901
        named = operations(service, item)
        if FULL or item.path in ALWAYS or not all(succeeded[name] for name in named):
            if await twice.send(item) == 200:
                succeeded.update(named)
        else:
            await twice.once(item)
    lacking = {"maillist"} if store.name != "openldap" else set()
    missing = writes(service) - succeeded.keys()
    assert {name for name in missing if name.split("/")[1] not in lacking} == set()


async def test_random_calls(root: Client, service: Service, store: Store) -> None:
    """What a dry run says is what the real call then does, wrong requests included."""
    for item in random_calls.BEFORE:
        await root.ok(item.method, item.path, **item.form)
    clients = {"": root, "of one.test": await service.admin_of("one.test")}
    twice, statuses, wrong = Twice(root, service), Counter[int](), list[str]()
    for number, (who, item) in enumerate(random_calls.of(f"{store.name} {SEED}", CALLS), 1):
        try:
            statuses[await twice.send(item, clients[who])] += 1
        except AssertionError as error:
            wrong.append(f"{number}: {error}")
            twice = Twice(root, service)
        if number % 20 == 0:  # much was removed
            for made in random_calls.BEFORE:
                await twice.once(made)
    print(f"\n{store.name}: {dict(statuses)}")
    assert wrong == []
    assert statuses[200] >= CALLS / 4, statuses
    assert statuses.total() - statuses[200] >= CALLS / 10, statuses


async def test_a_key_is_not_used_up(root: Client) -> None:
    """``Idempotency-Key`` is for what is carried out; a wrong one is refused in both."""
    await root.ok("POST", "domain/ex.com")
    key = {"Idempotency-Key": "one-and-the-same"}
    for form, changed in ((DRY, True), (DRY, True), ({}, False)):
        status, answer = await root.call("POST", "alias/a@ex.com", data=form, headers=key)
        assert (status, "_changes" in answer) == (200, changed)
    response = await root.http.post("alias/a@ex.com", headers=key)
    assert response.headers["Idempotent-Replayed"] == "true"
    status, answer = await root.call("POST", "alias/a@ex.com", data=DRY, headers=key)
    assert (status, answer["_msg"]) == (409, "ALREADY_EXISTS")
    status, answer = await root.call(
        "POST", "alias/b@ex.com", data=DRY, headers={"Idempotency-Key": "two words"}
    )
    assert (status, answer["_msg"]) == (400, "INVALID_IDEMPOTENCY_KEY")


async def test_where_the_parameter_stands(root: Client) -> None:
    """In the body as a form or as JSON, or in the query; other values than yes and no are wrong."""
    await root.ok("POST", "domain/ex.com")
    for sent in ({"data": DRY}, {"json": DRY}, {"params": DRY}):
        status, answer = await root.call("POST", "alias/a@ex.com", **sent)
        assert (status, answer["_dry_run"]) == (200, True)
    status, answer = await root.call("POST", "alias/a@ex.com", data={"dry_run": "perhaps"})
    assert (status, answer["_errors"][0]["param"]) == (400, "dry_run")
    assert await root.ok("GET", "aliases/ex.com", email_only="yes") == []
    status, answer = await root.call("POST", "alias/a@ex.com", data={"dry_run": "no"})
    assert (status, "_dry_run" in answer) == (200, False)


async def test_other_domains_are_not_told(root: Client, service: Service) -> None:
    """A removed user owns a mailing list of another domain: only a global admin is told."""
    for name in ("ex.com", "other.com"):
        await root.ok("POST", f"domain/{name}")
    await root.ok("POST", "user/a@ex.com", password=PASSWORD)
    await root.ok("POST", "ml/list@other.com", owner="a@ex.com,far@far.org")
    admin = await service.admin_of("ex.com")
    for client, accounts in ((root, {"a@ex.com", "list@other.com"}), (admin, {"a@ex.com"})):
        status, answer = await client.call("DELETE", "user/a@ex.com", data=DRY)
        assert status == 200
        assert {item["account"] for item in answer["_changes"]} == accounts
    status, answer = await admin.call("POST", "domain/new.com", data=DRY)
    assert {item["account"] for item in answer.get("_changes", ())} == (
        {"new.com"} if status == 200 else set()
    )


async def test_hidden_fields_and_a_condition(store: Store) -> None:
    """What profiles hide is not told here either, and ``If-Match`` holds."""
    await store.reset()
    async with serving(store, hidden_user_fields="mobile,employeeid") as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/a@ex.com", password=PASSWORD, mobile="555", employeeid="4711")
        form = {"mobile": "556", "name": "A", "employeeid": "4712"} | DRY
        status, answer = await root.call("PUT", "user/a@ex.com", data=form)
        assert [item["field"] for item in answer["_changes"]] == ["name"]
        assert answer["_changed"] == ["employeeid", "mobile", "name"]
        status, answer = await root.call("DELETE", "user/a@ex.com", data=DRY)
        assert status == 200
        assert not {"555", "4711"} & {str(item["old"]) for item in answer["_changes"]}
        status, answer = await root.call(
            "PUT", "user/a@ex.com", data=form, headers={"If-Match": '"n0-0"'}
        )
        assert (status, answer["_msg"]) == (412, "PRECONDITION_FAILED")


def writes(service: Service) -> set[str]:
    """All operations that write, but those that have no dry run."""
    app: Any = service.app
    return {
        f"{route.method} {route.path}".replace(" ", "")
        for router in app.operations
        for route in router.routes
        if route.method != "GET" and route.action not in NOT_HERE
    }


def operations(service: Service, item: Step) -> set[str]:
    """The operations that a step calls."""
    app: Any = service.app
    return {
        f"{item.method} {route.path}".replace(" ", "")
        for router in app.operations
        for route in router.routes
        if item.method == route.method and compile_path(route.path)[0].fullmatch(f"/{item.path}")
    }


async def test_what_has_no_dry_run(root: Client) -> None:
    token = await root.ok("POST", "tokens", label="a")
    for method, path in (
        ("POST", "tokens"), ("DELETE", f"token/{token['id']}"), ("DELETE", "sessions"),
        ("POST", "logout"), ("POST", "login"),
    ):  # fmt: skip
        form = {"label": "b", "username": ROOT, "password": PASSWORD} | DRY
        status, answer = await root.call(method, path, data=form)
        assert (status, answer["_errors"][0]["param"]) == (400, "dry_run"), path
    assert [item["label"] for item in await root.ok("GET", "tokens")] == ["a"]
