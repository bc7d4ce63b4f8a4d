"""Guessing passwords: what strangers can do to an account, and what its owner notices of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from iredapi.auth.login_throttle import networks_of, tag_of
from iredapi.config.settings import Settings
from iredapi.errors import Overloaded
from iredapi.runtime.guess_key import guess_key
from tests.api.test_sessions import Clock
from tests.clients import PASSWORD, ROOT, Client, Service, serving
from tests.servers.openldap import account_dn
from tests.servers.store import ALL_STORES, Store

pytestmark = pytest.mark.stores(*ALL_STORES)

HOME, NEIGHBOUR, STRANGER = "192.0.2.10", "192.0.2.77", "198.51.100.1"
_numbers = itertools.count()
_tried: set[tuple[bytes, str]] = set()


def new_guess(service: Service, address: str, mail: str) -> str:
    """A password whose tag no other guess has: two of some thousands would have the same."""
    key, where = service.context.guess_key, networks_of(address)[-1]
    for number in _numbers:
        tag = (key, tag_of(key, mail, where, guess := f"Guess-{number}"))
        if tag not in _tried:
            break
    _tried.add(tag)
    return guess


async def login(service: Service, address: str, password: str = "", mail: str = ROOT) -> int:
    """Log in, with a password that was never tried unless one is given; the status."""
    form = {"username": mail, "password": password or new_guess(service, address, mail)}
    status, _ = await service.client(address=address).call("POST", "login", data=form)
    return status


async def guess_until_refused(service: Service, address: str, mail: str = ROOT) -> int:
    """How many guesses are answered before the throttle refuses."""
    for number in range(30):
        if await login(service, address, mail=mail) == 429:
            return number
    return 30


@pytest.fixture
def clock(service: Service, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(service)
    for part in (service.context.state.attempts, service.context.state.networks):
        monkeypatch.setattr(part, "_clock", found)
    return found


async def test_strangers_do_not_lock_the_owner_out(
    service: Service, root: Client, clock: Clock
) -> None:
    assert await login(service, HOME, PASSWORD) == 200
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, "203.0.113.1", PASSWORD) == 429
    for address in (HOME, "192.0.2.11", NEIGHBOUR):
        assert await login(service, address, PASSWORD) == 200, address
    # That the owner is in gives strangers no further guesses.
    assert await login(service, STRANGER) == 429
    # The own counter is one, too.
    assert await guess_until_refused(service, HOME) == 10
    assert await login(service, HOME, PASSWORD) == 429
    clock.now += 901
    assert await login(service, HOME, PASSWORD) == 200


async def test_a_neighbour_fills_another_counter(service: Service, root: Client) -> None:
    """Whoever has an address of the same /24 locks out neither an address that is in use there."""
    assert await login(service, HOME, PASSWORD) == 200
    assert await guess_until_refused(service, NEIGHBOUR) == 10
    assert await login(service, "192.0.2.78", PASSWORD) == 429
    assert await login(service, HOME, PASSWORD) == 200
    # Strangers elsewhere have their own guesses, and no more for it.
    assert await guess_until_refused(service, STRANGER) == 10


async def test_known_for_thirty_days(service: Service, root: Client, clock: Clock) -> None:
    assert await login(service, HOME, PASSWORD) == 200
    clock.now += 86400 * 29
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, HOME, PASSWORD) == 200
    clock.now += 86400 * 29
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, HOME, PASSWORD) == 200
    clock.now += 86400 * 31
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, HOME, PASSWORD) == 429


async def test_a_clock_that_was_ahead_makes_nothing_known_for_long(
    service: Service, root: Client, clock: Clock
) -> None:
    clock.now += 86400 * 400
    assert await login(service, HOME, PASSWORD) == 200
    assert await guess_until_refused(service, STRANGER) == 10
    clock.now -= 86400 * 400
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, HOME, PASSWORD) == 429
    clock.now += 901
    assert await login(service, HOME, PASSWORD) == 200
    assert await guess_until_refused(service, STRANGER) == 10
    assert await login(service, HOME, PASSWORD) == 200
    # The counters of the time before are removed with the first attempt.
    clock.now += 901
    assert await login(service, "203.0.113.1") == 401
    rows = await service.store.rows("SELECT window_start FROM login_attempts", "state")
    assert all(row["window_start"] <= clock.now for row in rows)


async def test_a_failed_login_makes_nothing_known(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/other@admins.test", password=PASSWORD)
    assert await login(service, HOME, PASSWORD, "other@admins.test") == 200
    assert await login(service, HOME) == 401
    assert await guess_until_refused(service, STRANGER) == 9
    assert await login(service, HOME, PASSWORD) == 429


async def test_ten_names_from_one_address(service: Service, root: Client) -> None:
    """Accounts behind one shared address: those that logged in from there go on."""
    await root.ok("POST", "admin/new@admins.test", password=PASSWORD)
    assert await login(service, HOME, PASSWORD) == 200
    for number in range(10):
        assert await login(service, HOME, mail=f"nobody{number}@admins.test") == 401
    assert await login(service, HOME, PASSWORD, "new@admins.test") == 429
    assert await login(service, HOME, PASSWORD) == 200


async def test_the_same_wrong_password_counts_once(service: Service, root: Client) -> None:
    """A program with an old password does not lock its admin out; guesses of others still count."""
    for address in [STRANGER] * 15:
        assert await login(service, address, "Old-Passw0rd") == 401
    answers = await asyncio.gather(*(login(service, STRANGER, "Old-Passw0rd") for _ in range(15)))
    assert set(answers) == {401}
    # From elsewhere, or of somebody else, it is another guess.
    assert await login(service, "203.0.113.1", "Old-Passw0rd") == 401
    assert await guess_until_refused(service, STRANGER) == 8
    assert await login(service, STRANGER, "Old-Passw0rd") == 429
    stored = str(await service.store.rows("SELECT * FROM login_attempts", "state"))
    assert "Old-Passw0rd" not in stored


async def test_a_guess_counts_although_the_same_one_was_withdrawn(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two that are the same is withdrawn, since the server is too busy."""
    verify, started, second = service.context.hasher.verify, asyncio.Event(), asyncio.Event()

    async def too_busy_once(plain: str, stored: str) -> bool:
        if not started.is_set():
            started.set()
            await asyncio.wait_for(second.wait(), 20)
            raise Overloaded
        second.set()
        # Until the first one is withdrawn.
        await first
        return await verify(plain, stored)

    monkeypatch.setattr(service.context.hasher, "verify", too_busy_once)
    first = asyncio.create_task(login(service, STRANGER, "Wr0ng-Password"))
    await asyncio.wait_for(started.wait(), 20)
    assert await login(service, STRANGER, "Wr0ng-Password") == 401
    assert await first == 503
    rows = await service.store.rows("SELECT * FROM login_attempts", "state")
    assert [row["count"] for row in rows if row["count"]] == [1, 1]


async def test_a_repeated_guess_keeps_nothing_busy(
    service: Service, root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is free for the throttle, so it must not be verified each time; nor written."""
    verify, verified = service.context.hasher.verify, []

    async def noting(plain: str, stored: str) -> bool:
        verified.append(plain)
        return await verify(plain, stored)

    monkeypatch.setattr(service.context.hasher, "verify", noting)
    for mail in (ROOT, "nobody@admins.test"):
        assert await login(service, STRANGER, "0ld-Password", mail) == 401
    before = await service.store.rows("SELECT * FROM login_attempts", "state")
    for mail in [ROOT, "nobody@admins.test"] * 5:
        assert await login(service, STRANGER, "0ld-Password", mail) == 401
    assert verified == ["0ld-Password"]
    assert await service.store.rows("SELECT * FROM login_attempts", "state") == before
    # A password that is new is looked at at once.
    await root.ok("PUT", f"admin/{ROOT}", password="0ld-Password")
    assert await login(service, STRANGER, "0ld-Password") == 200


async def test_an_account_that_is_gone_is_known_nowhere(service: Service, root: Client) -> None:
    await root.ok("POST", "admin/x@admins.test", password=PASSWORD)
    assert await login(service, HOME, PASSWORD, "x@admins.test") == 200
    await root.ok("DELETE", "admin/x@admins.test")
    rows = await service.store.rows("SELECT account FROM known_networks", "state")
    assert {row["account"] for row in rows} == {ROOT}


async def test_hashes_that_take_too_long(service: Service, root: Client) -> None:
    """Through the API they are refused; one that another program stored lets nobody in."""
    await root.ok("POST", "domain/ex.com")
    await root.ok("POST", "user/u@ex.com", password=PASSWORD)
    too_dear = "{CRYPT}$2b$15$" + "." * 53
    for method, path in (("POST", "user/n@ex.com"), ("PUT", "user/u@ex.com")):
        refused = await root.refused(method, path, password_hash=too_dear)
        assert refused == (400, "PASSWORD_HASH_TOO_COSTLY", ["password_hash"])
    await root.ok("PUT", "user/u@ex.com", isGlobalAdmin="yes")
    await service.client().login("u@ex.com")
    if service.store.name == "openldap":
        service.store.directory.modify(account_dn("u@ex.com"), replace={"userPassword": too_dear})
    else:
        await service.store.execute("UPDATE mailbox SET password = :p", p=too_dear)
    form = {"username": "u@ex.com", "password": PASSWORD}
    assert (await service.client().refused("POST", "login", **form))[0] == 401


@pytest_asyncio.fixture(loop_scope="session")
async def replicas(store: Store, root: Client) -> AsyncIterator[list[Service]]:
    async with serving(store) as here, serving(store) as there:
        yield [here, there]


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_replicas_share_it(replicas: list[Service]) -> None:
    """Known networks, counters, and what counts as the same guess."""
    here, there = replicas
    assert await login(here, HOME, PASSWORD) == 200
    for service in (here, there) * 6:
        assert await login(service, STRANGER, "Old-Passw0rd") == 401
    answers = await asyncio.gather(*(login(replicas[n % 2], STRANGER) for n in range(20)))
    assert sorted(answers) == [401] * 9 + [429] * 11
    assert await login(there, HOME, PASSWORD) == 200


@pytest.mark.parametrize(
    "client, networks",
    [
        ("192.0.2.10", ("192.0.2.10/32", "192.0.2.0/24")),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8:1:2::/64",)),
        ("", ()),
        ("nonsense", ()),
    ],
)
def test_what_a_network_is(client: str, networks: Any) -> None:
    assert networks_of(client) == networks


def test_the_key_of_tags() -> None:
    """Replicas have one key, which others cannot know; where nothing is secret it is a new one."""
    url = "postgresql://vmailadmin:{}@192.0.2.1/vmail"
    here = guess_key(Settings(_env_file=None, vmail_url=url.format("secret")))
    there = guess_key(Settings(_env_file=None, vmail_url=url.format("secret").replace("1/", "2/")))
    assert here == there
    assert here != guess_key(Settings(_env_file=None, vmail_url=url.format("other")))
    assert guess_key(Settings(_env_file=None)) != guess_key(Settings(_env_file=None))
