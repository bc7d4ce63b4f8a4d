"""Sender domains whose networks are not greylisted, and what the DNS says of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clients import Client, Service, serving
from tests.servers.dns import BROKEN, SILENT, DnsServer, Zone, dns_server
from tests.servers.store import Store

PATH = "greylisting/whitelist_spf_domains"
SPF = "greylisting_whitelist_domain_spf"
ZONE: Zone = {
    ("one.test", "TXT"): [
        '"v=spf1 ip4:192.0.2.0/24 " "ip6:2001:db8::/32 a mx include:two.test -all"'
    ],
    ("one.test", "A"): ["198.51.100.1"],
    ("one.test", "AAAA"): ["2001:db8:1::1"],
    ("one.test", "MX"): ["20 m2.test.", "10 m1.test."],
    ("m1.test", "A"): ["198.51.100.2"],
    ("m2.test", "A"): ["198.51.100.3"],
    ("two.test", "TXT"): ['"v=spf1 ip4:203.0.113.7/32 redirect=three.test"'],
    ("three.test", "TXT"): ['"v=spf1 ip4:203.0.113.8"'],
    ("mxonly.test", "MX"): ["10 m1.test."],
    ("aonly.test", "A"): ["198.51.100.9"],
    ("null.test", "MX"): ["0 ."],
    ("long.test", "TXT"): ['"v=spf1 ip4:192.0.2.44 include:long.test"'],
    ("bad.test", "TXT"): ['"v=spf1 ipv4:192.0.2.44"'],
    ("broken.test", BROKEN): [""],
    ("silent.test", SILENT): [""],
    ("_spf.under.test", "TXT"): ['"v=spf1 ip4:192.0.2.55"'],
}  # fmt: skip
ONE = {"192.0.2.0/24", "2001:db8::/32", "198.51.100.1", "2001:db8:1::1", "198.51.100.2",
       "198.51.100.3", "203.0.113.7", "203.0.113.8"}  # fmt: skip


async def derived(store: Store, table: str = SPF) -> list[tuple[str, str, str]]:
    rows = await store.rows(f"SELECT account, sender, comment FROM {table}", "iredapd")
    return sorted((row["account"], row["sender"], row["comment"]) for row in rows)


async def listed(store: Store) -> list[str]:
    rows = await store.rows("SELECT domain FROM greylisting_whitelist_domains", "iredapd")
    return sorted(row["domain"] for row in rows)


async def derive(store: Store, domain: str, *senders: str, table: str = SPF) -> None:
    await store.insert(
        table,
        *(
            {"account": "@.", "sender": sender, "comment": f"AUTO-UPDATE: {domain}"}
            for sender in senders
        ),
        database="iredapd",
    )


@asynccontextmanager
async def with_dns(store: Store, seconds: float = 5) -> AsyncIterator[tuple[Client, DnsServer]]:
    async with (
        dns_server(ZONE) as server,
        serving(store, dns_resolver=server.address, dns_timeout=seconds) as service,
    ):
        yield await service.root(), server


async def test_reset_add_remove(store: Store, root: Client) -> None:
    assert await root.ok("GET", PATH) == []
    await root.ok("POST", PATH, domains="B.test, a.test,,b.test")
    assert await root.ok("GET", PATH) == ["a.test", "b.test"]
    await root.ok("POST", PATH, addDomains="_spf.c.test,bücher.example", removeDomains="a.test")
    assert await listed(store) == ["_spf.c.test", "b.test", "xn--bcher-kva.example"]
    answer = await root.ok("POST", PATH, addDomains="b.test", removeDomains="b.test,absent.test")
    skipped = {"param": "removeDomains", "value": "absent.test", "reason": "NOT_FOUND"}
    assert answer["_skipped"] == [skipped]
    await root.ok("POST", PATH, removeDomains="bücher.example")
    assert await listed(store) == ["_spf.c.test", "b.test"]
    await root.ok("POST", PATH)
    assert await listed(store) == ["_spf.c.test", "b.test"]
    await root.ok("POST", PATH, domains="")
    assert await listed(store) == []
    # Recipe: names alone spare nobody anything; the cron job reads them.
    assert await derived(store) == await derived(store, "greylisting_whitelists") == []


@pytest.mark.parametrize("form", [{"removeDomains": "gone.test"}, {"domains": "kept.test"}])
async def test_the_networks_go_with_the_domain(
    store: Store, root: Client, form: dict[str, str]
) -> None:
    await root.ok("POST", PATH, domains="gone.test,kept.test")
    await derive(store, "gone.test", "192.0.2.1", "192.0.2.2")
    await derive(store, "kept.test", "192.0.2.3")
    await derive(store, "gone.test", "192.0.2.4", table="greylisting_whitelists")
    await root.ok("POST", "greylisting/global/whitelists", addSenders="192.0.2.5")
    await root.ok("POST", PATH, **form)
    assert await derived(store) == [("@.", "192.0.2.3", "AUTO-UPDATE: kept.test")]
    assert await derived(store, "greylisting_whitelists") == [("@.", "192.0.2.5", "")]
    assert await listed(store) == ["kept.test"]


async def test_what_other_tools_stored_can_be_removed(store: Store, root: Client) -> None:
    odd = ["Gmail.com", "single", "spam@x.test"]
    await store.insert("greylisting_whitelist_domains", *({"domain": name} for name in odd),
                       database="iredapd")  # fmt: skip
    assert sorted(await root.ok("GET", PATH)) == sorted(odd)
    await root.ok("POST", PATH, removeDomains=",".join(odd))
    assert await listed(store) == []


async def test_wrong_parameters(store: Store, root: Client) -> None:
    await root.ok("POST", PATH, domains="kept.test")
    for param in ("domains", "addDomains", "removeDomains"):
        for value in ("x", "a@x.test", "@x.test", "192.0.2.1", "x..test", "a b.test", "x.test/24"):
            refused = await root.refused("POST", PATH, **{param: f"good.test,{value}"})
            assert refused == (400, "INVALID_DOMAIN_NAME", [param]), value
    for other in ("addDomains", "removeDomains"):
        refused = await root.refused("POST", PATH, **{"domains": "x.test", other: "y.test"})
        assert refused == (400, "CONFLICTING_PARAMETERS", sorted([other, "domains"]))
    refused = await root.refused("POST", PATH, domains="x.test", query_dns_immediately="maybe")
    assert refused == (400, "INVALID_VALUE", ["query_dns_immediately"])
    refused = await root.refused("POST", PATH, removeDomains="kept.test",
                                 query_dns_immediately="yes")  # fmt: skip
    assert refused == (400, "MISSING_COMPANION", ["query_dns_immediately"])
    assert await listed(store) == ["kept.test"]


async def test_query_dns_immediately(store: Store, root: Client) -> None:
    async with with_dns(store) as (client, server):
        await client.ok("POST", PATH, domains="one.test", query_dns_immediately="no")
        assert (server.asked, await derived(store)) == ([], [])
        done = await client.ok(
            "POST",
            PATH,
            query_dns_immediately="yes",
            addDomains="one.test,mxonly.test,aonly.test,_spf.under.test",
        )
        assert "_skipped" not in done  # fmt: skip
    assert await listed(store) == ["_spf.under.test", "aonly.test", "mxonly.test", "one.test"]
    found: dict[str, set[str]] = {}
    for account, sender, comment in await derived(store):
        assert account == "@."
        found.setdefault(comment, set()).add(sender)
    # What two domains share is stored once.
    shared = found["AUTO-UPDATE: one.test"] | found.get("AUTO-UPDATE: mxonly.test", set())
    assert shared == ONE
    assert found["AUTO-UPDATE: aonly.test"] == {"198.51.100.9"}
    assert found["AUTO-UPDATE: _spf.under.test"] == {"192.0.2.55"}
    # The API's own answer, and the settings of people, are not touched.
    assert await root.ok("GET", "greylisting/global/whitelists") == []


async def test_asking_again_replaces(store: Store, root: Client) -> None:
    await derive(store, "aonly.test", "192.0.2.99")
    await derive(store, "other.test", "192.0.2.98")
    async with with_dns(store) as (client, _):
        await client.ok("POST", PATH, domains="aonly.test,other.test", query_dns_immediately="yes")
    assert await derived(store) == [
        ("@.", "192.0.2.98", "AUTO-UPDATE: other.test"),
        ("@.", "198.51.100.9", "AUTO-UPDATE: aonly.test"),
    ]


@pytest.mark.parametrize(
    "domain, reason, kept",
    [
        ("nowhere.test", "NO_DNS_RECORDS", {"192.0.2.99"}),
        ("null.test", "NO_DNS_RECORDS", {"192.0.2.99"}),
        ("bad.test", "SPF_INVALID", {"192.0.2.99"}),
        ("broken.test", "DNS_FAILURE", {"192.0.2.99"}),
        ("long.test", "SPF_LIMIT", {"192.0.2.44", "192.0.2.99"}),
    ],
)
async def test_what_was_not_found_is_told(
    store: Store, root: Client, domain: str, reason: str, kept: set[str]
) -> None:
    """A domain of which not everything is found keeps what it had."""
    await derive(store, domain, "192.0.2.99")
    async with with_dns(store) as (client, _):
        for param in ("addDomains", "domains"):
            done = await client.ok(
                "POST", PATH, **{param: f"{domain},aonly.test", "query_dns_immediately": "yes"}
            )
            assert done["_skipped"] == [{"param": param, "value": domain, "reason": reason}]
    assert await listed(store) == sorted([domain, "aonly.test"])
    assert {sender for _, sender, comment in await derived(store)
            if comment.endswith(domain)} == kept  # fmt: skip


async def test_time_limit(store: Store, root: Client) -> None:
    """One domain that never answers delays nothing but its own networks, and blocks nobody."""
    async with with_dns(store, seconds=1) as (client, _):
        started = time.monotonic()
        asking = asyncio.ensure_future(
            client.ok("POST", PATH, domains="silent.test,aonly.test", query_dns_immediately="yes")
        )
        await asyncio.sleep(0.2)
        await client.ok("POST", "greylisting/global", status="disable")
        assert not asking.done()
        done = await asking
        assert time.monotonic() - started < 4
    assert [item["value"] for item in done["_skipped"]] == ["silent.test"]
    assert done["_skipped"][0]["reason"] in {"DNS_TIMEOUT", "DNS_FAILURE"}
    assert [sender for _, sender, _ in await derived(store)] == ["198.51.100.9"]
    assert await listed(store) == ["aonly.test", "silent.test"]


@pytest.mark.stores("sqlite")
async def test_no_resolver(store: Store, root: Client) -> None:
    async with serving(store, dns_resolver="[::1]:1", dns_timeout=1) as service:
        client = await service.root()
        done = await client.ok("POST", PATH, domains="x.test", query_dns_immediately="yes")
        assert done["_skipped"][0]["reason"] in {"DNS_FAILURE", "DNS_TIMEOUT"}


async def test_20_parallel_changes(service: Service, store: Store, root: Client) -> None:
    clients = [await service.client().login() for _ in range(4)]
    calls: list[Any] = [
        clients[n % 4].ok("POST", PATH, addDomains=f"all.test,d{n}.test") for n in range(20)
    ]
    await asyncio.gather(*calls)
    assert len(await listed(store)) == 21
    calls = [clients[n % 4].ok("POST", PATH, domains=f"a{n}.test,b{n}.test") for n in range(20)]
    await asyncio.gather(*calls)
    left = await listed(store)
    assert len(left) == 2
    assert left[0][1:] == left[1][1:]
