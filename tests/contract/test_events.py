"""Events of changes: which write makes which event, who sees it, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from iredapi.domain.change_events import KINDS, ChangeEvent
from iredapi.observability import query_counter
from iredapi.runtime.outbox import Outbox
from iredapi.runtime.transactions import Transactions
from iredapi.state import StateUnavailable
from iredapi.state.events import Events
from tests.clients import PASSWORD, Client, Service, serving
from tests.contract.test_idempotency_keys import LIFE, Write, seen
from tests.servers.openldap import domain_dn
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
USER = {"password": PASSWORD, "name": "Ann"}


@pytest_asyncio.fixture
async def watched(store: Store, tmp_path: Path) -> AsyncIterator[Service]:
    (tmp_path / "mlmmj").mkdir(mode=0o700)
    spool = {"mlmmj_spool": str(tmp_path / "mlmmj"), "mlmmj_smtp_port": 1}
    async with serving(store, events=True, **spool) as service:
        yield service


@pytest_asyncio.fixture
async def boss(watched: Service) -> Client:
    client = await watched.root()
    await client.ok("POST", "domain/ex.com")
    return client


async def end(service: Service) -> str:
    await service.context.outbox.flush()
    return str(await service.context.state.events.last())


async def events(service: Service, client: Client, after: str, **more: Any) -> list[dict[str, Any]]:
    await service.context.outbox.flush()
    found: list[dict[str, Any]] = await client.ok("GET", "events", after=after, **more)
    return found


def short(found: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    return [(event["kind"], event["account"], event["fields"]) for event in found]


# fmt: off
EXPECTED: dict[int, list[tuple[str, str, list[str]]]] = {
    0: [("domain.created", "new.com", [])],
    1: [("domain.updated", "new.com", ["name"])],
    2: [("user.created", "u@new.com", [])],
    3: [("user.updated", "u@new.com", ["password"])],
    4: [("user.updated", "u@new.com", ["forwarding"])],
    5: [("admin.created", "a@far.org", [])],
    6: [("admin.updated", "a@far.org", ["name"])],
    7: [("domain.updated", "new.com", ["admins"])],
    8: [("alias.created", "al@new.com", [])],
    9: [("alias.updated", "al@new.com", ["members"])],
    10: [("user.renamed", "u@new.com", [])],
    11: [("alias.renamed", "al@new.com", [])],
    12: [("maillist.created", "m@new.com", [])],
    13: [("maillist.updated", "m@new.com", ["members"])],
    14: [("maillist.deleted", "m@new.com", [])],
    15: [("list.created", "list@new.com", [])],
    16: [("list.updated", "list@new.com", ["name"])],
    17: [("list.updated", "list@new.com", ["accountStatus"]), ("list.deleted", "list@new.com", [])],
    18: [("list.created", "last@new.com", [])],
    19: [("alias.deleted", "am@new.com", [])],
    20: [("user.deleted", "v@new.com", [])],
    21: [("admin.deleted", "a@far.org", [])],
    22: [("list.updated", "last@new.com", ["accountStatus"]), ("list.deleted", "last@new.com", []),
         ("domain.deleted", "new.com", [])],
}
"""What each write of ``LIFE`` makes."""
LIMIT = {"period": "60", "max_msgs": "5"}
POLICIES = [
    ("POST", "throttle/u@ex.com/outbound", LIMIT, "updated", "throttle"),
    ("DELETE", "throttle/u@ex.com/outbound", {}, "deleted", "throttle"),
    ("POST", "wblist/inbound/whitelist/u@ex.com", {"addresses": "a@far.org"}, "updated",
     "inbound whitelist"),
    ("DELETE", "wblist/inbound/whitelist/u@ex.com", {}, "updated", "inbound whitelist"),
    ("PUT", "spampolicy/user/u@ex.com", {"spam_score": "6"}, "updated", "spam policy"),
    ("DELETE", "spampolicy/user/u@ex.com", {}, "deleted", "spam policy"),
    ("POST", "greylisting/ex.com", {"status": "enable"}, "updated", "greylisting"),
    ("DELETE", "greylisting/ex.com", {}, "deleted", "greylisting"),
    ("POST", "greylisting/ex.com/whitelists", {"senders": "a@far.org"}, "updated",
     "greylisting whitelist"),
]
# fmt: on


def possible(store: Store) -> Iterator[tuple[int, Write]]:
    for number, write in enumerate(LIFE):
        if store.name == "openldap" or not write.path.startswith("maillist/"):
            yield number, write


async def test_each_kind_of_write_makes_its_event(
    watched: Service, boss: Client, store: Store
) -> None:
    for number, write in possible(store):
        at = await end(watched)
        response = await boss.http.request(write.method, write.path, data=write.form or None)
        assert response.status_code == 200, response.text
        found = await events(watched, boss, at)
        assert short(found) == EXPECTED[number], write
        for event in found:
            assert event["kind"] in KINDS
            assert event["actor"] == "root@admins.test"
            assert event["request_id"] == response.headers["x-request-id"]
            assert event["domain"] == ("" if event["kind"].startswith("admin.") else "new.com")
        if write.shown.startswith(("user/", "alias/")):
            assert found[0]["new_account"] == write.shown.partition("/")[2]


async def test_policies_and_all_users(watched: Service, boss: Client) -> None:
    await boss.ok("POST", "user/u@ex.com", **USER)
    for method, path, form, verb, policy in POLICIES:
        at = await end(watched)
        await boss.ok(method, path, **form)
        (found,) = await events(watched, boss, at)
        scope = "ex.com" if "/ex.com" in path else "u@ex.com"
        told = (found["kind"], found["account"], found["policy"], found["domain"])
        assert told == (f"policy.{verb}", scope, policy, "ex.com")
    at = await end(watched)
    await boss.ok("PUT", "users/ex.com", language="de_DE")
    assert short(await events(watched, boss, at)) == [("users.updated", "ex.com", ["language"])]
    at = await end(watched)
    await boss.ok("PUT", "domain/ex.com", suspend="yes")
    assert short(await events(watched, boss, at)) == [
        ("domain.updated", "ex.com", ["suspend"]),
        ("users.updated", "ex.com", ["suspend"]),
    ]


async def test_subscribers(watched: Service, boss: Client, store: Store) -> None:
    """They are kept by the list server alone; also when they follow an account."""
    await boss.ok("POST", "user/u@ex.com", **USER)
    await boss.ok("POST", "ml/news@ex.com", subscribers="u@ex.com", require_confirm="no")
    news = ("list.updated", "news@ex.com", ["subscribers"])
    at = await end(watched)
    change = {"add_subscribers": "far@far.org", "require_confirm": "no"}
    await boss.ok("PUT", "ml/news@ex.com", **change)
    assert short(await events(watched, boss, at)) == [news]
    at = await end(watched)
    await boss.ok("PUT", "ml/news@ex.com", **change)
    assert await events(watched, boss, at) == []
    await boss.ok("POST", "user/u@ex.com/change_email/v@ex.com")
    await boss.ok("DELETE", "user/v@ex.com")
    assert short(await events(watched, boss, at)) == [
        ("user.renamed", "u@ex.com", []), news, ("user.deleted", "v@ex.com", []), news,
    ]  # fmt: skip
    at = await end(watched)
    # The process dies between the two systems: the client sends it again, and nothing is new.
    gone = {"remove_subscribers": "far@far.org"}
    with killed("before"), pytest.raises(Killed):
        await boss.ok("PUT", "ml/news@ex.com", **gone)
    await store.execute("UPDATE locks SET expires = 0", "state")
    await boss.ok("PUT", "ml/news@ex.com", **gone)
    assert await events(watched, boss, at) == []
    await time_passes(store)
    await watched.context.outbox.sweep()
    (found,) = await events(watched, boss, at)
    assert (found["kind"], found["account"]) == news[:2]
    assert found["unconfirmed"] is True


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_names_that_are_stored_with_capitals(
    watched: Service, boss: Client, store: Store
) -> None:
    """Other programs store them; the events of one account have one name, for its admins too."""
    await boss.ok("POST", "ml/news@ex.com", require_confirm="no")
    norm = await watched.admin_of("ex.com")
    await store.execute("UPDATE domain SET domain = 'Ex.Com'")
    await store.execute("UPDATE maillists SET address = 'News@ex.com'")
    at = await end(watched)
    await boss.ok("PUT", "domain/ex.com", name="Example")
    await boss.ok("PUT", "domain/ex.com", suspend="yes")
    await boss.ok("PUT", "ml/news@ex.com", name="News")
    await boss.ok("DELETE", "ml/news@ex.com")
    expected = [
        ("domain.updated", "ex.com", ["name"]),
        ("domain.updated", "ex.com", ["suspend"]),
        ("users.updated", "ex.com", ["suspend"]),
        ("list.updated", "news@ex.com", ["name"]),
        ("list.updated", "news@ex.com", ["accountStatus"]),
        ("list.deleted", "news@ex.com", []),
    ]
    for client, more in ((boss, {}), (boss, {"domain": "ex.com"}), (norm, {})):
        assert short(await events(watched, client, at, **more)) == expected


async def test_several_things_at_once_are_one_event(watched: Service, boss: Client) -> None:
    await boss.ok("POST", "user/u@ex.com", **USER)
    at = await end(watched)
    await boss.ok("PUT", "user/u@ex.com", accountStatus="disabled", name="Eve", quota="7")
    (found,) = await events(watched, boss, at)
    assert found["fields"] == ["accountStatus", "name", "quota"]


async def test_what_changes_nothing_makes_no_event(watched: Service, boss: Client) -> None:
    await boss.ok("POST", "user/u@ex.com", **USER)
    at = await end(watched)
    await boss.ok("PUT", "user/u@ex.com", name="Ann")
    await boss.ok("PUT", "domain/ex.com", name="")
    await boss.ok("DELETE", "user/u@ex.com", dry_run="yes")
    await boss.ok("POST", "user/v@ex.com", **USER, dry_run="yes")
    await boss.refused("POST", "user/u@ex.com", **USER)
    await boss.refused("PUT", "user/none@ex.com", name="None")
    await boss.refused("PUT", "user/u@ex.com", quota="x")
    await boss.refused("PUT", "user/u@ex.com", name="Eve", quotas="1", strict="yes")
    await boss.ok("POST", "tokens", label="t")
    await watched.client().login()
    assert await events(watched, boss, at) == []
    assert await watched.context.state.events.pending() == (0, 0.0)
    keyed = {"headers": {"Idempotency-Key": "k"}, "data": {"name": "Eve"}}
    for _ in range(2):
        assert (await boss.call("PUT", "user/u@ex.com", **keyed))[0] == 200
    assert len(await events(watched, boss, at)) == 1


async def test_default_groups(watched: Service, boss: Client, store: Store) -> None:
    """A new user joins those that exist; nothing is told of others."""
    await boss.ok("POST", "alias/all@ex.com")
    names = "all@ex.com,none@ex.com,none@far.org"
    expected = [("user.created", "u@ex.com", []), ("alias.updated", "all@ex.com", ["members"])]
    if store.name == "openldap":
        await boss.ok("POST", "maillist/team@ex.com")
        setting = {"accountSetting": f"defaultList:{names},team@ex.com"}
        store.directory.modify(domain_dn("ex.com"), add=setting)
        expected.append(("maillist.updated", "team@ex.com", ["members"]))
    else:
        await store.execute(f"UPDATE domain SET settings = 'default_groups:{names};'")
    at = await end(watched)
    await boss.ok("POST", "user/u@ex.com", **USER)
    assert short(await events(watched, boss, at)) == expected


async def test_many_at_once(watched: Service, boss: Client) -> None:
    """Batches: each user has its events, in the order of its changes."""
    at, count = await end(watched), 24
    mails = [f"u{number}@ex.com" for number in range(count)]

    async def live(mail: str) -> None:
        await boss.ok("POST", f"user/{mail}", **USER)
        await boss.ok("PUT", f"user/{mail}", name="Eve")
        await boss.ok("PUT", f"user/{mail}", name="Eve")
        await boss.ok("PUT", f"user/{mail}", name="Ann", language="de_DE")
        await boss.ok("DELETE", f"user/{mail}")

    await asyncio.gather(*map(live, mails))
    found = await events(watched, boss, at, limit=1000)
    expected = [
        ("user.created", []),
        ("user.updated", ["name"]),
        ("user.updated", ["language", "name"]),
        ("user.deleted", []),
    ]
    for mail in mails:
        own = [(event["kind"], event["fields"]) for event in found if event["account"] == mail]
        assert own == expected, mail
    assert len(found) == len({event["id"] for event in found}) == count * len(expected)
    assert await watched.context.state.events.pending() == (0, 0.0)


async def test_imports(watched: Service, boss: Client) -> None:
    at = await end(watched)
    users = [{"type": "user", "mail": f"i{n}@ex.com", **USER} for n in range(5)]
    lines = [*users, {"type": "alias", "mail": "all@ex.com", "members": ["i1@ex.com"]}]
    body = "\n".join(map(json.dumps, lines))
    headers = {"Content-Type": "application/x-ndjson"}
    for expected in (6, 0):
        status, answer = await boss.call("POST", "import", content=body, headers=headers)
        assert (status, answer["_success"]) == (200, True), answer
        found = await events(watched, boss, at)
        assert len(found) == expected
        at = await end(watched)
    await boss.call("POST", "import?dry_run=yes", content=body.replace("i", "j"), headers=headers)
    assert await events(watched, boss, at) == []


# What a crash or an outage leaves


class Killed(BaseException):
    """The process is killed here."""


@contextmanager
def killed(where: str) -> Iterator[None]:
    """A process that dies ``before`` its commit, or ``after`` it: it publishes nothing."""

    async def die(*_: Any, **__: Any) -> None:
        raise Killed

    def die_at_once(*_: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if where == "before":
            patch.setattr(Transactions, "_commit", die)
        else:
            patch.setattr(Outbox, "committed", die_at_once)
        yield


async def time_passes(store: Store) -> None:
    await store.execute("UPDATE pending_events SET due = 0", "state")


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_process_dies(watched: Service, boss: Client, store: Store, where: str) -> None:
    """What was committed arrives; what was not is told as something that nobody knows."""
    for number, write in possible(store):
        at, shown = await end(watched), write.shown or write.path
        first = await seen(boss, shown)
        if write.path.startswith(("ml/", "maillist/")) or write.path[7:] == "new.com":
            await boss.ok(write.method, write.path, **write.form)  # several transactions
            continue
        with killed(where), pytest.raises(Killed):
            await boss.ok(write.method, write.path, **write.form)
        made = await seen(boss, shown) != first
        assert made == (where == "after"), write
        assert await events(watched, boss, at) == []
        await time_passes(store)
        assert await watched.context.outbox.sweep() == len(EXPECTED[number])
        found = await events(watched, boss, at)
        assert [event[:2] for event in short(found)] == [one[:2] for one in EXPECTED[number]]
        assert all(event["unconfirmed"] for event in found)
        assert await watched.context.outbox.sweep() == 0
        if not made:
            await boss.ok(write.method, write.path, **write.form)


async def test_a_slow_process_repeats_its_event(
    watched: Service, boss: Client, store: Store
) -> None:
    """Somebody else has published it when it was due: the consumer gets it again, confirmed."""
    at, wanted = await end(watched), Events.pending_of

    async def late(self: Events, accounts: Any) -> Any:
        await time_passes(store)
        await watched.context.outbox.sweep()
        return await wanted(self, accounts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Events, "pending_of", late)
        await boss.ok("POST", "user/u@ex.com", **USER)
        first, second = await events(watched, boss, at)
    assert first["id"] == second["id"]
    assert first.pop("unconfirmed") is True
    # A batch knows the fields when it has ended.
    assert first == second


async def test_without_the_state_database_nothing_is_written(
    watched: Service, boss: Client, store: Store
) -> None:
    async def away(*_: Any) -> None:
        raise StateUnavailable("cut by the test")

    await boss.ok("POST", "user/u@ex.com", **USER)
    at = await end(watched)
    paths = ("user/u@ex.com", "user/v@ex.com", "domain/ex.com")
    before = [await seen(boss, path) for path in paths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Events, "write", away)
        for method, path, form in (
            ("PUT", "user/u@ex.com", {"name": "Eve"}),
            ("PUT", "user/u@ex.com", {"forwarding": "a@far.org"}),
            ("POST", "user/v@ex.com", USER),
            ("PUT", "users/ex.com", {"quota": "3"}),
            ("PUT", "domain/ex.com", {"name": "Other"}),
            ("DELETE", "user/u@ex.com", {}),
        ):
            answer = await boss.http.request(method, path, data=form or None)
            assert (answer.status_code, answer.json()["_msg"]) == (503, "SERVER_DOWN"), path
            # It is certain that nothing was changed: the request may be sent again.
            assert answer.json()["_detail"] == "The state database is away.", path
            assert answer.headers["Retry-After"] == "1"
    assert [await seen(boss, path) for path in paths] == before
    assert await events(watched, boss, at) == []


@pytest.mark.parametrize("lasts", [0.0, 0.2])
async def test_a_request_that_is_cancelled_leaves_nothing(
    watched: Service, boss: Client, monkeypatch: pytest.MonkeyPatch, lasts: float
) -> None:
    """Its client is gone while its event is stored: nothing is committed, and nothing is told."""
    at, begun, write = await end(watched), asyncio.Event(), Events.write

    async def slow(self: Events, *args: Any) -> None:
        begun.set()
        await asyncio.sleep(lasts)
        await write(self, *args)
        await asyncio.sleep(0.2 - lasts)

    with monkeypatch.context() as patch:
        patch.setattr(Events, "write", slow)
        asked = asyncio.ensure_future(boss.call("PUT", "domain/ex.com", data={"name": "Never"}))
        await begun.wait()
        await asyncio.sleep(0.1)
        asked.cancel()
        await asyncio.wait([asked])
        await asyncio.sleep(0.3)
    assert asked.cancelled()
    assert await events(watched, boss, at) == []
    assert await watched.context.state.events.pending() == (0, 0.0)
    assert (await boss.ok("GET", "domain/ex.com", view="canonical"))["name"] == ""


async def test_publishing_waits_for_the_state_database(
    watched: Service, boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, publish, tries = await end(watched), Events.publish, 0

    async def away_at_first(self: Events, *args: Any, **kwargs: Any) -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StateUnavailable("cut by the test")
        return await publish(self, *args, **kwargs)

    monkeypatch.setattr(Events, "publish", away_at_first)
    await boss.ok("POST", "user/u@ex.com", **USER)
    assert short(await events(watched, boss, at)) == [("user.created", "u@ex.com", [])]
    assert tries == 3


# Who sees what


async def test_normal_admins_see_their_domains(watched: Service, boss: Client) -> None:
    await boss.ok("POST", "domain/two.com")
    norm = await watched.admin_of("ex.com")
    none = await watched.admin_of(mail="nothing@admins.test")
    limited = watched.client()
    secret = (await boss.ok("POST", "tokens", label="t", domains="two.com"))["token"]
    limited.http.headers["Authorization"] = f"Bearer {secret}"
    at = await end(watched)
    await boss.ok("POST", "user/u@ex.com", **USER)
    await boss.ok("POST", "user/u@two.com", **USER)
    await boss.ok("POST", "admin/x@far.org", password=PASSWORD)
    await boss.ok("POST", "throttle/global/outbound", period="60", max_msgs="5")
    await norm.ok("PUT", "user/u@ex.com", name="Eve")
    every = await events(watched, boss, at)
    assert [event["account"] for event in every] == [
        "u@ex.com", "u@two.com", "x@far.org", "global", "u@ex.com",
    ]  # fmt: skip
    own = await events(watched, norm, at)
    assert [(event["account"], event["actor"]) for event in own] == [
        ("u@ex.com", ""),
        ("u@ex.com", "ex-admin@admins.test"),
    ]
    assert [event["account"] for event in await events(watched, limited, at)] == ["u@two.com"]
    assert await events(watched, none, at) == []
    assert await events(watched, norm, at, domain="two.com") == []
    assert short(await events(watched, boss, at, domain="two.com", kinds="user.created")) == [
        ("user.created", "u@two.com", [])
    ]
    assert await events(watched, boss, at, kinds="user.deleted,user.renamed") == []
    assert (await watched.client().refused("GET", "events"))[:2] == (401, "LOGIN_REQUIRED")


async def test_an_earlier_domain_of_the_name_is_of_somebody_else(
    watched: Service, boss: Client
) -> None:
    await boss.ok("POST", "domain/old.com")
    await boss.ok("POST", "user/secret@old.com", **USER)
    await boss.ok("DELETE", "domain/old.com")
    await boss.ok("POST", "domain/old.com")
    norm = await watched.admin_of("old.com")
    await boss.ok("POST", "user/known@old.com", **USER)
    await watched.context.outbox.flush()
    found = [event["account"] for event in await norm.ok("GET", "events")]
    assert found == ["old.com", "old.com", "known@old.com"]


async def test_many_events_of_an_earlier_domain_are_passed_over_together(
    watched: Service, boss: Client
) -> None:
    at = await end(watched)
    state = watched.context.state.events
    gone = [
        ChangeEvent(f"{number:032x}", 0.0, "user.updated", f"u{number}@ex.com", "ex.com", {})
        for number in range(60)
    ]
    last = ChangeEvent("f" * 32, 0.0, "domain.deleted", "ex.com", "ex.com", {})
    await state.publish([*gone, last])
    norm = await watched.admin_of("ex.com")
    for name in ("u", "v"):
        await boss.ok("POST", f"user/{name}@ex.com", **USER)
    await watched.context.outbox.flush()
    found, after = [], at
    with query_counter.listening() as heard:
        for _ in range(4):  # one answer has one event
            _, answer = await norm.call("GET", "events", params={"after": after, "limit": "1"})
            found += answer["_data"]
            after = answer["_next"]
    assert answer["_data"] == []
    assert [event["account"] for event in found] == ["ex.com", "u@ex.com", "v@ex.com"]
    assert len([statement for statement in heard if "events" in statement]) < 40


# Reading


async def test_pages_and_cursors(watched: Service, boss: Client) -> None:
    at = await end(watched)
    for number in range(5):
        await boss.ok("POST", f"user/u{number}@ex.com", **USER)
    await watched.context.outbox.flush()
    found, after = [], at
    while True:
        _, answer = await boss.call("GET", "events", params={"after": after, "limit": "2"})
        after = answer["_next"]
        if not answer["_data"]:
            break
        found += answer["_data"]
    assert [event["account"] for event in found] == [f"u{n}@ex.com" for n in range(5)]
    assert after == await end(watched)
    by_id = await events(watched, boss, found[2]["id"])
    assert by_id == found[3:]
    whole = await events(watched, boss, "0-" + "0" * 32, limit=1000)
    assert whole == await boss.ok("GET", "events", limit=1000)
    assert whole[-5:] == found
    _, answer = await boss.call("GET", "events", params={"after": "latest"})
    assert (answer["_data"], answer["_next"]) == ([], after)
    # Nothing of what was read is for the client, but it has been read.
    _, answer = await boss.call("GET", "events", params={"after": at, "kinds": "list.deleted"})
    assert (answer["_data"], answer["_next"]) == ([], after)


async def test_a_repeated_event_is_no_step_back(watched: Service, boss: Client) -> None:
    await boss.ok("POST", "user/u@ex.com", **USER)
    at = await end(watched)
    await boss.ok("PUT", "user/u@ex.com", name="Eve")
    await watched.context.outbox.flush()
    (again,) = await watched.context.state.events.read(int(at.partition("-")[0]), 10)
    await boss.ok("PUT", "user/u@ex.com", name="Ann")
    await watched.context.outbox.flush()
    await watched.context.state.events.publish([again])
    _, answer = await boss.call("GET", "events", params={"after": at})
    assert len(answer["_data"]) == 3
    _, nothing = await boss.call("GET", "events", params={"after": answer["_next"]})
    assert nothing["_data"] == []
    assert len(await events(watched, boss, again.id)) == 2


async def test_what_is_gone_is_said(watched: Service, boss: Client, store: Store) -> None:
    at = await end(watched)
    for number in range(3):
        await boss.ok("POST", f"user/u{number}@ex.com", **USER)
    last = await end(watched)
    position = last.partition("-")[0]
    await store.execute(f"DELETE FROM events WHERE position < {position}", "state")
    for after in (at, "0-" + "0" * 32, "f" * 32, f"{position}-{'f' * 32}"):
        assert (await boss.refused("GET", "events", after=after))[:2] == (410, "EVENTS_EXPIRED")
    assert await events(watched, boss, last) == []


@pytest.mark.parametrize(
    "param, value",
    [
        ("after", "x"),
        ("after", ""),
        ("after", "1-2"),
        ("after", "9" * 19 + "-" + "0" * 32),
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "x"),
        ("wait", "-1"),
        ("wait", "61"),
        ("kinds", "user.eaten"),
        ("kinds", ""),
        ("domain", "no domain"),
    ],
)
async def test_wrong_parameters(boss: Client, param: str, value: str) -> None:
    status, code, params = await boss.refused("GET", "events", **{param: value})
    assert (status, params) == (400, [param]), code


async def test_waiting(watched: Service, boss: Client, store: Store) -> None:
    """An event of this process, and one of another replica, end the wait; others do not."""
    at = await end(watched)
    assert await boss.ok("GET", "events", after=at, wait=1) == []
    asked = asyncio.ensure_future(boss.ok("GET", "events", after=at, wait=20, domain="ex.com"))
    await asyncio.sleep(0.3)
    await boss.ok("POST", "domain/two.com")
    await asyncio.sleep(0.3)
    assert not asked.done()
    await boss.ok("POST", "user/u@ex.com", **USER)
    assert short(await asyncio.wait_for(asked, 5)) == [("user.created", "u@ex.com", [])]
    at = await end(watched)
    if store.name == "sqlite":
        return  # takes one process
    async with serving(store, events=True) as other:
        also = await other.root()
        waits = [
            asyncio.ensure_future(boss.ok("GET", "events", after=at, wait=20)) for _ in range(20)
        ]
        await asyncio.sleep(0.3)
        await also.ok("PUT", "user/u@ex.com", name="Eve")
        for told in await asyncio.wait_for(asyncio.gather(*waits), 10):
            assert short(told) == [("user.updated", "u@ex.com", ["name"])]


async def test_whoever_loses_its_rights_meanwhile_is_told_nothing(
    watched: Service, boss: Client
) -> None:
    norm = await watched.admin_of("ex.com")
    at = await end(watched)
    asked = asyncio.ensure_future(norm.call("GET", "events", params={"after": at, "wait": "20"}))
    await asyncio.sleep(0.3)
    await boss.ok("DELETE", "admin/ex-admin@admins.test")
    await boss.ok("POST", "user/u@ex.com", **USER)
    status, answer = await asyncio.wait_for(asked, 10)
    assert (status, answer["_msg"]) == (401, "LOGIN_REQUIRED")


# Off


async def test_changes_without_events_are_not_passed_over(store: Store) -> None:
    """The service runs without events for a while: whoever continues is told to begin again."""

    async def read(client: Client, after: str) -> tuple[int, Any]:
        status, answer = await client.call("GET", "events", params={"after": after})
        return status, answer.get("_next", answer.get("_msg"))

    begin = "0-" + "0" * 32
    async with serving(store) as service:
        service.context.outbox.start()
        await service.root()
    assert await store.rows("SELECT * FROM event_counter", "state") == []
    async with serving(store, events=True) as service:
        root = await service.root()
        assert await read(root, "latest") == (200, begin)
        await root.ok("POST", "domain/ex.com")
        old = await end(service)
        assert await read(root, begin) == (200, old)
    for _ in range(2):
        async with serving(store) as service:
            service.context.outbox.start()
            await asyncio.sleep(0.2)
            await (await service.root()).ok("PUT", "domain/ex.com", name="Example")
    async with serving(store, events=True) as service:
        root = await service.root()
        for after in (begin, old, old.partition("-")[2]):
            assert await read(root, after) == (410, "EVENTS_EXPIRED")
        _, at = await read(root, "latest")
        assert await read(root, at) == (200, at)
        await root.ok("PUT", "domain/ex.com", name="Again")
        assert short(await events(service, root, at)) == [("domain.updated", "ex.com", ["name"])]
        assert await read(root, old) == (410, "EVENTS_EXPIRED")
        new = await end(service)
        assert await read(root, new) == (200, new)
        await service.context.state.events.purge()
        await store.execute(f"DELETE FROM events WHERE position < {new.partition('-')[0]}", "state")
        assert await read(root, at) == (200, new)


async def test_off_it_costs_nothing(service: Service, root: Client, store: Store) -> None:
    refusal = await root.refused("GET", "events")
    assert refusal[:2] == (501, "EVENTS_NOT_KEPT")
    with query_counter.listening() as heard:
        await root.ok("POST", "domain/ex.com")
        await root.ok("POST", "user/u@ex.com", **USER)
        await root.ok("PUT", "user/u@ex.com", name="Eve")
        await root.ok("DELETE", "user/u@ex.com")
        await service.context.outbox.flush()
    assert not [statement for statement in heard if "event" in statement.replace("event,", "")]
    for table in ("pending_events", "events", "event_counter"):
        assert await store.rows(f"SELECT * FROM {table}", "state") == []
