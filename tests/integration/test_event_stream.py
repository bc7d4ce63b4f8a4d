"""Events over HTTP: streams, long polls beside other requests, and the end of the service."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import COMMAND, add_root, environment, running_on, urls_of
from tests.servers.store import Store

pytestmark = pytest.mark.stores("sqlite", "postgresql")
STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def logged_in(address: str, mail: str = ROOT) -> AsyncIterator[httpx.AsyncClient]:
    url = f"{address}/api/"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        answer = await client.post("login", data={"username": mail, "password": PASSWORD})
        assert answer.status_code == 200
        yield client


async def blocks(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The parts of a stream, as HTML defines them."""
    found: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            found[name] = value.removeprefix(" ")
        elif found:
            yield found
            found = {}


async def test_a_stream_goes_on_where_it_was(store: Store) -> None:
    await add_root(store)
    path = "events?after=latest&kinds=user.created,user.deleted"
    expected = ["user.created", "user.deleted"] * 2
    with running_on(store, IREDAPI_EVENTS="yes") as api:
        async with logged_in(api.address) as client:
            await client.post("domain/ex.com")
            found: list[dict[str, str]] = []
            async with client.stream("GET", path, headers=STREAM) as response:
                assert response.status_code == 200
                assert response.headers["content-type"].startswith("text/event-stream")
                parts = blocks(response)
                assert (await anext(parts))["retry"] == "2000"
                for _ in range(2):
                    await asyncio.sleep(0.2)
                    await client.post("user/u@ex.com", data={"password": PASSWORD})
                    await client.put("user/u@ex.com", data={"name": "Eve"})
                    await client.delete("user/u@ex.com")
                while len(found) < len(expected):
                    found.append(await asyncio.wait_for(anext(parts), 10))
            events: list[dict[str, Any]] = [json.loads(part["data"]) for part in found]
            assert [part["event"] for part in found] == expected
            assert [event["kind"] for event in events] == expected
            again = STREAM | {"Last-Event-ID": found[0]["id"]}
            async with client.stream("GET", path, headers=again) as response:
                parts = blocks(response)
                await anext(parts)
                assert [await anext(parts) for _ in found[1:]] == found[1:]
            for last, status, code in (
                ("x", 400, "INVALID_CURSOR"), ("f" * 32, 410, "EVENTS_EXPIRED"),
            ):  # fmt: skip
                answer = await client.get("events", headers=STREAM | {"Last-Event-ID": last})
                assert (answer.status_code, answer.json()["_msg"]) == (status, code)
            head = await client.head("events", headers=STREAM)
            assert (head.status_code, head.content) == (200, b"")


async def test_a_stream_ends_with_the_rights(store: Store) -> None:
    await add_root(store)
    with running_on(store, IREDAPI_EVENTS="yes") as api:
        async with logged_in(api.address) as client:
            token = (await client.post("tokens", data={"label": "t"})).json()["_data"]
            bearer = STREAM | {"Authorization": f"Bearer {token['token']}"}
            async with httpx.AsyncClient(timeout=30, trust_env=False) as other:
                url = f"{api.address}/api/events?after=latest"
                async with other.stream("GET", url, headers=bearer) as response:
                    parts = blocks(response)
                    await anext(parts)
                    assert (await client.delete(f"token/{token['id']}")).status_code == 200
                    await client.post("domain/ex.com")
                    assert [part async for part in parts] == []


async def test_those_who_wait_do_not_hinder_others(store: Store) -> None:
    """More clients wait than requests may run at a time; the end of the service ends the wait."""
    await add_root(store)
    given = {"IREDAPI_EVENTS": "yes", "IREDAPI_WORKERS": "1", "IREDAPI_MAX_REQUESTS": "4"}
    with running_on(store, **given) as api:
        async with logged_in(api.address) as client:
            waits = [
                asyncio.ensure_future(client.get("events?after=latest&wait=60")) for _ in range(4)
            ]
            await asyncio.sleep(1)
            assert (await client.post("domain/ex.com")).status_code == 200
            answers = await asyncio.wait_for(asyncio.gather(*waits), 10)
            assert [one.json()["_data"][0]["kind"] for one in answers] == ["domain.created"] * 4
            wait = asyncio.ensure_future(client.get("events?after=latest&wait=60"))
            await asyncio.sleep(1)
            begun = time.monotonic()
            os.kill(api.pid, signal.SIGTERM)
            assert (await asyncio.wait_for(wait, 20)).json()["_data"] == []
            assert time.monotonic() - begun < 10


async def test_one_admin_does_not_take_all_places(store: Store) -> None:
    await add_root(store)
    given = {"IREDAPI_EVENTS": "yes", "IREDAPI_WORKERS": "1", "IREDAPI_MAX_REQUESTS": "6"}
    wait = "events?after=latest&wait=3"
    with running_on(store, **given) as api:
        async with logged_in(api.address) as root:
            for name in ("one", "two"):
                mail = f"{name}@admins.test"
                assert (await root.post(f"admin/{mail}", data={"password": PASSWORD})).is_success
                await root.post(f"domain/{name}.com")
                await root.put(f"domain/admins/{name}.com", data={"addAdmin": mail})
            async with logged_in(api.address, "one@admins.test") as one:
                for _ in range(2):  # the places are given back
                    async with one.stream("GET", "events", headers=STREAM) as stream:
                        assert stream.status_code == 200
                        waits = [asyncio.ensure_future(one.get(wait)) for _ in range(4)]
                        await asyncio.sleep(1)
                        async with logged_in(api.address, "two@admins.test") as two:
                            others = await asyncio.gather(two.get(wait), root.get(wait))
                        assert [other.status_code for other in others] == [200, 200]
                        codes = [answer.status_code for answer in await asyncio.gather(*waits)]
                        assert sorted(codes) == [200, 200, 503, 503]
                    await asyncio.sleep(0.5)


def client_of_the_page() -> dict[str, Any]:
    page = (Path(__file__).parents[2] / "docs/events.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "docs/events.md", "exec"), names)  # noqa: S102 (it is ours)
    return names


def command(store: Store, events: str) -> subprocess.CompletedProcess[str]:
    given = environment(**urls_of(store), IREDAPI_EVENTS=events)
    return subprocess.run(
        [*COMMAND, "events"], env=given, capture_output=True, text=True, check=False
    )


async def test_the_client_of_the_page_and_the_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_root(store)
    with running_on(store, IREDAPI_EVENTS="yes") as api:
        async with logged_in(api.address) as client:

            async def send(method: str, path: str, **form: str) -> Any:
                answer = await client.request(method, path, data=form or None)
                assert answer.status_code == 200, answer.text
                return answer.json().get("_data")

            secret = (await send("POST", "tokens", label="sync"))["token"]
            await send("POST", "domain/ex.com")
            await send("POST", "user/a@ex.com", password=PASSWORD)
            await send("POST", "alias/all@ex.com", members="a@ex.com")
            monkeypatch.setattr(sys, "argv", ["sync.py", f"{api.address}/api", secret])
            names = client_of_the_page()
            after = await asyncio.to_thread(names["begin"])
            await send("POST", "user/b@ex.com", password=PASSWORD, forwarding="a@ex.com")
            await send("POST", "admin/x@far.org", password=PASSWORD)
            await send("PUT", "domain/admins/ex.com", addAdmin="x@far.org")
            await send("POST", "user/a@ex.com/change_email/c@ex.com")
            await send("DELETE", "alias/all@ex.com")
            await send("PUT", "users/ex.com", language="de_DE")
            await send("POST", "domain/two.com")
            await send("POST", "user/d@two.com", password=PASSWORD)
            await send("DELETE", "domain/two.com")
            end = (await client.get("events?after=latest")).json()["_next"]
            while after != end:
                after = await asyncio.to_thread(names["follow"], after)
                end = (await client.get("events?after=latest")).json()["_next"]
            copy = names["copy"]
            assert sorted(copy) == [
                ("admin", ROOT), ("admin", "x@far.org"), ("domain", "ex.com"),
                ("user", "b@ex.com"), ("user", "c@ex.com"),
            ]  # fmt: skip
            for (kind, name), view in copy.items():
                answer = await client.get(f"{kind}/{name}", params={"view": "canonical"})
                assert view == answer.json()["_data"]
            assert copy["user", "b@ex.com"]["forwarding"] == ["c@ex.com"]
    done = await asyncio.to_thread(command, store, "yes")
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds[-1] == "domain.deleted"
    assert {"user.renamed", "users.updated", "alias.deleted"} <= set(kinds)
    off = await asyncio.to_thread(command, store, "no")
    assert (done.returncode, off.returncode, off.stderr.partition(":")[0]) == (
        0,
        1,
        "EVENTS_NOT_KEPT",
    )
