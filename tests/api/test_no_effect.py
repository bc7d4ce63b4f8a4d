"""What iRedAPD is known to ignore is stored, and reported with the reason ``NO_EFFECT``."""

from __future__ import annotations

import pytest

from tests.api.amavisd import local_test
from tests.clients import Client, Service
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
GIB = 2**30
# address: whether iRedAPD finds it in inbound lists, in outbound lists, in greylisting whitelists;
# None: that operation does not take it.
FOUND: dict[str, tuple[bool, bool, bool | None]] = {
    "user@d.test": (True, True, True),
    "a_b-c.d=e/f&g#h@d.test": (True, True, True),
    "#x@d.test": (True, True, True),
    "@d.test": (True, True, True),
    "@.d.test": (True, True, True),
    "@.com": (True, True, True),
    "@.": (True, True, True),
    "user@*": (True, True, None),
    "user+tag@d.test": (False, False, False),
    "user+@d.test": (False, False, False),
    "o'neil@d.test": (False, False, True),
    "50%off@d.test": (False, False, True),
    "=a@d.test": (False, False, True),
    "a~b@*": (False, False, None),
    "192.0.2.1": (True, False, True),
    "2001:db8::1": (True, False, True),
    "192.0.2.*": (True, False, None),
    "192.0.2.0/24": (True, False, True),
    "10.0.0.0/8": (True, False, True),
    "10.0.0.0/7": (False, False, False),
    "0.0.0.0/0": (False, False, False),
    "2001:db8::/32": (False, False, True),
    "2620:0:2d0:200::/64": (False, False, True),
    "2001:db8:1:2:3:4:5:0/112": (False, False, False),
    "2001:db8::1:0/112": (False, False, False),
    "::/0": (False, False, False),
}


def no_effect(param: str, values: list[str]) -> list[dict[str, str]]:
    return [{"param": param, "value": value, "reason": "NO_EFFECT"} for value in values]


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_white_and_blacklists(service: Service, root: Client, direction: str) -> None:
    await local_test(root)
    path = f"wblist/{direction}/blacklist/local.test"
    ignored = [item for item, found in FOUND.items() if not found[direction == "outbound"]]
    _, answer = await root.call("POST", path, data={"addresses": ",".join(FOUND)})
    assert answer["_skipped"] == no_effect("addresses", ignored)
    assert await root.ok("GET", path) == sorted(FOUND)
    # Who takes them off the list again wants nothing of the daemon.
    assert "_skipped" not in await root.ok("PUT", path, addresses=",".join(ignored))
    assert await root.ok("GET", path) == sorted(set(FOUND) - set(ignored))


async def test_greylisting(service: Service, root: Client) -> None:
    await local_test(root)
    path = "greylisting/local.test/whitelists"
    taken = {item: found[2] for item, found in FOUND.items() if found[2] is not None}
    ignored = [item for item, found in taken.items() if not found]
    for param in ("senders", "addSenders"):
        _, answer = await root.call("POST", path, data={param: ",".join(taken)})
        assert answer["_skipped"] == no_effect(param, ignored)
        assert await root.ok("GET", path) == sorted(taken)
    assert "_skipped" not in await root.ok("POST", path, removeSenders=",".join(ignored))
    assert await root.ok("GET", path) == sorted(set(taken) - set(ignored))


async def test_throttles(service: Service, root: Client) -> None:
    await local_test(root)
    path = "throttle/local.test/outbound"
    largest = {"max_quota": 4 * GIB - 1, "max_msgs": 2**24 - 1, "msg_size": 5 * GIB}
    assert "_skipped" not in await root.ok("POST", path, period="60", **largest)
    beyond = {"max_quota": 4 * GIB, "max_msgs": 2**24}
    answer = await root.ok("POST", path, period="60", **beyond)
    # Its counters in iRedMail's tables on MariaDB have 32 and 24 bits.
    expected = [
        {"param": name, "value": str(beyond[name]), "reason": "NO_EFFECT"}
        for name in ("max_msgs", "max_quota")
    ]
    told = answer.get("_skipped")
    assert told == (expected if service.store.dialect == "mariadb" else None)
    shown = await root.ok("GET", path)
    assert {name: shown[name] for name in beyond} == beyond
