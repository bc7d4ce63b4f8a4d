"""Batches of users: concurrent creations and changes of users share transactions and statements."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from iredapi.backends.sql import user_mapping
from iredapi.backends.sql.account_repository import AccountRepository
from iredapi.backends.sql.backend import SqlTransaction
from iredapi.backends.sql.user_batches import SqlUserBatches
from iredapi.backends.unit_of_work import UnitOfWork
from iredapi.concurrency.batcher import MAX_BATCH
from iredapi.domain.actors import SYSTEM
from iredapi.domain.users import User
from iredapi.errors import Conflict, NotFound, ServerDown
from iredapi.observability import query_counter
from iredapi.operations import domains, users
from iredapi.runtime.transactions import WriteResult
from iredapi.workflows.users import create_user, update_user
from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)


async def _all(
    client: Client, method: str, *requests: tuple[str, dict[str, str]]
) -> list[tuple[int, str]]:
    """Send requests concurrently; return status and ``_msg`` of each."""
    answers = await asyncio.gather(
        *(client.call(method, path, data=form) for path, form in requests)
    )
    return [(status, answer.get("_msg", "")) for status, answer in answers]


def _users(domain: str, count: int) -> list[tuple[str, dict[str, str]]]:
    return [
        (f"user/u{number}@{domain}", {"password": PASSWORD, "name": f"U {number}"})
        for number in range(count)
    ]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches in which users were added."""
    seen: list[int] = []
    original = user_mapping.add_users

    async def add_users(
        store: AccountRepository, users: Sequence[User], *, changed: datetime | None
    ) -> None:
        seen.append(len(users))
        await original(store, users, changed=changed)

    monkeypatch.setattr(user_mapping, "add_users", add_users)
    return seen


@pytest.fixture
def changing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches in which users were changed without reading them."""
    seen: list[int] = []
    original = SqlUserBatches.update_without_read

    async def update_without_read(
        self: SqlUserBatches, changes: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Mapping[str, Mapping[str, Any]]:
        seen.append(len(changes))
        return await original(self, changes)

    monkeypatch.setattr(SqlUserBatches, "update_without_read", update_without_read)
    return seen


async def test_forty_new_users_of_one_domain(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    assert await _all(root, "POST", *_users("ex.com", 40)) == [(200, "")] * 40
    wanted = sorted(f"u{number}@ex.com" for number in range(40))
    assert await root.ok("GET", "users/ex.com", email_only="yes") == wanted
    one = await root.ok("GET", "user/u7@ex.com", view="canonical")
    assert (one["name"], one["forwarding"]) == ("U 7", ["u7@ex.com"])
    for number in range(40):
        await root.ok("POST", f"verify_password/user/u{number}@ex.com", password=PASSWORD)
    logged = await service.store.rows(
        "SELECT username FROM log WHERE event = 'create' AND domain = 'ex.com' AND username <> ''",
        "iredadmin",
    )
    assert sorted(row["username"] for row in logged) == wanted


@pytest.mark.stores("postgresql", "mariadb", "sqlite")
async def test_concurrent_requests_share_transactions(
    service: Service, root: Client, batches: list[int], changing: list[int]
) -> None:
    """Called without HTTP, so that all requests are submitted at once."""
    await root.ok("POST", "domain/ex.com", numberOfUsers="30")
    names = [f"u{number}@ex.com" for number in range(32)]
    made = await asyncio.gather(
        *(create_user(service.context, SYSTEM, mail, {"password": PASSWORD}) for mail in names),
        return_exceptions=True,
    )
    assert sum(batches) == 30
    assert max(batches) == MAX_BATCH
    # Batches may run concurrently, so which two are refused is not defined.
    assert Counter(map(type, made)) == {WriteResult: 30, Conflict: 2}
    there = [
        mail for mail, found in zip(names, made, strict=True) if isinstance(found, WriteResult)
    ]
    with query_counter.listening() as statements:
        await asyncio.gather(
            *(update_user(service.context, SYSTEM, mail, {"name": "V"}, "") for mail in there)
        )
    assert sum(changing) == 30
    assert max(changing) == MAX_BATCH
    written = [sql for sql in statements if "UPDATE" in sql]
    assert len(written) == len(changing), (changing, written)


@pytest.mark.stores("postgresql", "mariadb", "sqlite")
async def test_a_missing_user_in_a_batch(
    service: Service, root: Client, changing: list[int]
) -> None:
    """MariaDB returns only the number of rows, so such a batch is split."""
    await root.ok("POST", "domain/ex.com")
    names = [f"u{number}@ex.com" for number in range(12)]
    for mail in names[:-1]:
        await root.ok("POST", f"user/{mail}", password=PASSWORD)
    names.insert(3, names.pop())
    done = await asyncio.gather(
        *(update_user(service.context, SYSTEM, mail, {"name": "V"}, "") for mail in names),
        return_exceptions=True,
    )
    assert max(changing) == MAX_BATCH
    assert [type(found) for found in done] == [WriteResult] * 3 + [NotFound] + [WriteResult] * 8
    rows = await service.store.rows("SELECT name FROM mailbox WHERE domain = 'ex.com'", "vmail")
    assert [row["name"] for row in rows] == ["V"] * 11


async def test_concurrent_creations_keep_the_limit_of_users(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com", numberOfUsers="5")
    await root.ok("POST", "user/first@ex.com", password=PASSWORD)
    found = Counter(await _all(root, "POST", *_users("ex.com", 20)))
    assert found[200, ""] == 4
    assert sum(found.values()) - 4 == found[409, "EXCEEDED_DOMAIN_ACCOUNT_LIMIT"], found
    assert len(await root.ok("GET", "users/ex.com", email_only="yes")) == 5


async def test_concurrent_creations_keep_the_limit_of_quota(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com", quota="10")
    requests = [(path, form | {"quota": "3"}) for path, form in _users("ex.com", 12)]
    found = Counter(await _all(root, "POST", *requests))
    given = [
        int((await root.ok("GET", f"user/{mail}", view="canonical"))["quota"])
        for mail in await root.ok("GET", "users/ex.com", email_only="yes")
    ]
    assert found[200, ""] == len(given)
    assert sum(given) <= 10, (given, found)
    assert len(given) >= 3


async def test_one_address_is_created_once(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    same = [("user/one@ex.com", {"password": PASSWORD})] * 12
    found = Counter(await _all(root, "POST", *same))
    assert found == {(200, ""): 1, (409, "ALREADY_EXISTS"): 11}


async def test_each_domain_has_its_own_lengths_of_passwords(service: Service, root: Client) -> None:
    for name, least in (("long.com", "16"), ("short.com", "6")):
        await root.ok("POST", f"domain/{name}")
        await root.ok("PUT", f"domain/{name}", minPasswordLength=least)
    await root.ok("POST", "domain/plain.com")
    requests = [
        (f"user/{name}{number}@{domain}.com", {"password": password})
        for number in range(4)
        for domain in ("long", "short", "plain", "missing")
        for name, password in (("a", "Ab1-ef"), ("b", "Corr3ct-Horse"), ("c", "Corr3ct-Horse-16"))
    ]
    found = dict(
        zip((path for path, _ in requests), await _all(root, "POST", *requests), strict=True)
    )
    short, missing = (400, "PW_SHORTER_THAN_MIN_LENGTH"), (404, "NO_SUCH_DOMAIN")
    for number in range(4):
        assert [found[f"user/{name}{number}@long.com"] for name in "abc"] == [
            short, short, (200, ""),
        ]  # fmt: skip
        assert [found[f"user/{name}{number}@short.com"] for name in "abc"] == [(200, "")] * 3
        assert [found[f"user/{name}{number}@plain.com"] for name in "bc"] == [(200, "")] * 2
        assert found[f"user/a{number}@plain.com"] == short
        assert [found[f"user/{name}{number}@missing.com"] for name in "abc"] == [
            short, missing, missing,
        ]  # fmt: skip


async def test_each_request_has_its_own_response(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", aliasDomains="twin.com")
    await root.ok("POST", "domain/groups.com")
    await root.ok("POST", "alias/all@groups.com")
    settings = "UPDATE domain SET settings = 'default_groups:all@groups.com;'"
    on_sql = service.store.name != "openldap"
    if on_sql:
        await service.store.execute(f"{settings} WHERE domain = 'groups.com'", "vmail")
    await root.ok("POST", "alias/taken@ex.com")
    requests = [
        ("user/warm@ex.com", {"password": PASSWORD}),
        ("user/good@ex.com", {"password": PASSWORD, "name": "Good"}),
        ("user/taken@ex.com", {"password": PASSWORD}),
        ("user/u@nowhere.com", {"password": PASSWORD}),
        ("user/u@twin.com", {"password": PASSWORD}),
        ("user/member@groups.com", {"password": PASSWORD}),
        ("user/global@ex.com", {"password": PASSWORD, "isGlobalAdmin": "yes"}),
        ("user/last@ex.com", {"password": PASSWORD, "accountStatus": "disabled"}),
    ]
    assert await _all(root, "POST", *requests) == [
        (200, ""), (200, ""), (409, "ALREADY_EXISTS"), (404, "NO_SUCH_DOMAIN"),
        (404, "NO_SUCH_DOMAIN"), (200, ""), (200, ""), (200, ""),
    ]  # fmt: skip
    assert await root.ok("GET", "users/ex.com", email_only="yes") == [
        "global@ex.com", "good@ex.com", "last@ex.com", "warm@ex.com",
    ]  # fmt: skip
    members = (await root.ok("GET", "alias/all@groups.com", view="canonical"))["members"]
    assert members == ["member@groups.com"] * on_sql
    last = await root.ok("GET", "user/last@ex.com", view="canonical")
    assert last["accountStatus"] == "disabled"


@pytest.mark.stores("postgresql", "mariadb")
async def test_a_locked_user_delays_only_its_own_change(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 20))
    async with service.store.admin_engine("vmail").connect() as holder:
        await holder.execute(text("SELECT 1 FROM mailbox WHERE username = 'u7@ex.com' FOR UPDATE"))
        changes = {
            n: asyncio.create_task(
                update_user(service.context, SYSTEM, f"u{n}@ex.com", {"name": "V"}, "")
            )
            for n in range(20)
        }
        waiting = changes.pop(7)
        async with asyncio.timeout(5):
            await asyncio.gather(*changes.values())
        assert not waiting.done()
        await holder.rollback()
    await waiting
    names = await service.store.rows("SELECT name FROM mailbox", "vmail")
    assert [row["name"] for row in names] == ["V"] * 20


@pytest.mark.stores("postgresql", "mariadb")
async def test_locks_on_other_rows_do_not_delay_a_batch(
    service: Service, root: Client, batches: list[int], changing: list[int]
) -> None:
    """MariaDB may scan a small table, and locks every row that it reads."""
    domains = ["held.com", *(f"free{number}.com" for number in range(MAX_BATCH))]
    for name in domains:
        await root.ok("POST", f"domain/{name}")
    names = [f"u@{name}" for name in domains]
    await root.ok("POST", f"user/{names.pop(0)}", password=PASSWORD)
    batches.clear()
    async with (
        service.store.admin_engine("vmail").connect() as holder,
        asyncio.timeout(5),
    ):
        await holder.execute(text("SELECT 1 FROM domain WHERE domain = 'held.com' FOR UPDATE"))
        await holder.execute(text("SELECT 1 FROM mailbox WHERE username = 'u@held.com' FOR UPDATE"))
        await asyncio.gather(
            *(create_user(service.context, SYSTEM, mail, {"password": PASSWORD}) for mail in names)
        )
        assert sum(batches) == len(names)
        with query_counter.listening() as statements:
            await asyncio.gather(
                *(update_user(service.context, SYSTEM, mail, {"name": "V"}, "") for mail in names)
            )
        await holder.rollback()
    written = [sql for sql in statements if "UPDATE" in sql]
    assert len(written) == len(changing), (changing, written)


@pytest.mark.stores("postgresql", "mariadb")
async def test_success_means_that_the_change_was_made(service: Service, root: Client) -> None:
    """The result of one change of a user is not taken for that of another one."""
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 5))
    forms = [("u3", {"name": "V"}), ("u3", {"employeeid": "3"}), ("u4", {"employeeid": "4"})]
    async with service.store.admin_engine("vmail").connect() as holder:
        await holder.execute(text("SELECT 1 FROM mailbox WHERE username = 'u4@ex.com' FOR UPDATE"))
        changes = [
            asyncio.create_task(update_user(service.context, SYSTEM, f"{name}@ex.com", form, ""))
            for name, form in forms
        ]
        async with asyncio.timeout(5):
            await asyncio.gather(*changes[:2])
        await holder.rollback()
    await changes[2]
    rows = await service.store.rows("SELECT username, name, employeeid FROM mailbox", "vmail")
    found = {row["username"][:2]: (row["name"], row["employeeid"]) for row in rows}
    assert (found["u3"], found["u4"]) == (("V", "3"), ("U 4", "4"))


@pytest.mark.stores("mariadb", "sqlite", "postgresql")
async def test_users_of_a_batch_get_their_own_values(service: Service, root: Client) -> None:
    """Changes of the same fields are one statement; each user gets its own values."""
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 9))
    wanted = {
        f"u{number}@ex.com": {
            "name": f'It\'s \\ "{number}" % ü',
            "language": f"{'dp'[number % 2]}e",
        }
        for number in range(9)
    }
    await asyncio.gather(
        *(update_user(service.context, SYSTEM, mail, form, "") for mail, form in wanted.items()),
        update_user(service.context, SYSTEM, "u3@ex.com", {"employeeid": "33"}, ""),
    )
    rows = await service.store.rows(
        "SELECT username, name, language, employeeid FROM mailbox", "vmail"
    )
    found = {row["username"]: {k: row[k] for k in ("name", "language")} for row in rows}
    assert found == wanted
    assert {row["username"]: row["employeeid"] for row in rows if row["employeeid"]} == {
        "u3@ex.com": "33"
    }


@pytest.mark.stores("mariadb", "sqlite", "postgresql")
async def test_the_same_user_twice_in_a_batch(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 3))
    mails = [f"u{number % 3}@ex.com" for number in range(12)]
    await asyncio.gather(
        *(
            update_user(service.context, SYSTEM, mail, {"name": f"{number}"}, "")
            for number, mail in enumerate(mails)
        )
    )
    rows = await service.store.rows("SELECT username, name FROM mailbox", "vmail")
    for row in rows:
        assert mails[int(row["name"])] == row["username"]


@pytest.mark.stores("mariadb", "sqlite", "postgresql")
async def test_a_conflict_of_one_creation_does_not_refuse_others(
    service: Service, root: Client, batches: list[int]
) -> None:
    """Names that MariaDB's collation treats as equal, and addresses in alias domains."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("PUT", "domain/ex.com", aliasDomains="twin.com")
    await root.ok("POST", "domain/own.com")
    row = {"password": "x", "domain": "ex.com", "settings": ""}
    for mail in ("Ü1@ex.com", "U2@ex.com"):
        await service.store.insert("mailbox", {"username": mail, **row})
    await service.store.insert(
        "forwardings",
        {"address": "u3@twin.com", "forwarding": "x@y.com", "domain": "twin.com",
         "dest_domain": "y.com", "is_alias": 1},
    )  # fmt: skip
    await service.store.insert(
        "forwardings",
        {"address": "ü5@twin.com", "forwarding": "x@y.com", "domain": "twin.com",
         "dest_domain": "y.com", "is_alias": 1},
    )  # fmt: skip
    await service.store.insert(
        "deleted_mailboxes", {"username": "u4@ex.com", "domain": "ex.com", "maildir": "/m/u4"}
    )
    mails = [f"u{number}@{domain}" for number in range(6) for domain in ("ex.com", "own.com")]
    found = await asyncio.gather(
        *(create_user(service.context, SYSTEM, mail, {"password": PASSWORD}) for mail in mails),
        return_exceptions=True,
    )
    taken = {mail for mail, one in zip(mails, found, strict=True) if isinstance(one, Conflict)}
    # Other collations treat these letters as different.
    letters = {"u1@ex.com", "u5@ex.com"} if service.store.name == "mariadb" else set()
    assert taken == {"u2@ex.com", "u3@ex.com"} | letters
    assert sum(batches) == len(mails) - len(taken)


@pytest.mark.stores("postgresql", "mariadb")
async def test_a_locked_domain_delays_only_its_own_users(service: Service, root: Client) -> None:
    for name in ("held.com", "free.com"):
        await root.ok("POST", f"domain/{name}")
    async with service.store.admin_engine("vmail").connect() as holder:
        await holder.execute(text("SELECT 1 FROM domain WHERE domain = 'held.com' FOR UPDATE"))
        waiting = asyncio.create_task(_all(root, "POST", *_users("held.com", 3)))
        async with asyncio.timeout(5):
            assert await _all(root, "POST", *_users("free.com", 20)) == [(200, "")] * 20
        assert not waiting.done()
        await holder.rollback()
    assert await waiting == [(200, "")] * 3


async def test_concurrent_changes(service: Service, root: Client) -> None:
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 20))
    changes = [(f"user/u{number}@ex.com", {"name": f"New {number}"}) for number in range(20)]
    changes += [("user/nobody@ex.com", {"name": "X"}), ("user/u@nowhere.com", {"name": "X"})]
    changes += [("user/u3@ex.com", {"language": "de_DE", "employeeid": "3"})]
    assert await _all(root, "PUT", *changes) == [
        *[(200, "")] * 20, (404, "NO_SUCH_ACCOUNT"), (404, "NO_SUCH_DOMAIN"), (200, ""),
    ]  # fmt: skip
    for number in range(20):
        user = await root.ok("GET", f"user/u{number}@ex.com", view="canonical")
        assert user["name"] == f"New {number}"
        assert user["language"] == ("de_DE" if number == 3 else "")


async def test_concurrent_changes_by_a_normal_admin(service: Service, root: Client) -> None:
    for name in ("own.com", "other.com"):
        await root.ok("POST", f"domain/{name}")
        await root.ok("POST", f"user/u@{name}", password=PASSWORD, name="Old")
    await root.ok("POST", "user/boss@own.com", password=PASSWORD, isGlobalAdmin="yes", name="Old")
    admin = await service.admin_of("own.com")
    mine = [("user/u@own.com", {"name": "New"}), ("user/boss@own.com", {"name": "New"})]
    found = await _all(admin, "PUT", *mine, ("user/u@other.com", {"name": "New"}))
    assert found[0] == (200, "")
    assert [status for status, _ in found[1:]] == [403, 403]
    for mail, name in (("u@own.com", "New"), ("boss@own.com", "Old"), ("u@other.com", "Old")):
        assert (await root.ok("GET", f"user/{mail}", view="canonical"))["name"] == name


async def test_sessions_end_with_passwords_changed_concurrently(
    service: Service, root: Client
) -> None:
    """A user who is an admin is not changed in a batch, so its sessions end."""
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 6))
    await root.ok("PUT", "domain/admins/ex.com", addAdmin="u0@ex.com")
    boss = await service.client().login("u0@ex.com")
    new = {"password": "An0ther-Horse"}
    assert await _all(root, "PUT", *((f"user/u{n}@ex.com", new) for n in range(6))) == [
        (200, "")
    ] * 6  # fmt: skip
    assert (await boss.call("GET", "user/u1@ex.com"))[0] == 401
    for number in range(6):
        mail = f"u{number}@ex.com"
        await root.ok("POST", f"verify_password/user/{mail}", password="An0ther-Horse")


@pytest.mark.stores("mariadb", "sqlite", "postgresql")
async def test_updates_without_reading_are_exact(service: Service, root: Client) -> None:
    """MariaDB's collation ignores case, accents and trailing blanks."""
    await root.ok("POST", "domain/ex.com")
    row = {"password": "x", "domain": "ex.com", "settings": "", "name": "Old"}
    for mail in ("Ü@ex.com", "Upper@ex.com"):
        await service.store.insert("mailbox", {"username": mail, **row})
    assert (await root.refused("PUT", "user/u@ex.com", name="New"))[:2] == (404, "NO_SUCH_ACCOUNT")
    names = {
        found["username"]: found["name"]
        for found in await service.store.rows("SELECT username, name FROM mailbox", "vmail")
    }
    assert names == {"Ü@ex.com": "Old", "Upper@ex.com": "Old"}


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_an_unexpected_error_of_one_does_not_fail_others(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await root.ok("POST", "domain/ex.com")
    original = users.new_user

    def new_user(unit: UnitOfWork, mail: str, *more: Any) -> User:
        if mail == "u5@ex.com":
            raise RuntimeError("unexpected")
        return original(unit, mail, *more)

    monkeypatch.setattr(users, "new_user", new_user)
    mails = [f"u{number}@ex.com" for number in range(12)]
    made = await asyncio.gather(
        *(create_user(service.context, SYSTEM, mail, {"password": PASSWORD}) for mail in mails),
        return_exceptions=True,
    )
    assert [type(one) for one in made] == [
        RuntimeError if mail == "u5@ex.com" else WriteResult for mail in mails
    ]
    assert len(await root.ok("GET", "users/ex.com", email_only="yes")) == 11


_KILL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'iredapi' AND datname = current_database()",
    "mariadb": "SELECT CONCAT('KILL ', id) FROM information_schema.processlist"
    " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


@pytest.mark.stores("postgresql", "mariadb")
async def test_a_failed_commit_is_reported_to_all_of_its_batch(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await root.ok("POST", "domain/ex.com")
    original, broken = SqlTransaction.commit, [0]

    async def commit(self: SqlTransaction) -> None:
        broken[0] += 1
        if broken[0] == 1:
            async with service.store.admin_engine("vmail").connect() as admin:
                for (more,) in (await admin.execute(text(_KILL[service.store.name]))).all():
                    if isinstance(more, str):
                        await admin.execute(text(more))
        await original(self)

    monkeypatch.setattr(SqlTransaction, "commit", commit)
    requests = [*_users("ex.com", 5), ("user/u@nowhere.com", {"password": PASSWORD})]
    answers: list[Any] = await asyncio.gather(
        *(root.call("POST", path, data=form) for path, form in requests)
    )
    assert answers[-1][1]["_msg"] in {"NO_SUCH_DOMAIN", "SERVER_DOWN"}
    # Requests of another batch that was still reading get an error without this advice.
    lost = [answer["_detail"] for status, answer in answers if status == 503]
    assert any("during the commit" in detail for detail in lost), answers
    there = set(await root.ok("GET", "users/ex.com", email_only="yes"))
    for (path, _), (status, _) in zip(requests[:-1], answers, strict=False):
        assert (path.removeprefix("user/") in there) is (status == 200)
    # Each of them can be sent again.
    for (path, form), (status, _) in zip(requests[:-1], answers, strict=False):
        if status != 200:
            await root.ok("POST", path, **form)


@pytest.mark.stores("postgresql", "mariadb", "sqlite")
async def test_a_commit_that_takes_too_long_may_have_happened(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that gives up says so with a TimeoutError, and the server goes on."""
    await root.ok("POST", "domain/ex.com")
    await _all(root, "POST", *_users("ex.com", 1))
    original = SqlTransaction.commit

    async def commit(self: SqlTransaction) -> None:
        await original(self)
        raise TimeoutError

    monkeypatch.setattr(SqlTransaction, "commit", commit)
    names = [f"u{number}@ex.com" for number in range(3)]
    change = service.context.write(SYSTEM, domains.update, "ex.com", {"name": "New"})
    *users_made, changed = await asyncio.gather(
        *(create_user(service.context, SYSTEM, mail, {"password": PASSWORD}) for mail in names),
        change,
        return_exceptions=True,
    )
    assert isinstance(users_made[0], Conflict)
    for found in (*users_made[1:], changed):
        assert isinstance(found, ServerDown)
        assert "during the commit" in found.detail
    assert await root.ok("GET", "users/ex.com", email_only="yes") == names


@pytest.mark.stores("sqlite", "postgresql", "mariadb")
async def test_few_connections_are_enough_for_many_reads(store: Store) -> None:
    """No request holds one connection while it waits for another."""
    async with serving(store, pool_size=2, pool_timeout=5.0) as service:
        root = await service.root()
        await root.ok("POST", "domain/ex.com")
        await _all(root, "POST", *_users("ex.com", 12))
        paths = [f"user/u{number}@ex.com?view=canonical" for number in range(12)]
        paths += ["users/ex.com?view=canonical", "users/ex.com", "domain/ex.com"]
        async with asyncio.timeout(4):
            answers = await asyncio.gather(*(root.call("GET", path) for path in paths * 2))
        assert {status for status, _ in answers} == {200}
