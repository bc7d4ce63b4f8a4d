"""Two applications on one directory exclude each other by locks in the state database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import Client, serving
from tests.servers.store import Store

pytestmark = pytest.mark.stores("openldap")

HASH = "{SSHA}bfxqKqOOKODJw/bGqMo54f9Q/iOvQoftOQrqWA=="
ROUNDS = 25
SECONDS = 15.0
"""Time limit of a round: less than the wait for a lock, so that a blocked round fails."""
Answer = tuple[int, dict[str, Any]]
Request = tuple[str, str, dict[str, Any]]


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(store: Store) -> AsyncIterator[tuple[Client, Client]]:
    """Global admins of two applications, each with connections, caches and recovery of its own."""
    async with serving(store) as one, serving(store) as other:
        yield await one.root(), await other.root()


async def race(replicas: tuple[Client, Client], *requests: Request) -> list[Answer]:
    """Send the first request to one application, the second to the other, at the same moment."""
    async with asyncio.timeout(SECONDS):
        return await asyncio.gather(
            *(
                client.call(method, path, data=form)
                for client, (method, path, form) in zip(replicas, requests, strict=True)
            )
        )


def count_messages(answers: list[Answer]) -> dict[str, int]:
    """Count the results: "ok", "skipped CODE", or "STATUS _msg"."""
    return dict(Counter(_count_messages(*answer) for answer in answers))


def _count_messages(status: int, body: dict[str, Any]) -> str:
    if not body["_success"]:
        return f"{status} {body['_msg']}"
    # An impossible addition is reported in ``_skipped``.
    skipped = body.get("_skipped", [])
    return f"skipped {skipped[0]['reason']}" if skipped else "ok"


def winners(answers: list[Answer]) -> list[int]:
    """Which of the requests have succeeded."""
    return [number for number, answer in enumerate(answers) if _count_messages(*answer) == "ok"]


def turns() -> Iterator[tuple[int, int]]:
    """The number of each round, and which application is the first to be asked."""
    for number in range(ROUNDS):
        yield number, number % 2


def in_turn(replicas: tuple[Client, Client], first: int) -> tuple[Client, Client]:
    """Both clients, in reverse order in every second round."""
    return (replicas[1], replicas[0]) if first else replicas


def holders(store: Store, value: str) -> list[str]:
    """The entries that have an address, as their own or as a further one."""
    found = store.directory.dump()
    return sorted(
        dn
        for dn, entry in found.items()
        if value in entry.get("mail", []) + entry.get("shadowAddress", [])
    )


KINDS: dict[str, dict[str, Any]] = {
    "user": {"password_hash": HASH, "quota": "10"},
    "alias": {"members": "far@x.test"},
    "maillist": {},
}


@pytest.mark.parametrize(
    "one, other",
    [("user", "user"), ("user", "alias"), ("alias", "maillist"), ("maillist", "user")],
)
async def test_same_address(
    replicas: tuple[Client, Client], store: Store, one: str, other: str
) -> None:
    await replicas[0].ok("POST", "domain/ex.com")
    for number, first in turns():
        mail = f"a{number}@ex.com"
        answers = await race(
            in_turn(replicas, first),
            ("POST", f"{one}/{mail}", KINDS[one]),
            ("POST", f"{other}/{mail}", KINDS[other]),
        )
        assert count_messages(answers) == {"ok": 1, "409 ALREADY_EXISTS": 1}, answers
        assert len(holders(store, mail)) == 1
        # The loser has left nothing: its kind cannot be read under this name.
        won = (one, other)[winners(answers)[0]]
        await replicas[0].ok("GET", f"{won}/{mail}")


async def test_same_alias_on_two_accounts(replicas: tuple[Client, Client], store: Store) -> None:
    root = replicas[0]
    await root.ok("POST", "domain/ex.com")
    for mail in ("a@ex.com", "b@ex.com"):
        await root.ok("POST", f"user/{mail}", **KINDS["user"])
    for number, first in turns():
        alias = f"x{number}@ex.com"
        answers = await race(
            in_turn(replicas, first),
            ("PUT", "user/a@ex.com", {"addAlias": alias}),
            ("PUT", "user/b@ex.com", {"addAlias": alias}),
        )
        assert count_messages(answers) == {"ok": 1, "skipped ALREADY_EXISTS": 1}, answers
        owner = "ab"[winners(answers)[0]]
        found = holders(store, alias)
        assert [dn.partition(",")[0] for dn in found] == [f"mail={owner}@ex.com"]


async def test_alias_against_a_new_account(replicas: tuple[Client, Client], store: Store) -> None:
    root = replicas[0]
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/a@ex.com", **KINDS["user"])
    for number, first in turns():
        mail = f"x{number}@ex.com"
        answers = await race(
            in_turn(replicas, first),
            ("PUT", "user/a@ex.com", {"addAlias": mail}),
            ("POST", f"user/{mail}", KINDS["user"]),
        )
        assert len(winners(answers)) == 1, answers
        loser = answers[1 - winners(answers)[0]]
        assert _count_messages(*loser).endswith(" ALREADY_EXISTS"), loser
        assert len(holders(store, mail)) == 1


@pytest.mark.parametrize(
    "kind, limit",
    [("user", "numberOfUsers"), ("alias", "numberOfAliases"), ("maillist", "numberOfLists")],
)
async def test_last_free_place(
    replicas: tuple[Client, Client], store: Store, kind: str, limit: str
) -> None:
    root = replicas[0]
    await root.ok("POST", "domain/ex.com", **{limit: "1"})
    await root.ok("POST", f"{kind}/first@ex.com", **KINDS[kind])
    for number, first in turns():
        await root.ok("PUT", "domain/ex.com", **{limit: str(number + 2)})
        names = (f"a{number}@ex.com", f"b{number}@ex.com")
        answers = await race(
            in_turn(replicas, first),
            *[("POST", f"{kind}/{name}", KINDS[kind]) for name in names],
        )
        assert count_messages(answers) == {"ok": 1, "409 EXCEEDED_DOMAIN_ACCOUNT_LIMIT": 1}, answers
        there = [name for name in names if holders(store, name)]
        assert there == [names[winners(answers)[0]]]


async def test_same_domain(replicas: tuple[Client, Client], store: Store) -> None:
    for number, first in turns():
        name = f"d{number}.com"
        answers = await race(
            in_turn(replicas, first),
            ("POST", f"domain/{name}", {"name": "One"}),
            ("POST", f"domain/{name}", {"name": "Other"}),
        )
        assert count_messages(answers) == {"ok": 1, "409 ALREADY_EXISTS": 1}, answers
        found = await replicas[0].ok("GET", f"domain/{name}")
        assert found["cn"] == [("One", "Other")[winners(answers)[0]]]
        entries = [dn for dn in store.directory.dump() if f"domainName={name}," in dn]
        assert len(entries) == 5, "the domain and four containers"


async def test_domain_against_alias_domain(replicas: tuple[Client, Client], store: Store) -> None:
    await replicas[0].ok("POST", "domain/ex.com")
    for number, first in turns():
        name = f"d{number}.com"
        answers = await race(
            in_turn(replicas, first),
            ("POST", f"domain/{name}", {}),
            ("PUT", "domain/ex.com", {"addAliasDomain": name}),
        )
        assert len(winners(answers)) == 1, answers
        loser = answers[1 - winners(answers)[0]]
        assert _count_messages(*loser).endswith(" ALREADY_EXISTS"), loser
        tree = store.directory.dump()
        names = [e for e in tree.values() if name in e.get("domainName", [])]
        aliases = [e for e in tree.values() if name in e.get("domainAliasName", [])]
        assert (len(names), len(aliases)) in {(1, 0), (0, 1)}
