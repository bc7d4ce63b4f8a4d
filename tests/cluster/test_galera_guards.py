"""Galera: limits, unique names and the last global admin hold, whichever nodes are written to.

Row locks of Galera are local to a node. ``make cluster-test`` runs 20 rounds (``CLUSTER_ROUNDS``).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import pytest

from iredapi.domain.passwords import hash_password
from tests.clients import PASSWORD, ROOT
from tests.cluster.conftest import Nodes
from tests.servers import accounts
from tests.servers.api import add_root

pytestmark = pytest.mark.xdist_group("galera")  # one cluster, whatever the number of workers
ROUNDS: Final = int(os.environ.get("CLUSTER_ROUNDS", "2"))
HASH: Final = hash_password(PASSWORD)
"""Sent instead of a password: what is tested are locks, and hashing takes long."""
Answer = tuple[int, dict[str, Any]]


async def at_once(calls: Iterable[Any]) -> list[Answer]:
    return list(await asyncio.gather(*calls))


def counted(answers: Iterable[Answer]) -> dict[str, int]:
    """How often each result came: "ok", or "STATUS _msg"."""
    return dict(
        Counter(
            "ok" if body["_success"] else f"{status} {body['_msg']}" for status, body in answers
        )
    )


@pytest.mark.parametrize(
    "kind, limit, code, form",
    [
        ("user", "numberOfUsers", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT", {"password_hash": HASH}),
        ("alias", "numberOfAliases", "EXCEEDED_DOMAIN_ACCOUNT_LIMIT", {}),
        ("user", "quota", "EXCEEDED_DOMAIN_QUOTA_SIZE", {"password_hash": HASH, "quota": "1"}),
    ],
    ids=["users", "aliases", "quota"],
)
async def test_limits_of_a_domain(
    nodes: Nodes, kind: str, limit: str, code: str, form: dict[str, str]
) -> None:
    roots = await nodes.clients()
    for turn in range(ROUNDS):
        domain = f"d{turn}.test"
        await roots[0].ok("POST", f"domain/{domain}", **{limit: 10})
        answers = await at_once(
            roots[number % 3].call("POST", f"{kind}/a{number}@{domain}", data=form)
            for number in range(24)
        )
        assert counted(answers) == {"ok": 10, f"409 {code}": 14}
        made = sorted(f"a{n}@{domain}" for n, (_, body) in enumerate(answers) if body["_success"])
        table, column = ("mailbox", "username") if kind == "user" else ("alias", "address")
        for store in nodes.stores:
            rows = await store.rows(
                f"SELECT {column} AS name FROM {table} WHERE domain = :d",
                d=domain,
            )
            assert sorted(row["name"] for row in rows) == made


async def test_quota_of_users_that_grow(nodes: Nodes) -> None:
    roots = await nodes.clients()
    for turn in range(ROUNDS):
        domain = f"d{turn}.test"
        await roots[0].ok("POST", f"domain/{domain}", quota=1000)
        for number in range(9):
            await roots[0].ok("POST", f"user/u{number}@{domain}", password_hash=HASH, quota=10)
        answers = await at_once(
            roots[number % 3].call("PUT", f"user/u{number}@{domain}", data={"quota": "210"})
            for number in range(9)
        )
        assert counted(answers) == {"ok": 4, "409 EXCEEDED_DOMAIN_QUOTA_SIZE": 5}


async def test_limits_of_an_admin(nodes: Nodes) -> None:
    root = await nodes.client(0)
    for turn in range(ROUNDS):
        mail = f"limited{turn}@admins.test"
        await root.ok("POST", f"admin/{mail}", password=PASSWORD, maxDomains=5)
        limited = await nodes.clients(mail)
        answers = await at_once(
            limited[n % 3].call("POST", f"domain/d{turn}-{n}.test") for n in range(15)
        )
        assert counted(answers) == {"ok": 5, "409 EXCEED_LIMIT_DOMAIN": 10}
        rows = await nodes.store.rows(
            "SELECT domain FROM domain_admins WHERE username = :m", m=mail
        )
        assert len(rows) == 5


async def test_one_address_for_one_account(nodes: Nodes) -> None:
    roots = await nodes.clients()
    await roots[0].ok("POST", "domain/ex.test")
    for turn in range(ROUNDS):
        address = f"same{turn}@ex.test"
        for number in range(3):
            await roots[0].ok("POST", f"user/h{turn}{number}@ex.test", password_hash=HASH)
        answers = await at_once(
            call
            for number, root in enumerate(roots)
            for call in (
                root.call("POST", f"user/{address}", data={"password_hash": HASH}),
                root.call("POST", f"alias/{address}"),
                root.call("POST", f"user/h{turn}{number}@ex.test/change_email/{address}"),
                root.call("PUT", f"user/h{turn}{number}@ex.test", data={"addAlias": address}),
            )
        )
        won = [body for _, body in answers if body["_success"] and "_skipped" not in body]
        assert len(won) == 1, answers
        # A user is renamed only once.
        assert set(counted(answers)) <= {"ok", "409 ALREADY_EXISTS", "404 NO_SUCH_ACCOUNT"}, answers
        for store in nodes.stores:
            assert len(await accounts.holders(store, address)) == 1, answers


async def test_one_name_for_one_domain(nodes: Nodes) -> None:
    roots = await nodes.clients()
    for number in range(2):
        await roots[0].ok("POST", f"domain/target{number}.test")
    for turn in range(ROUNDS):
        name = f"same{turn}.test"
        answers = await at_once(
            [
                roots[0].call("POST", f"domain/{name}"),
                roots[1].call("PUT", "domain/target0.test", data={"addAliasDomain": name}),
                roots[2].call("PUT", "domain/target1.test", data={"addAliasDomain": name}),
                roots[1].call("POST", f"domain/{name}"),
            ]
        )
        assert counted(answers) == {"ok": 1, "409 ALREADY_EXISTS": 3}, answers
        for store in nodes.stores:
            assert len(await accounts.domains(store, name)) == 1


async def test_one_name_for_a_domain_and_an_admin(nodes: Nodes) -> None:
    roots = await nodes.clients()
    for turn in range(ROUNDS):
        name = f"same{turn}.test"
        answers = await at_once(
            [
                roots[turn % 3].call("POST", f"domain/{name}"),
                roots[(turn + 1) % 3].call(
                    "POST", f"admin/postmaster@{name}", data={"password": PASSWORD}
                ),
            ]
        )
        assert set(counted(answers)) <= {"ok", "400 CAN_NOT_BE_LOCAL_DOMAIN"}, answers


async def test_accounts_of_a_domain_that_is_deleted(nodes: Nodes) -> None:
    """Nothing is left in a domain that went away while accounts were made in it."""
    roots = await nodes.clients()
    for turn in range(ROUNDS):
        await roots[0].ok("POST", "domain/gone.test")
        await roots[0].ok("POST", "user/there@gone.test", password_hash=HASH)
        creations = [
            roots[n % 3].call(
                "POST", f"{('user', 'alias')[n % 2]}/a{n}@gone.test",
                data={"password_hash": HASH} if n % 2 == 0 else None,
            )
            for n in range(12)
        ]  # fmt: skip
        changes = [
            roots[1].call("PUT", "domain/gone.test", data={"addAliasDomain": "al.test"}),
            roots[2].call("PUT", "user/there@gone.test", data={"addForwarding": "x@far.org"}),
            roots[1].call("PUT", "user/there@gone.test", data={"addAlias": "more@gone.test"}),
            roots[turn % 3].call("PUT", "users/gone.test", data={"name": "N"}),
        ]
        removal = roots[turn % 3].call("DELETE", "domain/gone.test")
        answers = await at_once([*creations[:4], *changes, removal, *creations[4:]])
        allowed = {"ok", "404 NO_SUCH_DOMAIN", "404 NO_SUCH_ACCOUNT"}
        assert set(counted(answers)) <= allowed, answers
        assert await accounts.everything_of_domains(nodes.store) == [], answers


@pytest.mark.parametrize(
    "noun, method, form",
    [
        pytest.param("admin", "DELETE", {}, id="standalone-delete"),
        pytest.param("user", "PUT", {"accountStatus": "disabled"}, id="users-disable"),
        pytest.param("both", "PUT", {"isGlobalAdmin": "no"}, id="both-demote"),
    ],
)
async def test_last_global_admin(
    nodes: Nodes, noun: str, method: str, form: dict[str, str]
) -> None:
    """Three global admins end each other's rights at the same moment: one of them stays."""
    root = await nodes.client(0)
    await root.ok("POST", "domain/ex.test")
    for turn in range(ROUNDS):
        root = await nodes.client(turn)
        every = []
        for number in range(3):
            kind = noun if noun != "both" else ("admin", "user")[number % 2]
            mail = f"g{turn}{number}@{'admins.test' if kind == 'admin' else 'ex.test'}"
            await root.ok("POST", f"{kind}/{mail}", password=PASSWORD, isGlobalAdmin="yes")
            every.append(f"{kind}/{mail}")
        clients = [
            await nodes.client(number, path.partition("/")[2]) for number, path in enumerate(every)
        ]
        await accounts.remove_standalone_admin(nodes.store, ROOT)
        answers = await at_once(
            clients[number].call(method, every[(number + step) % 3], data=form)
            for number in range(3)
            for step in (1, 2)
        )
        assert len(await accounts.global_admins(nodes.store)) == 1, answers
        allowed = {"ok", "409 LAST_GLOBAL_ADMIN", "401 LOGIN_REQUIRED", "403 PERMISSION_DENIED"}
        allowed.add("404 NO_SUCH_ACCOUNT")
        assert set(counted(answers)) <= allowed, answers
        await accounts.remove_users_and_admins(nodes.store)
        await add_root(nodes.store)


@pytest.mark.parametrize(
    "path, param, shown, value",
    [
        ("user/u@{}", "addAlias", "aliases", "a{}@{}"),
        ("user/u@{}", "addForwarding", "forwarding", "f{}@gmail.com"),
        ("alias/list@{}", "addMember", "members", "m{}@gmail.com"),
        ("domain/admins/{}", "addAdmin", "admins", "admin{}@{}"),
        ("domain/{}", "addAliasDomain", "aliasDomains", "al{}.{}"),
    ],
    ids=["addAlias", "addForwarding", "addMember", "addAdmin", "addAliasDomain"],
)
async def test_additions(nodes: Nodes, path: str, param: str, shown: str, value: str) -> None:
    """20 parallel additions to one account or domain all survive."""
    roots = await nodes.clients()
    for turn in range(ROUNDS):
        domain = f"d{turn}.test"
        await roots[0].ok("POST", f"domain/{domain}")
        await roots[0].ok("POST", f"user/u@{domain}", password_hash=HASH)
        await roots[0].ok("POST", f"alias/list@{domain}")
        wanted = sorted(value.format(number, domain) for number in range(20))
        if param == "addAdmin":
            for mail in wanted:
                await roots[0].ok("POST", f"user/{mail}", password_hash=HASH)
        there = path.format(domain)
        answers = await at_once(
            roots[number % 3].call("PUT", there, data={param: item})
            for number, item in enumerate(wanted)
        )
        assert counted(answers) == {"ok": 20}, answers
        read = there.replace("domain/admins/", "domain/")
        have = (await roots[turn % 3].ok("GET", read, view="canonical"))[shown]
        assert sorted(set(have) - {f"u@{domain}"}) == wanted
