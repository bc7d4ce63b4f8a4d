"""Overload, slow clients, graceful shutdown, and the probes of health."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, Client, Service, serving
from tests.servers.api import running, urls_of
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite")

# What a client outside of the allow list writes into the header.
SPOOFS = [
    "192.0.2.1", "127.0.0.1", "::1", "::ffff:192.0.2.1", "::ffff:127.0.0.1", "192.0.2.1, 192.0.2.1",
    "192.0.2.1,127.0.0.1", "127.0.0.1, 192.0.2.1", "192.0.2.1:80", "[192.0.2.1]", '"192.0.2.1"',
    "garbage", "", ",", ",,,", "192.0.2.1,", "unknown", "192.0.2.1 127.0.0.1", "0x7f000001",
    "2130706433", "192.0.2.1\t", "%31%39%32.0.2.1", "192.0.2.1%eth0", "fe80::1%192.0.2.1", "-",
    "192.000.002.001", "١٩٢.0.2.1", "for=192.0.2.1", "192.0.2.1;127.0.0.1", "x" * 5000,
]  # fmt: skip
OTHER_HEADERS = {"X-Real-IP": "192.0.2.1", "CF-Connecting-IP": "192.0.2.1",
                 "Forwarded": "for=192.0.2.1", "True-Client-IP": "192.0.2.1",
                 "X-Client-IP": "192.0.2.1", "X-Cluster-Client-IP": "192.0.2.1"}  # fmt: skip
OUTSIDE = "203.0.113.9"
PROXY = "10.0.0.1"


def header(value: str, **others: str) -> dict[bytes, bytes]:
    return {name.encode(): text.encode() for name, text in others.items()} | {
        b"X-Forwarded-For": value.encode()
    }


@pytest.mark.parametrize("peer", [OUTSIDE, f"::ffff:{OUTSIDE}", "2001:db8::9"])
async def test_lesson_34_spoofed_addresses_do_not_pass(
    store: Store, root: Client, peer: str
) -> None:
    """Direct, and as what a proxy of ours got before it added the real address."""
    given: dict[str, Any] = {"allowed_networks": ["192.0.2.0/24", "127.0.0.1", "::1"]}
    async with serving(store, trusted_proxies=[PROXY, "10.0.1.0/24"], **given) as service:
        direct = service.client(address=peer)
        proxied = service.client(address=PROXY)
        mapped = service.client(address=f"::ffff:{PROXY}")
        inner = service.client(address="10.0.1.7")
        for value in SPOOFS:
            sent = [
                (direct, value),
                (proxied, f"{value}, {peer}"),
                (mapped, f"{value},{peer}"),
                (inner, f"{value}, {peer}, {PROXY}"),
                (inner, f"{value}, {peer}, ::ffff:{PROXY}, 10.0.1.2"),
            ]
            for client, chain in sent:
                for path in ("domains", "login"):
                    response = await client.http.get(path, headers=header(chain, **OTHER_HEADERS))
                    code = response.json()["_msg"]
                    assert (response.status_code, code) == (403, "NOT_AUTHORIZED"), (value, chain)
        # A client on the list is let in.
        response = await proxied.http.get("domains", headers=header("192.0.2.7"))
        assert response.json()["_msg"] == "LOGIN_REQUIRED"


async def test_lesson_34_spoofing_does_not_reset_the_throttle(store: Store, root: Client) -> None:
    """Ten failures are ten, whatever the client says of itself."""
    spoofs = [value for value in SPOOFS if len(value) < 100]
    async with serving(store, trusted_proxies=[PROXY]) as service:
        for number, address in enumerate((OUTSIDE, PROXY)):
            client = service.client(address=address)
            statuses = []
            for place, value in enumerate(spoofs):
                real = f"203.0.113.{200 + number}"
                chain = value if address == OUTSIDE else f"{value}, {real}"
                response = await client.http.post(
                    "login",
                    data={"username": f"n{number}x{place}@x.com", "password": "x"},
                    headers=header(chain),
                )
                statuses.append(response.status_code)
            assert statuses == [401] * 10 + [429] * (len(spoofs) - 10)


# Timing ------------------------------------------------------------------------------------------


async def test_unknown_wrong_and_disabled_take_alike(store: Store, root: Client) -> None:
    """Compared as distributions, the kinds in turn, in one run."""
    await root.ok("POST", "admin/there@admins.test", password=PASSWORD)
    await root.ok("POST", "admin/off@admins.test", password=PASSWORD, accountStatus="disabled")
    names = {"wrong": "there@admins.test", "unknown": "gone@admins.test", "off": "off@admins.test"}
    taken: dict[str, list[float]] = {kind: [] for kind in names}
    answers = set()
    async with serving(store, login_failures=100_000) as service:
        client = service.client()
        for turn in range(150):
            for kind, name in names.items():
                form = {"username": name, "password": PASSWORD if kind == "off" else "Wr0ng-Pass!"}
                started = time.perf_counter()
                status, answer = await client.call("POST", "login", data=form)
                if turn >= 10:
                    taken[kind].append(time.perf_counter() - started)
                answer.pop("_request_id")
                answers.add((status, json.dumps(answer)))
    assert len(answers) == 1, answers
    medians = {kind: statistics.median(found) for kind, found in taken.items()}
    print({kind: f"{median * 1000:.2f} ms" for kind, median in medians.items()})
    # How far apart two halves of one kind are says what the machine's noise is.
    spread = max(
        statistics.quantiles(found, n=4)[2] - statistics.quantiles(found, n=4)[0]
        for found in taken.values()
    )
    assert max(medians.values()) - min(medians.values()) < max(0.5 * spread, 0.0005), medians
    # A guess "above the median: it exists" must be right half of the time, not more.
    for kind in ("unknown", "off"):
        middle = statistics.median(taken["wrong"] + taken[kind])
        share = sum(one > middle for one in taken["wrong"]) / len(taken["wrong"])
        assert 0.3 < share < 0.7, (kind, share)


# Overload ----------------------------------------------------------------------------------------


async def test_too_many_requests_are_refused_at_once(store: Store, root: Client) -> None:
    """503 with Retry-After; health is answered all the same, and nothing piles up."""
    async with serving(store, max_requests=4, password_scheme="BCRYPT") as service:
        client = service.client()

        async def login(number: int) -> httpx.Response:
            form = {"username": f"n{number}@x.com", "password": "x"}
            return await service.client(address=f"192.0.2.{number}").http.post("login", data=form)

        tasks = [asyncio.create_task(login(number)) for number in range(1, 60)]
        await asyncio.sleep(0.05)
        for path in ("/livez", "/readyz"):
            response = await client.http.get(f"http://server{path}")
            assert response.status_code == 200
        found = await asyncio.gather(*tasks)
        refused = [response for response in found if response.status_code == 503]
        assert len(refused) >= 50
        for response in refused:
            assert response.json()["_msg"] == "OVERLOADED"
            assert int(response.headers["retry-after"]) >= 1
        assert {response.status_code for response in found} == {401, 503}
        # And all places are free again.
        for _ in range(5):
            assert (await client.call("GET", "domains"))[0] == 401


async def test_a_slow_body_is_not_waited_for(store: Store, root: Client) -> None:
    """It has the request's time in all: a byte now and then does not help. Its place is free.

    The last client sends nothing more.
    """
    given = {"IREDAPI_REQUEST_TIMEOUT": "1", "IREDAPI_MAX_REQUESTS": "3"}
    with running(urls_of(store) | given) as api:
        host, port = api.address.removeprefix("http://").split(":")

        async def trickle(*, silent: bool) -> tuple[float, bytes]:
            reader, writer = await asyncio.open_connection(host, int(port))
            head = "POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nusername="
            writer.write(head.encode())
            started = time.monotonic()
            answer = asyncio.create_task(reader.readuntil(b"}"))
            while not answer.done() and time.monotonic() - started < 20:
                writer.write(b"" if silent else b"x")
                await asyncio.sleep(0.1)
            taken = time.monotonic() - started
            writer.close()
            return taken, await answer

        for taken, answer in await asyncio.gather(
            trickle(silent=False), trickle(silent=False), trickle(silent=True)
        ):
            assert 0.9 < taken < 5
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"did not arrive in time" in answer
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            answers = await asyncio.gather(*(client.get("/api/whoami") for _ in range(3)))
            assert [response.status_code for response in answers] == [401] * 3


# Probes ------------------------------------------------------------------------------------------


async def test_probes_are_open_and_say_little(store: Store, root: Client) -> None:
    async with serving(store, allowed_networks=["192.0.2.1"]) as service:
        client = service.client(address=OUTSIDE)
        for path in ("/livez", "/readyz"):
            response = await client.http.get(f"http://server{path}")
            assert response.status_code == 200
            assert response.json()["_success"] is True
            assert "servers" not in response.json()["_data"]
        verbose = (await client.http.get("http://server/readyz?verbose")).json()["_data"]
        assert set(verbose["servers"]) == {"vmail", "amavisd", "iredapd", "iredadmin", "state"}
        assert "sqlite" not in json.dumps(verbose)
        assert (await client.http.post("http://server/livez")).status_code == 405


async def test_what_is_not_needed_does_not_make_unready(service: Service, root: Client) -> None:
    async def broken() -> None:
        raise OSError("gone")

    async def hangs() -> None:
        await asyncio.sleep(60)

    probes = service.context.probes
    kept = dict(probes._probes)
    try:
        for name, probe, needed, status in (
            ("amavisd", broken, False, 200),
            ("iredapd", hangs, False, 200),
            ("ldap", hangs, True, 503),
            ("lists", broken, True, 503),
        ):
            probes.add(name, probe, needed=needed)
            probes._last = None
            started = time.monotonic()
            response = await root.http.get("http://server/readyz?verbose")
            assert time.monotonic() - started < 2
            assert response.status_code == status
            assert name in response.json()["_data"]["away"]
    finally:
        probes._probes = kept
        probes._last = None
