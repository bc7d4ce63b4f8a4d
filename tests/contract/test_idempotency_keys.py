"""``Idempotency-Key``: what is sent several times is carried out once, on every storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from iredapi.backends.mailing_lists.mlmmj_spool import Spool
from iredapi.errors import ApiError
from iredapi.runtime.transactions import Transactions
from iredapi.state import State
from iredapi.state.idempotency_keys import (
    LEASE,
    MAX_BODY,
    RETENTION,
    Claim,
    IdempotencyKeys,
    InUse,
    KeyLost,
    Phase,
    Reused,
    Stored,
)
from iredapi.state.write_journal import Journal
from tests.clients import PASSWORD, Client, Service
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)
USER = {"password": PASSWORD, "name": "Ann"}


async def send(
    client: Client, key: str, method: str, path: str, **form: Any
) -> tuple[int, dict[str, Any], bool]:
    """Send a form with a key; returns status, body, and whether it is the answer of before."""
    headers = {"Idempotency-Key": key}
    response = await client.http.request(method, path, data=form or None, headers=headers)
    return (
        response.status_code,
        response.json(),
        response.headers.get("Idempotent-Replayed") == "true",
    )


async def seen(client: Client, path: str) -> str:
    """What tells one state of an account from another; empty: it is not there."""
    response = await client.http.get(path, params={"view": "canonical"})
    # A list has no password, and what is not kept with it is of the list server.
    return response.headers["etag"] if response.status_code == 200 else ""


@pytest.fixture
async def there(service: Service, root: Client) -> Client:
    await root.ok("POST", "domain/ex.com")
    return root


async def test_the_first_answer_is_repeated(there: Client, store: Store) -> None:
    for method, form in (("POST", USER), ("PUT", {"name": "Eve"}), ("DELETE", {})):
        first = await send(there, f"k-{method}", method, "user/u@ex.com", **form)
        assert (first[0], first[2]) == (200, False), first
        if method != "DELETE":
            await there.ok("PUT", "user/u@ex.com", name="Later")
        state = await seen(there, "user/u@ex.com")
        again = await send(there, f"k-{method}", method, "user/u@ex.com", **form)
        assert again == (first[0], first[1], True)
        assert await seen(there, "user/u@ex.com") == state
    log = await store.rows("SELECT event FROM log WHERE username = 'u@ex.com'", "iredadmin")
    assert Counter(row["event"] for row in log) == {"create": 1, "update": 3, "delete": 1}


async def test_a_refusal_is_repeated(there: Client) -> None:
    """Also when the account is there by now: the request was decided."""
    refusal = await send(there, "k", "PUT", "user/u@ex.com", name="Eve")
    assert refusal[0] == 404
    await there.ok("POST", "user/u@ex.com", **USER)
    assert await send(there, "k", "PUT", "user/u@ex.com", name="Eve") == (*refusal[:2], True)
    wrong = await send(there, "q", "POST", "user/v@ex.com", **USER, quota="x")
    assert wrong[0] == 400, wrong
    # What is wrong before the operation begins keeps no key.
    assert (await send(there, "q", "POST", "user/v@ex.com", **USER))[0] == 200


async def test_another_request_with_the_key(there: Client) -> None:
    assert (await send(there, "k", "POST", "user/u@ex.com", **USER))[0] == 200
    for method, path, form in (
        ("POST", "user/v@ex.com", USER),
        ("PUT", "user/u@ex.com", USER),
        ("POST", "user/u@ex.com", USER | {"name": "Eve"}),
        ("POST", "user/u@ex.com", USER | {"password": f"{PASSWORD}-2"}),
        ("POST", "user/u@ex.com", USER | {"nonsense": "1"}),
        ("POST", "user/u@ex.com?strict=yes", USER),
    ):
        status, answer, replayed = await send(there, "k", method, path, **form)
        assert (status, answer["_msg"], replayed) == (422, "IDEMPOTENCY_KEY_REUSED", False), path
    for condition, status in (({}, 200), ({"If-Match": "*"}, 422)):
        headers = {"Idempotency-Key": "m", **condition}
        response = await there.http.put("user/u@ex.com", data={"name": "Eve"}, headers=headers)
        assert response.status_code == status
    assert (await there.call("GET", "user/v@ex.com"))[0] == 404
    # The same parameters in other forms are the same request; so is another prefix of the path.
    headers = {"Idempotency-Key": "k"}
    for same in (
        await there.http.post("user/u@ex.com", json=USER, headers=headers),
        await there.http.post(
            "user/u@ex.com", files={n: (None, v) for n, v in USER.items()}, headers=headers
        ),
        await there.http.post(
            "http://server/iredadmin/api/user/u@ex.com", data=USER, headers=headers
        ),
    ):
        assert (same.status_code, same.headers["Idempotent-Replayed"]) == (200, "true")


async def test_keys_belong_to_the_caller(service: Service, there: Client) -> None:
    tokens = [(await there.ok("POST", "tokens", label=name))["token"] for name in ("a", "b")]
    norm = await service.admin_of("ex.com")
    answers = [await send(there, "k", "PUT", "domain/ex.com", name="One")]
    answers.append(await send(norm, "k", "PUT", "domain/ex.com", name="Two"))
    for secret in tokens:
        client = service.client()
        client.http.headers["Authorization"] = f"Bearer {secret}"
        answers.append(await send(client, "k", "PUT", "domain/ex.com", name=secret[-8:]))
    assert [answer[0] for answer in answers] == [200] * 4
    assert not any(answer[2] for answer in answers)
    # A new login is the same caller.
    again = await send(await service.root(), "k", "PUT", "domain/ex.com", name="One")
    assert again == (200, answers[0][1], True)


@pytest.mark.stores("sqlite")
async def test_rights_are_checked_before_the_answer(service: Service, there: Client) -> None:
    norm = await service.admin_of("ex.com")
    assert (await send(norm, "k", "PUT", "domain/ex.com", name="One"))[0] == 200
    await there.ok("PUT", "domain/admins/ex.com", removeAdmin="ex-admin@admins.test")
    service.context.invalidate_caches()
    status, answer, _ = await send(norm, "k", "PUT", "domain/ex.com", name="One")
    assert (status, answer["_msg"]) == (403, "PERMISSION_DENIED")


@pytest.mark.stores("sqlite")
async def test_keys_that_are_none(there: Client) -> None:
    for key in ("", "a b", "x" * 256, "é", "a\tb"):
        headers = {b"Idempotency-Key": key.encode()}
        response = await there.http.post("user/u@ex.com", data=USER, headers=headers)
        assert (response.status_code, response.json()["_msg"]) == (400, "INVALID_IDEMPOTENCY_KEY")
    assert (await there.call("GET", "user/u@ex.com"))[0] == 404
    longest = '"' + "~" * 253 + '"'
    assert (await send(there, longest, "POST", "user/u@ex.com", **USER))[0] == 200
    assert (await send(there, longest, "POST", "user/u@ex.com", **USER))[2]
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    response = await there.http.post("user/v@ex.com", data=USER, headers=twice)
    assert response.json()["_msg"] == "INVALID_IDEMPOTENCY_KEY"


@pytest.mark.stores("sqlite")
async def test_what_takes_no_key(service: Service, there: Client) -> None:
    """Their answers are secrets, or say whether a password is right."""
    token = await there.ok("POST", "tokens", label="a")
    for method, path, form in (
        ("POST", "login", {"username": "root@admins.test", "password": PASSWORD}),
        ("POST", "tokens", {"label": "b"}),
        ("POST", f"token/{token['id']}/rotate", {}),
        ("DELETE", f"token/{token['id']}", {}),
        ("POST", "verify_password/user/u@ex.com", {"password": PASSWORD}),
        ("DELETE", "sessions", {}),
        ("POST", "logout", {}),
    ):
        status, answer, _ = await send(there, "k", method, path, **form)
        assert (status, answer["_msg"]) == (400, "IDEMPOTENCY_KEY_NOT_SUPPORTED"), path
    assert len(await there.ok("GET", "tokens")) == 1
    # A GET does nothing that could be done twice.
    assert (await send(there, "k", "GET", "domain/ex.com"))[0] == 200


async def test_parallel_requests(there: Client, store: Store) -> None:
    answers = await asyncio.gather(
        *(send(there, "k", "POST", "user/u@ex.com", **USER) for _ in range(8))
    )
    found = Counter(
        "replayed" if replayed else str(answer.get("_msg", status))
        for status, answer, replayed in answers
    )
    assert found["200"] == 1
    assert found.keys() <= {"200", "replayed", "IDEMPOTENCY_KEY_IN_USE"}
    rows = await store.rows("SELECT event FROM log WHERE username = 'u@ex.com'", "iredadmin")
    assert len(rows) == 1


@pytest.mark.stores("sqlite")
async def test_a_running_request_tells_when_to_come_again(
    there: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()
    commit = Transactions._commit

    async def slow(self: Transactions, *args: Any) -> None:
        running.set()
        await go_on.wait()
        await commit(self, *args)

    monkeypatch.setattr(Transactions, "_commit", slow)
    first = asyncio.create_task(send(there, "k", "POST", "alias/a@ex.com"))
    await running.wait()
    second = await there.http.post("alias/a@ex.com", headers={"Idempotency-Key": "k"})
    assert (second.status_code, second.json()["_msg"]) == (409, "IDEMPOTENCY_KEY_IN_USE")
    assert second.headers["Retry-After"] == "1"
    go_on.set()
    assert (await first)[0] == 200
    assert (await send(there, "k", "POST", "alias/a@ex.com"))[2]


@pytest.mark.stores("sqlite")
async def test_a_client_that_hangs_up_finds_its_answer(
    there: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()
    commit = Transactions._commit

    async def slow(self: Transactions, *args: Any) -> None:
        running.set()
        await go_on.wait()
        await commit(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Transactions, "_commit", slow)
        first = asyncio.create_task(send(there, "k", "POST", "alias/a@ex.com"))
        await running.wait()
        first.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert await send(there, "k", "POST", "alias/a@ex.com") == (200, {"_success": True}, True)


@pytest.mark.stores("sqlite")
async def test_errors_that_may_go_away_keep_no_key(
    there: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(IdempotencyKeys, "mark", away)
        assert (await send(there, "k", "POST", "alias/a@ex.com"))[0] == 500
    assert await store.rows("SELECT id FROM idempotency_keys", "state") == []
    assert await send(there, "k", "POST", "alias/a@ex.com") == (200, {"_success": True}, False)


async def test_answers_expire(service: Service, there: Client, store: Store) -> None:
    assert (await send(there, "k", "POST", "user/u@ex.com", **USER))[0] == 200
    assert (await send(there, "j", "PUT", "domain/ex.com", name="One"))[0] == 200
    past = RETENTION + 1
    await store.execute(f"UPDATE idempotency_keys SET created = created - {past}", "state")
    status, answer, _ = await send(there, "k", "POST", "user/u@ex.com", **USER)
    assert (status, answer["_msg"]) == (409, "ALREADY_EXISTS")
    assert await service.context.state.idempotency_keys.purge() == 1


async def test_what_is_stored(there: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key nor anything of the request; and no answer of any size."""
    await send(there, "secret-key", "POST", "user/u@ex.com", **USER)
    (row,) = await store.rows("SELECT * FROM idempotency_keys", "state")
    text = str(row)
    assert not [word for word in (PASSWORD, "secret-key", "Ann", "u@ex.com") if word in text]
    assert (row["phase"], row["status"], row["outcome"]) == ("done", 200, None)
    monkeypatch.setattr("iredapi.state.idempotency_keys.MAX_BODY", 300)
    gone = ",".join(f"x{number}@far.org" for number in range(20))
    sent = ("big", "PUT", "user/u@ex.com")
    first = await send(there, *sent, removeForwarding=gone)
    assert (first[0], len(first[1]["_skipped"])) == (200, 20)
    later = await send(there, *sent, removeForwarding=gone)
    assert (later[0], later[1]["_msg"]) == (409, "ANSWER_NOT_KEPT")
    assert MAX_BODY == 256 * 1024


@pytest.mark.stores("sqlite")
async def test_no_statement_without_a_key(service: Service, there: Client) -> None:
    """Neither to the state database nor of a look; and such requests are batched as before."""
    calls: list[str] = []

    async def begin(self: IdempotencyKeys, *_: Any) -> Claim:
        calls.append("begin")
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdempotencyKeys, "begin", begin)
        await there.ok("POST", "user/u@ex.com", **USER)
        await there.ok("PUT", "user/u@ex.com", name="Eve")
        await there.ok("DELETE", "user/u@ex.com")
    assert calls == []


# Processes that die


class Killed(BaseException):
    """The process is killed here."""


@contextmanager
def killed(where: str) -> Iterator[None]:
    """A process that dies ``before`` its commit, in the ``journal``, or ``after`` its commit."""

    async def die(*_: Any, **__: Any) -> None:
        raise Killed

    async def nothing(*_: Any) -> None:
        """A dead process gives nothing back."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IdempotencyKeys, "release", nothing)
        if where == "before":
            patch.setattr(Transactions, "_commit", die)
        elif where == "journal":
            patch.setattr(Journal, "complete", die)
        else:
            patch.setattr(IdempotencyKeys, "store", die)
        yield


async def time_passes(store: Store) -> None:
    """The leases of dead processes end."""
    await store.execute("UPDATE idempotency_keys SET lease = 0", "state")


async def cut_off(
    client: Client, where: str, key: str, method: str, path: str, **form: Any
) -> None:
    with killed(where), pytest.raises(Killed):
        await send(client, key, method, path, **form)


@dataclass(frozen=True)
class Write:
    """A write, and the account that shows whether it was made."""

    method: str
    path: str
    form: dict[str, str] = field(default_factory=dict)
    changed: list[str] | None = None
    shown: str = ""
    """Another path than ``path``."""

    @property
    def answer(self) -> dict[str, Any]:
        more = {} if self.changed is None else {"_changed": self.changed}
        return {"_success": True, **more}


LIFE = [
    Write("POST", "domain/new.com", {"name": "New"}),
    Write("PUT", "domain/new.com", {"name": "Newer"}, ["name"]),
    Write("POST", "user/u@new.com", USER),
    Write("PUT", "user/u@new.com", {"password": f"{PASSWORD}-2"}, ["password"]),
    Write("PUT", "user/u@new.com", {"addForwarding": "x@far.org"}, ["forwarding"]),
    Write("POST", "admin/a@far.org", {"password": PASSWORD}),
    Write("PUT", "admin/a@far.org", {"name": "Adam"}, ["name"]),
    Write("PUT", "domain/admins/new.com", {"addAdmin": "a@far.org"}, ["admins"], "domain/new.com"),
    Write("POST", "alias/al@new.com", {"members": "u@new.com"}),
    Write("PUT", "alias/al@new.com", {"addMember": "x@far.org"}, ["members"]),
    Write("POST", "user/u@new.com/change_email/v@new.com", {}, ["mail"], "user/v@new.com"),
    Write("POST", "alias/al@new.com/change_email/am@new.com", {}, ["mail"], "alias/am@new.com"),
    Write("POST", "maillist/m@new.com", {"name": "M"}),
    Write("PUT", "maillist/m@new.com", {"addMember": "x@far.org"}, ["members"]),
    Write("DELETE", "maillist/m@new.com"),
    Write("POST", "ml/list@new.com", {"name": "List"}),
    Write("PUT", "ml/list@new.com", {"name": "Lists"}, ["name"]),
    Write("DELETE", "ml/list@new.com"),
    Write("POST", "ml/last@new.com", {"name": "Goes with its domain"}),
    Write("DELETE", "alias/am@new.com"),
    Write("DELETE", "user/v@new.com"),
    Write("DELETE", "admin/a@far.org"),
    Write("DELETE", "domain/new.com"),
]


def cuts(store: Store) -> tuple[str, ...]:
    return ("before", "journal", "after") if store.name == "openldap" else ("before", "after")


async def test_a_process_dies(there: Client, store: Store) -> None:
    """Every write of an account, cut at each point where it may be: it is made once."""
    for where in cuts(store):
        for number, write in enumerate(LIFE):
            if write.path.startswith("maillist/") and store.name != "openldap":
                continue
            if where == "journal" and write.path == "domain/new.com" and write.method == "DELETE":
                # It has no journal, because it is completed by its repetition.
                await there.ok("DELETE", write.path)
                continue
            key, shown = f"{where}-{number}", write.shown or write.path
            sent = (key, write.method, write.path)
            at_first = await seen(there, shown)
            await cut_off(there, where, *sent, **write.form)
            at_crash = await seen(there, shown)
            early = await send(there, *sent, **write.form)
            assert (early[0], early[1]["_msg"]) == (409, "IDEMPOTENCY_KEY_IN_USE"), write
            await time_passes(store)
            status, answer, replayed = await send(there, *sent, **write.form)
            answer.pop("_skipped", None)
            assert (status, answer, replayed) == (200, write.answer, False), (where, write)
            at_last = await seen(there, shown)
            if where == "after":
                # Not even the same value was written again: a hash would be another one.
                assert at_last == at_crash != at_first, write
            else:
                assert at_last != at_first, write
            again = await send(there, *sent, **write.form)
            again[1].pop("_skipped", None)
            assert again == (200, write.answer, True), (where, write)
            assert await seen(there, shown) == at_last, write


async def test_what_is_skipped_is_told_after_a_crash(there: Client, store: Store) -> None:
    await there.ok("POST", "user/u@ex.com", **USER)
    form = {"removeForwarding": "x@far.org", "name": "Eve"}
    first = await send(there, "a", "PUT", "user/u@ex.com", **form)
    await there.ok("PUT", "user/u@ex.com", name="Ann")
    await cut_off(there, "after", "b", "PUT", "user/u@ex.com", **form)
    await time_passes(store)
    assert (await send(there, "b", "PUT", "user/u@ex.com", **form))[1] == first[1]
    await cut_off(there, "after", "c", "DELETE", "user/u@ex.com")
    await time_passes(store)
    unknown = {"param": "mailing_lists", "value": "u@ex.com", "reason": "OUTCOME_UNKNOWN"}
    answer = await send(there, "c", "DELETE", "user/u@ex.com")
    assert answer == (200, {"_success": True, "_skipped": [unknown]}, False)


async def test_somebody_else_came_between(there: Client, store: Store) -> None:
    """What cannot be told is said, for good, and nothing is done a second time."""
    await there.ok("POST", "user/u@ex.com", **USER)
    for where in ("before", "after"):
        sent = (where, "PUT", "user/u@ex.com")
        await cut_off(there, where, *sent, name=where)
        await there.ok("PUT", "user/u@ex.com", name=f"not {where}", quota="7")
        await time_passes(store)
        state = await seen(there, "user/u@ex.com")
        for replayed in (False, True):
            answer = await send(there, *sent, name=where)
            if store.name == "openldap" and where == "after":
                # The journal says so, whatever the account is like now.
                assert answer == (200, {"_success": True, "_changed": ["name"]}, replayed)
            else:
                assert (answer[0], answer[1]["_msg"]) == (409, "OUTCOME_UNKNOWN")
                assert answer[2] == replayed
            assert await seen(there, "user/u@ex.com") == state


async def test_what_no_look_can_tell(there: Client, store: Store) -> None:
    """Policies, all users of a domain on SQL, and whether people were invited to a list."""
    await there.ok("POST", "user/u@ex.com", **USER)
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("POST", "throttle/u@ex.com/outbound", {"period": "60", "max_msgs": "7"}),
        ("PUT", "users/ex.com", {"name": "Eve"}),
        ("POST", "ml/list@ex.com", {"subscribers": "x@far.org"}),
    ]
    for method, path, form in cases:
        await cut_off(there, "after", path, method, path, **form)
        await time_passes(store)
        for _ in range(2):
            status, answer, _ = await send(there, path, method, path, **form)
            assert (status, answer["_msg"]) == (409, "OUTCOME_UNKNOWN"), path
    # With a new key the request can be sent as ever.
    for method, path, form in cases[:2]:
        assert (await send(there, f"new-{path}", method, path, **form))[0] == 200


async def test_a_removal_that_failed_in_the_middle_goes_on(
    there: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is disabled already, and the domain has lost a list."""
    for path in ("ml/list@ex.com", "domain/ex.com"):
        await there.ok("POST", "ml/list@ex.com")

        async def remove(*_: Any, **__: Any) -> None:
            raise ApiError("LIST_SPOOL_ERROR")

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "remove", remove)
            assert (await send(there, path, "DELETE", path))[0] == 503
        assert (await send(there, path, "DELETE", path))[::2] == (200, False)
        assert (await send(there, path, "DELETE", path))[::2] == (200, True)


async def test_a_process_that_stood_still_commits_nothing(
    there: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has taken its request over meanwhile."""
    mark, answers = IdempotencyKeys.mark, []

    async def stand_still(self: IdempotencyKeys, claim: Claim, outcome: str) -> None:
        monkeypatch.setattr(IdempotencyKeys, "mark", mark)
        await store.execute("UPDATE idempotency_keys SET holder = 'another', lease = 9e9", "state")
        await mark(self, claim, outcome)

    monkeypatch.setattr(IdempotencyKeys, "mark", stand_still)
    answers.append(await send(there, "k", "POST", "user/u@ex.com", **USER))
    assert (answers[0][0], answers[0][1]["_msg"]) == (409, "IDEMPOTENCY_KEY_IN_USE")
    assert (await there.call("GET", "user/u@ex.com"))[0] == 404
    await time_passes(store)
    assert (await send(there, "k", "POST", "user/u@ex.com", **USER))[0] == 200


# The rows, with a clock


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_who_holds_a_key(store: Store) -> None:
    clock = Clock()
    one, two = [await State.open(store.state, clock=clock) for _ in range(2)]
    mine, theirs = one.idempotency_keys, two.idempotency_keys
    try:
        first = await mine.begin("a" * 64, "r" * 64)
        assert isinstance(first, Claim)
        assert first.phase is Phase.OPEN
        assert await theirs.begin("a" * 64, "r" * 64) == InUse(LEASE)
        assert isinstance(await theirs.begin("a" * 64, "s" * 64), Reused)
        clock.now += LEASE
        both = await asyncio.gather(*(theirs.begin("a" * 64, "r" * 64) for _ in range(4)))
        (second,) = [claim for claim in both if isinstance(claim, Claim)]
        with pytest.raises(KeyLost):
            await mine.mark(first, "{}")
        await mine.store(first, 200, "{}", b"{}")
        await mine.release(first)
        assert isinstance(await mine.begin("a" * 64, "r" * 64), InUse)
        await theirs.mark(second, "{}")
        await theirs.release(second)
        third = await mine.begin("a" * 64, "r" * 64)
        assert isinstance(third, Claim)
        assert (third.phase, third.outcome) == (Phase.COMMITTING, "{}")
        await mine.store(third, 200, "{}", b'{"_success":true}')
        assert await theirs.begin("a" * 64, "r" * 64) == Stored(200, "{}", '{"_success":true}')
        clock.now += RETENTION
        fresh = await theirs.begin("a" * 64, "s" * 64)
        assert isinstance(fresh, Claim)
        assert fresh.phase is Phase.OPEN
        await theirs.release(fresh)
        assert await store.rows("SELECT id FROM idempotency_keys", "state") == []
    finally:
        for state in (one, two):
            await state.close()


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_expired_keys_are_removed(store: Store) -> None:
    clock = Clock()
    state = await State.open(store.state, clock=clock)
    try:
        keys = state.idempotency_keys
        claim = await keys.begin("a" * 64, "r" * 64)
        assert isinstance(claim, Claim)
        await keys.store(claim, 200, "{}", b"{}")
        clock.now += RETENTION
        await keys.begin("b" * 64, "r" * 64)
        rows = await store.rows("SELECT id FROM idempotency_keys", "state")
        assert [row["id"] for row in rows] == ["b" * 64]
    finally:
        await state.close()


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_a_lease_is_renewed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    state = await State.open(store.state, clock=clock)
    renew, renewed = IdempotencyKeys._renew, asyncio.Event()

    async def noted(self: IdempotencyKeys, claim: Claim) -> bool:
        held = await renew(self, claim)
        renewed.set()
        return held

    try:
        keys = state.idempotency_keys
        claim = await keys.begin("a" * 64, "r" * 64)
        assert isinstance(claim, Claim)
        clock.now += LEASE - 1
        monkeypatch.setattr(IdempotencyKeys, "_renew", noted)
        with monkeypatch.context() as patch:
            patch.setattr("iredapi.state.idempotency_keys.LEASE", 0.01)
            context = keys.held(claim)
        async with context:
            await renewed.wait()
        assert await keys.begin("a" * 64, "r" * 64) == InUse(LEASE)
    finally:
        await state.close()
