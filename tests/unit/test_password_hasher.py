"""The password hasher: threads, bounded queues, and a queue of its own for heavy hashes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from iredapi.concurrency.password_hasher import HEAVY_WAITING, PasswordHasher
from iredapi.domain import password_costs, passwords
from iredapi.domain.passwords import HASH_SEPARATOR, Scheme, hash_password
from iredapi.errors import Overloaded
from tests.unit.test_password_costs import argon2, bcrypt_of

SECRET = "Secret1!"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Verification that waits until the gate is opened."""
    event = threading.Event()

    def slow(plain: str, stored: str) -> bool:
        return event.wait(10) and plain == stored

    monkeypatch.setattr(passwords, "verify_password", slow)
    yield event
    event.set()


def test_pool_works() -> None:
    async def scenario() -> None:
        hasher = PasswordHasher(Scheme.BCRYPT, bcrypt_cost=4)
        stored = await hasher.hash(SECRET)
        assert stored.startswith("{CRYPT}$2b$04$")
        assert await hasher.verify(SECRET, stored)
        assert not await hasher.verify("wrong", stored)
        await hasher.equalise(SECRET, [stored])
        with pytest.raises(ValueError, match="PW_GREATER_THAN_MAX_LENGTH"):
            await hasher.hash("x" * 73)
        hasher.close()
        with pytest.raises(Overloaded):
            await hasher.hash(SECRET)

    asyncio.run(scenario())


def test_pool_does_not_block_the_loop() -> None:
    async def scenario() -> None:
        hasher = PasswordHasher(Scheme.BCRYPT, bcrypt_cost=13, max_workers=1)
        work = asyncio.gather(*(hasher.hash(SECRET) for _ in range(2)))
        longest = 0.0
        while not work.done():
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started)
        assert len(set(await work)) == 2
        assert longest < 0.3
        hasher.close()

    asyncio.run(scenario())


def test_queue_is_bounded(gate: threading.Event) -> None:
    async def scenario() -> None:
        hasher = PasswordHasher(Scheme.BCRYPT, max_workers=2, max_waiting=3)
        calls = [asyncio.create_task(hasher.verify("x", "x")) for _ in range(5)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await hasher.verify("x", "x")
        with pytest.raises(Overloaded):
            await hasher.equalise("x", ["x"])

        calls.pop().cancel()  # a waiting client goes away: its place is free
        await asyncio.sleep(0.01)
        calls.append(asyncio.create_task(hasher.verify("x", "x")))
        await asyncio.sleep(0.01)
        calls[0].cancel()  # the work of this one goes on: its place is not free
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await hasher.verify("x", "x")

        gate.set()
        assert await asyncio.gather(*calls[1:]) == [True] * 4
        await asyncio.sleep(0.05)
        assert hasher._usual._taken == 0
        assert await hasher.verify("x", "x")
        hasher.close()

    asyncio.run(scenario())


def test_quick_hashes_do_not_wait_for_slow_ones(gate: threading.Event) -> None:
    """Many logins with BCRYPT do not delay the creation of a user."""

    async def scenario() -> None:
        hasher = PasswordHasher(max_workers=1, max_waiting=0)
        slow = asyncio.create_task(hasher.verify("x", "{BLF-CRYPT}x"))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await hasher.verify("x", "{BLF-CRYPT}x")
        stored = await hasher.hash(SECRET)
        assert stored.startswith("{SSHA512}")
        gate.set()
        assert await slow is False
        hasher.close()
        with pytest.raises(Overloaded):
            await hasher.hash(SECRET)

    asyncio.run(scenario())


def test_close_cancels_waiting_calls(gate: threading.Event) -> None:
    async def scenario() -> None:
        hasher = PasswordHasher(max_workers=1)
        calls = [asyncio.create_task(hasher.verify("x", "x")) for _ in range(3)]
        await asyncio.sleep(0.05)
        hasher.close()
        gate.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[0] is True
        assert all(isinstance(result, asyncio.CancelledError) for result in results[1:])

    asyncio.run(scenario())


def test_many_hashes_of_one_account() -> None:
    """In LDAP users can add any number of hashes: only a few are verified."""

    async def scenario() -> None:
        hasher, right = PasswordHasher(), hash_password(SECRET)
        for few in ([right] * 100, [bcrypt_of(4)] * 9 + [right]):
            assert await hasher.verify(SECRET, HASH_SEPARATOR.join(few))
        for many in ([right] * 101, [right] + [bcrypt_of(12)] * 10, [right] + [bcrypt_of(14)] * 3):
            started = time.perf_counter()
            assert not await hasher.verify(SECRET, HASH_SEPARATOR.join(many))
            assert time.perf_counter() - started < 0.2
        hasher.close()

    asyncio.run(scenario())
    assert password_costs.are_heavy([bcrypt_of(12)] * 2)
    assert not password_costs.are_heavy([bcrypt_of(12)])


def test_heavy_hashes_do_not_delay_others(gate: threading.Event) -> None:
    """During six logins with the most costly hashes others are verified."""

    async def scenario() -> None:
        hasher = PasswordHasher(max_workers=2)
        heavy = [asyncio.create_task(hasher.verify("x", argon2(262_144, 4))) for _ in range(6)]
        await asyncio.sleep(0.05)
        gate.clear()
        assert hasher._usual._taken == 0
        assert hasher._heavy._taken == 6
        usual = asyncio.create_task(hasher.verify("x", bcrypt_of(12)))
        await asyncio.sleep(0.05)
        assert hasher._usual._taken == 1
        # More heavy ones than the queue allows are refused at once; usual ones are not.
        more = [asyncio.create_task(hasher.verify("x", bcrypt_of(14))) for _ in range(30)]
        await asyncio.sleep(0.05)
        assert sum(task.done() for task in more) == 30 - (HEAVY_WAITING + 1 - 6)
        gate.set()
        await asyncio.gather(*heavy, usual, *more, return_exceptions=True)
        hasher.close()

    asyncio.run(scenario())
