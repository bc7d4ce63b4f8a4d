"""Two replicas behind nginx, restarted in turn under load; nobody notices."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.conftest import need
from tests.servers.api import add_root, running, urls_of
from tests.servers.rolling import LOGIN, restart_in_turn
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("postgresql"), pytest.mark.xdist_group("rolling")]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_rolling_restart_loses_nothing(store: Store, workers: str) -> None:
    need("nginx")
    turn = await restart_in_turn(store, replicas=2, workers=workers)
    print(
        f"rolling restart, {workers} workers: {turn.answered} requests, "
        f"{len(turn.failed)} failed, slowest {turn.slowest:.2f} s"
    )
    assert turn.failed == [], turn.errors


async def test_readiness_fails_first_and_running_requests_finish(store: Store) -> None:
    """SIGTERM: `/readyz` says so at once, `/livez` stays, requests are served until the end."""
    import os
    import signal

    await add_root(store)
    given = urls_of(store) | {"IREDAPI_DRAIN_SECONDS": "2"}
    with running(given) as api:
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.post("/api/login", data=LOGIN)).status_code == 200
            os.kill(api.pid, signal.SIGTERM)
            ends = time.monotonic() + 2
            await asyncio.sleep(0.3)
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["_data"]["status"]) == (503, "leaving")
            assert answer.headers["connection"] == "close"
            assert (await client.get("/livez")).status_code == 200
            while time.monotonic() < ends - 0.5:
                assert (await client.get("/api/whoami")).status_code == 200
            await asyncio.sleep(max(ends + 1.2 - time.monotonic(), 0.0))
            with pytest.raises(httpx.ConnectError):
                await client.get("/livez")
