"""``/metrics`` of several worker processes: each tells the numbers of all, also after one died."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics import parser

from tests.servers.api import add_root, running, urls_of
from tests.servers.rolling import LOGIN
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("postgresql")]
families: Any = parser.text_string_to_metric_families
_READS = 60


def _sum(text: str, name: str, **labels: str) -> float:
    return float(
        sum(
            sample.value
            for family in families(text)
            for sample in family.samples
            if sample.name == f"iredapi_{name}" and labels.items() <= dict(sample.labels).items()
        )
    )


async def _metrics(address: str) -> str:
    # A connection of its own: any of the workers answers.
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{address}/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text


def _workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    found = map(int, children.split())
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def _until(address: str, name: str, wanted: float, **labels: str) -> str:
    deadline = time.monotonic() + 20
    while True:
        text = await _metrics(address)
        if _sum(text, name, **labels) == wanted or time.monotonic() > deadline:
            assert _sum(text, name, **labels) == wanted
            return text
        await asyncio.sleep(0.2)


async def test_each_worker_tells_the_numbers_of_all(store: Store) -> None:
    await add_root(store)
    given = {"IREDAPI_WORKERS": "2", "IREDAPI_METRICS_NETWORKS": "127.0.0.1"}
    with running(urls_of(store) | given) as api:
        async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
            assert (await client.post("/api/login", data=LOGIN)).status_code == 200
            session = {"Cookie": "; ".join(f"{k}={v}" for k, v in client.cookies.items())}

        async def read() -> None:
            async with httpx.AsyncClient(base_url=api.address, trust_env=False) as client:
                answer = await client.get("/api/whoami", headers=session)
                assert answer.status_code == 200

        await asyncio.gather(*(read() for _ in range(_READS)))
        one = {"operation": "whoami", "status": "200"}
        for _ in range(4):
            assert _sum(await _metrics(api.address), "requests_total", **one) == _READS
        pool = {"pool": "vmail"}
        size = _sum(await _metrics(api.address), "pool_size", **pool) / 2
        assert size > 0
        # A dead worker's counters stay; its pools are gone, and those of its successor come.
        died = _workers(api.pid)[0]
        os.kill(died, signal.SIGKILL)
        text = await _until(api.address, "pool_size", 2 * size, **pool)
        assert died not in _workers(api.pid)
        assert _sum(text, "requests_total", **one) == _READS
