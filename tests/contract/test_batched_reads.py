"""Reads that arrive at the same moment share statements; each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from iredapi.observability import query_counter
from tests.clients import PASSWORD, Client, Service
from tests.servers.store import ALL_STORES

pytestmark = pytest.mark.stores(*ALL_STORES)
NAMES = ("a", "b", "o_neil", "x-y", "u" * 64)
MISSING = "nobody@ex.com"


async def _made(service: Service, root: Client) -> list[str]:
    """Users with rows in other tables, each of another kind; all paths to read."""
    for domain in ("ex.com", "b.org"):
        await root.ok("POST", f"domain/{domain}")
    users = [f"{name}@ex.com" for name in NAMES]
    for user in users:
        await root.ok("POST", f"user/{user}", password=PASSWORD, name=f"Name of {user[0]}")
    await root.ok("PUT", f"user/{users[0]}", forwarding="far@far.org,away@far.org")
    await root.ok("PUT", f"user/{users[1]}", addAlias="one@ex.com")
    await root.ok("PUT", f"user/{users[2]}", senderBcc="bcc@far.org")
    await root.ok("PUT", f"user/{users[3]}", isGlobalAdmin="yes")
    if service.store.name != "openldap":
        await service.store.execute(
            "INSERT INTO forwardings (address, forwarding, domain, dest_domain, is_alias)"
            " VALUES ('two@ex.com', 'B@Ex.com', 'ex.com', 'ex.com', 1)",
        )
    return [
        *(f"user/{user}" for user in users),
        f"user/{MISSING}",
        "user/" + "long" * 61 + "@ex.com",
        "domain/ex.com",
        "domain/b.org",
    ]


async def _answer(client: Client, path: str) -> tuple[int, Any]:
    status, answer = await client.call("GET", path)
    return status, answer.get("_data", answer.get("_msg"))


async def test_each_read_of_a_batch_gets_its_own_answer(service: Service, root: Client) -> None:
    paths = await _made(service, root)
    alone = {path: await _answer(root, path) for path in paths}
    assert [alone[path][0] for path in paths] == [200] * len(NAMES) + [404, 400, 200, 200]
    aliases = alone[f"user/{NAMES[1]}@ex.com"][1].get("aliases", [])
    assert aliases == ["one@ex.com", "two@ex.com"] or service.store.name == "openldap"
    many = [*paths, *reversed(paths)] * 2
    with query_counter.listening() as heard:
        found = await asyncio.gather(*(_answer(root, path) for path in many))
    assert list(zip(many, found, strict=True)) == [(path, alone[path]) for path in many]
    if service.store.name == "postgresql":
        shared = [sql for sql in heard if "CROSS JOIN LATERAL" in sql and "FROM mailbox" in sql]
        assert 0 < len(shared) < len(many) / 2
