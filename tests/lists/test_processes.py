"""Mailing lists with several worker processes, and the memory that they need."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import Client
from tests.lists.conftest import DOMAIN, TEAM, Lists
from tests.servers.api import ApiProcess, running, urls_of
from tests.servers.mlmmjadmin import TOKEN
from tests.servers.store import ALL_STORES

pytestmark = [pytest.mark.needs("mlmmj"), pytest.mark.stores(*ALL_STORES)]
MANY = 100_000


def environment(lists: Lists) -> dict[str, str]:
    """The store and list server of a test's own service, for processes beside it."""
    given = lists.service.settings.model_dump()
    ours = {
        f"IREDAPI_{name.upper()}": str(value)
        for name, value in given.items()
        if name.startswith("mlmmj") and value is not None
    }
    own = {"IREDAPI_WORKERS": "1"}
    if given["mlmmjadmin_url"]:
        own["IREDAPI_MLMMJADMIN_TOKEN"] = TOKEN
    return urls_of(lists.store) | ours | own


async def client(api: ApiProcess, stack: AsyncExitStack) -> Client:
    http = httpx.AsyncClient(
        base_url=f"{api.address}/api", timeout=60, trust_env=False,
        limits=httpx.Limits(max_connections=30),
    )  # fmt: skip
    return await Client(await stack.enter_async_context(http)).login()


def memory(api: ApiProcess, what: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of a process, in MB."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{api.pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.stores("postgresql", "mariadb", "openldap")
async def test_sixty_at_once_over_two_processes(lists: Lists) -> None:
    """Two services that share nothing but their databases; the list server locks nothing."""
    await lists.create()
    mails = [f"m{number:02}@else.test" for number in range(60)]
    with ExitStack() as processes:
        apis = [processes.enter_context(running(environment(lists))) for _ in range(2)]
        async with AsyncExitStack() as stack:
            clients = [await client(api, stack) for api in apis]
            await asyncio.gather(
                *(
                    one.ok("PUT", f"ml/{TEAM}", add_subscribers=mail, require_confirm="no")
                    for mail, one in zip(mails, clients * 30, strict=True)
                )
            )
    assert lists.subscribers() == mails


def all_hang(lists: Lists) -> None:
    """Wait until each failure of the list server has begun."""
    deadline = time.monotonic() + 20
    while any(item.times for item in lists.admin.failures):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.stores("postgresql", "openldap")
@pytest.mark.list_servers("mlmmjadmin")
async def test_a_killed_process_leaves_nothing_permanent(lists: Lists) -> None:
    """Killed between directory and rows, between settings and rows, and while it removes a list.

    The same request is sent to another process; it waits until the lease of the dead one's lock is
    over, half a minute at most.
    """
    form = {"subscribers": "ann@else.test", "require_confirm": "no"}
    new, old, gone = (f"{name}@{DOMAIN}" for name in ("new", "old", "gone"))
    await lists.create(old, owner="ann@else.test")
    await lists.create(gone)
    given = environment(lists) | {"IREDAPI_MLMMJADMIN_TIMEOUT": "60"}
    steps: list[tuple[str, str, dict[str, str], str, str]] = [
        ("POST", f"ml/{new}", form, "POST", f"/{new}/subscribers$"),
        ("PUT", f"ml/{old}", {"owner": "zoe@else.test"}, "PUT", f"/{old}$"),
        ("DELETE", f"ml/{gone}", {}, "DELETE", f"/{gone}$"),
    ]
    for _, _, _, method, path in steps:
        lists.admin.fail(method, path, "hang", after=True)
    async with AsyncExitStack() as stack:
        with running(given) as api:
            one = await client(api, stack)
            calls = [
                asyncio.ensure_future(one.call(method, path, data=data))
                for method, path, data, *_ in steps
            ]
            await asyncio.to_thread(all_hang, lists)
            os.kill(api.pid, signal.SIGKILL)
            await asyncio.gather(*calls, return_exceptions=True)
        lists.admin.clear()
        # No mail gets to the half-made list, nor to the one that is half removed.
        assert await lists.routes(new) == []
        assert [route[3] for route in await lists.routes(gone)] == [0]
        with running(given) as api:
            one = await client(api, stack)
            await asyncio.gather(
                *(one.ok(method, path, **data) for method, path, data, *_ in steps)
            )
    assert lists.subscribers(address=new) == ["ann@else.test"]
    assert await lists.people("maillist_owners", "owner", old) == ["zoe@else.test"]
    assert lists.control("owner", old) == "zoe@else.test\n"
    assert await lists.row(gone) is None
    assert not lists.directory(gone).exists()


@pytest.mark.stores("postgresql")
async def test_100_000_subscribers_in_bounded_memory(lists: Lists) -> None:
    """They come in pieces, and cost the process less than 100 MB, also when asked for often."""
    await lists.create()
    mails = sorted(f"{number % 10}m{number}@else.test" for number in range(MANY))
    for letter in "0123456789":
        file = lists.directory() / "subscribers.d" / letter
        file.write_text("".join(f"{mail}\n" for mail in mails if mail[0] == letter))
    with running(environment(lists)) as api:
        async with AsyncExitStack() as stack:
            one = await client(api, stack)
            await one.ok("GET", f"ml/{TEAM}")
            before = memory(api, "VmRSS")

            async def read() -> list[Any]:
                pieces = 0
                body = bytearray()
                params = {"with_subscribers": "yes"}
                async with one.http.stream("GET", f"ml/{TEAM}", params=params) as response:
                    assert "content-length" not in response.headers
                    async for piece in response.aiter_raw():
                        pieces += 1
                        body += piece
                assert pieces > 10
                answer = await asyncio.to_thread(httpx.Response(200, content=bytes(body)).json)
                assert answer["_success"] is True
                return [item["mail"] for item in answer["_data"]["subscribers"]]

            for _ in range(5):
                assert await read() == mails
            await one.ok(
                "PUT", f"ml/{TEAM}", add_subscribers="new@else.test", remove_subscribers=mails[0],
                require_confirm="no",
            )  # fmt: skip
            print("memory", before, memory(api, "VmHWM"))
            assert memory(api, "VmHWM") - before < 100
    assert lists.subscribers() == sorted([*mails[1:], "new@else.test"])
