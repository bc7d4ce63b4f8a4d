"""Limits, lists and unique names hold under parallel requests to two worker processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio

from iredapi.concurrency.ttl_cache import SECONDS
from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT, Client
from tests.servers import accounts
from tests.servers.api import ApiProcess, add_root
from tests.servers.store import Store

Answer = tuple[int, dict[str, Any]]
OTHER = "other@admins.test"
HASH = hash_password(PASSWORD)
"""Sent instead of a password, so that the test measures locks and not hashing."""


class Clients:
    """Clients that speak to one service; all connections are their own, so all workers serve."""

    def __init__(self, api: ApiProcess, stack: AsyncExitStack) -> None:
        self._api = api
        self._stack = stack

    async def client(self, username: str = ROOT) -> Client:
        """A client that is logged in."""
        http = httpx.AsyncClient(
            base_url=f"{self._api.address}/api",
            timeout=60,
            trust_env=False,
            verify=False,  # noqa: S501 (it speaks no TLS, and setting that up takes time)
            limits=httpx.Limits(max_connections=50, max_keepalive_connections=0),
        )
        await self._stack.enter_async_context(http)
        return await Client(http).login(username)


@pytest_asyncio.fixture(loop_scope="session")
async def pool(api: ApiProcess) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield Clients(api, stack)


async def at_once(calls: Iterable[Any]) -> list[Answer]:
    return list(await asyncio.gather(*calls))


def counted(answers: Iterable[Answer]) -> dict[str, int]:
    """How often each result came: "ok", or "STATUS _msg"."""
    return dict(
        Counter(
            "ok" if body["_success"] else f"{status} {body['_msg']}" for status, body in answers
        )
    )


async def test_lesson_43_user_limit(store: Store, pool: Clients) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com", numberOfUsers=10)
    answers = await at_once(
        root.call("POST", f"user/u{number}@ex.com", data={"password_hash": HASH, "quota": "1"})
        for number in range(50)
    )
    assert counted(answers) == {"ok": 10, "409 EXCEEDED_DOMAIN_ACCOUNT_LIMIT": 40}
    made = sorted(f"u{n}@ex.com" for n, (_, body) in enumerate(answers) if body["_success"])
    assert await root.ok("GET", "users/ex.com", email_only="yes") == made


async def test_lesson_43_alias_limit(store: Store, pool: Clients) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com", numberOfAliases=10)
    answers = await at_once(
        root.call("POST", f"alias/a{number}@ex.com", data={"members": "x@gmail.com"})
        for number in range(50)
    )
    assert counted(answers) == {"ok": 10, "409 EXCEEDED_DOMAIN_ACCOUNT_LIMIT": 40}
    assert len(await root.ok("GET", "aliases/ex.com")) == 10


async def test_lesson_43_domain_quota(store: Store, pool: Clients) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com", quota=1000)
    answers = await at_once(
        root.call("POST", f"user/u{number}@ex.com", data={"password_hash": HASH, "quota": "100"})
        for number in range(30)
    )
    assert counted(answers) == {"ok": 10, "409 EXCEEDED_DOMAIN_QUOTA_SIZE": 20}
    assert (await root.ok("GET", "domain/ex.com"))["allocated_quota"] == 1000


async def test_lesson_43_domain_quota_of_users_that_grow(store: Store, pool: Clients) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com", quota=1000)
    for number in range(20):
        await root.ok("POST", f"user/u{number}@ex.com", password_hash=HASH, quota=10)
    answers = await at_once(
        root.call("PUT", f"user/u{number}@ex.com", data={"quota": "110"}) for number in range(20)
    )
    assert counted(answers) == {"ok": 8, "409 EXCEEDED_DOMAIN_QUOTA_SIZE": 12}
    assert (await root.ok("GET", "domain/ex.com"))["allocated_quota"] == 1000


async def test_lesson_43_domains_of_an_admin(store: Store, pool: Clients) -> None:
    root = await pool.client()
    await root.ok("POST", "admin/limited@admins.test", password=PASSWORD, maxDomains=10)
    limited = await pool.client("limited@admins.test")
    answers = await at_once(limited.call("POST", f"domain/d{n}.com") for n in range(50))
    assert counted(answers) == {"ok": 10, "409 EXCEED_LIMIT_DOMAIN": 40}
    await asyncio.sleep(SECONDS)  # the other process may believe for so long what it has read
    assert len(await limited.ok("GET", "domains", name_only="yes")) == 10
    shape = await root.ok("GET", "admin/limited@admins.test", view="canonical")
    assert len(shape["managedDomains"]) == 10


async def test_lesson_43_quota_of_an_admin(store: Store, pool: Clients) -> None:
    """A new domain and a domain that grows count against the same total."""
    root = await pool.client()
    await root.ok(
        "POST", "admin/limited@admins.test",
        password=PASSWORD, maxDomains=50, maxQuota=1, quotaUnit="GB", maxUsers=100,
    )  # fmt: skip
    limited = await pool.client("limited@admins.test")
    for number in range(4):
        await limited.ok("POST", f"domain/old{number}.com", quota=1, numberOfUsers=1)
    answers = await at_once(
        limited.call(
            "PUT" if number < 4 else "POST",
            f"domain/{'old' if number < 4 else 'new'}{number}.com",
            data={"quota": "251", "numberOfUsers": "1"},
        )
        for number in range(16)
    )
    assert set(counted(answers)) <= {"ok", "409 EXCEED_LIMIT_QUOTA"}
    found = await root.ok("GET", "domains", view="canonical")
    assert 750 < sum(domain["quota"] for domain in found) <= 1024


LISTS = [
    ("user/u@ex.com", "addAlias", "aliases", "a{}@ex.com"),
    ("user/u@ex.com", "addForwarding", "forwarding", "f{}@gmail.com"),
    ("alias/list@ex.com", "addMember", "members", "m{}@gmail.com"),
    ("domain/admins/ex.com", "addAdmin", "admins", "admin{}@ex.com"),
    ("domain/ex.com", "addAliasDomain", "aliasDomains", "al{}.com"),
]


@pytest.mark.parametrize("path, param, shown, value", LISTS, ids=[row[1] for row in LISTS])
async def test_lesson_42_additions(
    store: Store, pool: Clients, path: str, param: str, shown: str, value: str
) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password_hash=HASH)
    await root.ok("POST", "alias/list@ex.com")
    wanted = sorted(value.format(number) for number in range(20))
    if param == "addAdmin":
        for mail in wanted:
            await root.ok("POST", f"user/{mail}", password_hash=HASH)
    answers = await at_once(root.call("PUT", path, data={param: item}) for item in wanted)
    assert counted(answers) == {"ok": 20}
    assert not any("_skipped" in body for _, body in answers)
    read = path.replace("domain/admins/", "domain/")
    have = (await root.ok("GET", read, view="canonical"))[shown]
    assert sorted(set(have) - {"u@ex.com"}) == wanted


@pytest.mark.parametrize(
    "path, add, remove, shown, value",
    [
        ("user/u@ex.com", "addAlias", "removeAlias", "aliases", "a{}@ex.com"),
        ("user/u@ex.com", "addForwarding", "removeForwarding", "forwarding", "f{}@gmail.com"),
        ("alias/list@ex.com", "addMember", "removeMember", "members", "m{}@gmail.com"),
    ],
    ids=["addAlias", "addForwarding", "addMember"],
)
async def test_lesson_42_additions_and_removals(
    store: Store, pool: Clients, path: str, add: str, remove: str, shown: str, value: str
) -> None:
    root = await pool.client()
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password_hash=HASH)
    await root.ok("POST", "alias/list@ex.com")
    old = [value.format(number) for number in range(10)]
    new = [value.format(number) for number in range(10, 20)]
    await root.ok("PUT", path, **{add: ",".join(old)})
    answers = await at_once(
        root.call("PUT", path, data={param: item})
        for pair in zip(((add, item) for item in new), ((remove, i) for i in old), strict=True)
        for param, item in pair
    )
    assert counted(answers) == {"ok": 20}
    have = (await root.ok("GET", path, view="canonical"))[shown]
    assert sorted(set(have) - {"u@ex.com"}) == sorted(new)


DELETE: tuple[str, dict[str, str]] = ("DELETE", {})
DEMOTE: tuple[str, dict[str, str]] = ("PUT", {"isGlobalAdmin": "no"})
DISABLE: tuple[str, dict[str, str]] = ("PUT", {"accountStatus": "disabled"})


@pytest.mark.parametrize(
    "kind, how",
    [
        pytest.param("standalone", DELETE, id="standalone-delete"),
        pytest.param("standalone", DEMOTE, id="standalone-demote"),
        pytest.param("mail users", DELETE, id="users-delete"),
        pytest.param("mail users", DISABLE, id="users-disable"),
        pytest.param("one of each", DEMOTE, id="both-demote"),
    ],
)
async def test_lesson_09_last_global_admin(
    store: Store, pool: Clients, kind: str, how: tuple[str, dict[str, str]]
) -> None:
    """Two global admins remove each other at the same moment: one of them stays."""
    method, form = how
    for turn in range(2):
        root = await pool.client()
        await root.call("POST", "domain/ex.com")
        pair = []
        for number in range(2):
            standalone = kind == "standalone" or (kind == "one of each" and number == 0)
            mail = f"g{turn}{number}@{'admins.test' if standalone else 'ex.com'}"
            noun = "admin" if standalone else "user"
            await root.ok("POST", f"{noun}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
            pair.append((noun, mail))
        clients = [await pool.client(mail) for _, mail in pair]
        await accounts.remove_standalone_admin(store, ROOT)
        (first, one), (second, two) = pair
        answers = await at_once(
            [
                clients[0].call(method, f"{second}/{two}", data=form),
                clients[1].call(method, f"{first}/{one}", data=form),
            ]
        )
        assert len(await accounts.global_admins(store)) == 1, answers
        results = counted(answers)
        assert results.pop("ok") == 1, answers
        # Whoever comes second is nobody by then, or is told that it would be the last one.
        assert set(results) <= {"409 LAST_GLOBAL_ADMIN", "401 LOGIN_REQUIRED"}, answers
        await accounts.remove_users_and_admins(store)
        await add_root(store)


async def test_lesson_09_last_global_admins_of_a_domain(store: Store, pool: Clients) -> None:
    """Bulk disabling, and deleting domains, count too."""
    root = await pool.client()
    for name in ("a.com", "b.com"):
        await root.ok("POST", f"domain/{name}")
        await root.ok("POST", f"user/g@{name}", password=PASSWORD, isGlobalAdmin="yes")
    clients = {name: await pool.client(f"g@{name}") for name in ("a.com", "b.com")}
    await accounts.remove_standalone_admin(store, ROOT)
    answers = await at_once(
        [
            clients["a.com"].call("PUT", "users/b.com", data={"accountStatus": "disabled"}),
            clients["b.com"].call("DELETE", "domain/a.com"),
        ]
    )
    assert len(await accounts.global_admins(store)) == 1, answers
    assert counted(answers).get("ok") == 1, answers


async def test_one_address_for_one_account(store: Store, pool: Clients) -> None:
    """The same address as a user, an alias account, an alias address of a user, a new name."""
    root = await pool.client()
    await root.ok("POST", "domain/ex.com")
    for number in range(5):
        await root.ok("POST", f"user/holder{number}@ex.com", password_hash=HASH)
    for turn in range(4):
        address = f"same{turn}@ex.com"
        answers = await at_once(
            [
                *(
                    root.call("POST", f"user/{address}", data={"password_hash": HASH})
                    for _ in range(3)
                ),
                *(root.call("POST", f"alias/{address}") for _ in range(3)),
                root.call("POST", f"user/holder{turn}@ex.com/change_email/{address}"),
                root.call("PUT", "user/holder4@ex.com", data={"addAlias": address}),
            ]
        )
        won = [body for _, body in answers if body["_success"] and "_skipped" not in body]
        assert len(won) == 1, answers
        assert set(counted(answers)) <= {"ok", "409 ALREADY_EXISTS"}, answers
        assert len(await accounts.holders(store, address)) == 1, answers


async def test_one_name_for_one_domain(store: Store, pool: Clients) -> None:
    """The same name as a domain and as an alias domain of two others."""
    root = await pool.client()
    await root.ok("POST", "domain/one.com")
    await root.ok("POST", "domain/two.com")
    for turn in range(4):
        name = f"same{turn}.com"
        answers = await at_once(
            [
                root.call("POST", f"domain/{name}"),
                root.call("PUT", "domain/one.com", data={"addAliasDomain": name}),
                root.call("PUT", "domain/two.com", data={"addAliasDomain": name}),
                root.call("POST", f"domain/{name}"),
            ]
        )
        assert counted(answers) == {"ok": 1, "409 ALREADY_EXISTS": 3}
        assert len(await accounts.domains(store, name)) == 1


async def test_one_name_for_a_domain_and_an_admin(store: Store, pool: Clients) -> None:
    """A standalone admin's address is never in a hosted domain."""
    root = await pool.client()
    for turn in range(4):
        name = f"same{turn}.com"
        answers = await at_once(
            [
                root.call("POST", f"domain/{name}"),
                root.call("POST", f"admin/postmaster@{name}", data={"password": PASSWORD}),
            ]
        )
        domains = await accounts.domains(store, name, aliases=False)
        admins = await accounts.standalone_admins(store, f"postmaster@{name}")
        assert len(domains) + len(admins) == sum(body["_success"] for _, body in answers)
        # An admin of a domain that is hosted later stays: only a new one is refused.
        assert set(counted(answers)) <= {"ok", "400 CAN_NOT_BE_LOCAL_DOMAIN"}


async def test_accounts_of_a_domain_that_is_deleted(store: Store, pool: Clients) -> None:
    """Nothing is left in a domain that went away while accounts were made in it."""
    root = await pool.client()
    for _ in range(3):
        await root.ok("POST", "domain/gone.com")
        answers = await at_once(
            [
                *(
                    root.call("POST", f"user/u{n}@gone.com", data={"password_hash": HASH})
                    for n in range(5)
                ),
                root.call("DELETE", "domain/gone.com"),
                *(root.call("POST", f"alias/a{n}@gone.com") for n in range(5)),
                *(
                    root.call("PUT", "domain/gone.com", data={"addAliasDomain": f"al{n}.com"})
                    for n in range(3)
                ),
            ]
        )
        assert set(counted(answers)) <= {"ok", "404 NO_SUCH_DOMAIN"}, answers
        assert await accounts.everything_of_domains(store) == []


async def test_many_requests_on_one_cookie(store: Store, pool: Clients) -> None:
    root = await pool.client()
    answers = await at_once(root.call("GET", "domains") for _ in range(60))
    assert counted(answers) == {"ok": 60}


async def test_parallel_guesses(store: Store, pool: Clients, api: ApiProcess) -> None:
    """However many guesses arrive at once, ten are verified."""
    async with httpx.AsyncClient(base_url=api.address, timeout=60, trust_env=False) as http:
        responses = await asyncio.gather(
            *(
                http.post("/api/login", data={"username": ROOT, "password": f"Wrong-{n}"})
                for n in range(40)
            )
        )
    assert dict(Counter(response.status_code for response in responses)) == {401: 10, 429: 30}
