"""A real Prometheus scrapes two workers: its rates are the client's, the dashboard has data."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import PASSWORD, ROOT
from tests.servers.api import add_root, running_on
from tests.servers.prometheus import INTERVAL, Prometheus
from tests.servers.store import Store

pytestmark = [pytest.mark.stores("postgresql", "openldap"), pytest.mark.needs("prometheus")]
_ROOT = Path(__file__).parents[2]
_TOKEN = "a-long-secret-of-metrics"
_LOOPS = 40
_CLIENTS = 4
_NEEDS_A_STANDBY = {"iredapi_server_lag_seconds"}


class _Driver:
    """Sends requests, and counts the answers of each operation and status."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.answers: Counter[tuple[str, str]] = Counter()
        self.seconds = 0.0

    async def call(
        self, client: httpx.AsyncClient, operation: str, method: str, path: str, **form: str
    ) -> None:
        answer = await client.request(method, f"/api/{path}", data=form or None)
        self.answers[operation, str(answer.status_code)] += 1

    async def one(self, number: int, loops: int) -> None:
        """Make some requests of each kind over one connection."""
        async with httpx.AsyncClient(base_url=self._address, trust_env=False, timeout=30) as client:
            login = {"username": ROOT, "password": PASSWORD}
            await self.call(client, "login", "POST", "login", **login)
            await self.call(client, "login", "POST", "login", username=ROOT, password="wrong")
            for loop in range(loops):
                mail = f"user{time.monotonic_ns()}x{number}@ex.com"
                await self.call(client, "user.create", "POST", f"user/{mail}", password=PASSWORD)
                await self.call(client, "user.read", "GET", f"user/{mail}")
                await self.call(client, "user.update", "PUT", f"user/{mail}", name=f"n{loop}")
                await self.call(client, "user.read", "GET", f"user/nobody{loop}@ex.com")
                await self.call(client, "whoami", "GET", "whoami")

    async def drive(self, loops: int) -> None:
        """Make requests over several connections."""
        begun = time.monotonic()
        await asyncio.gather(*(self.one(number, loops) for number in range(_CLIENTS)))
        self.seconds = time.monotonic() - begun


def _dashboard() -> list[tuple[str, str]]:
    board: dict[str, Any] = json.loads((_ROOT / "deploy/grafana/iredapi.json").read_text("utf-8"))
    return [
        (panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]
    ]


async def test_prometheus_sees_what_the_client_has_sent(store: Store) -> None:
    await add_root(store)
    backend = "directory" if store.name == "openldap" else "database"
    slow = {"IREDAPI_PASSWORD_SCHEME": "SHA512-CRYPT"}
    with running_on(store, IREDAPI_METRICS_TOKEN=_TOKEN, **slow) as api:
        prometheus = Prometheus([api.address], token=_TOKEN)
        try:
            async with httpx.AsyncClient(base_url=api.address, trust_env=False) as root:
                await root.post("/api/login", data={"username": ROOT, "password": PASSWORD})
                assert (await root.post("/api/domain/ex.com")).json()["_success"]
            # All series are there before the first request that counts.
            await _Driver(api.address).drive(2)
            before = await asyncio.to_thread(prometheus.settle)
            driver = _Driver(api.address)
            await driver.drive(_LOOPS)
            after = await asyncio.to_thread(prometheus.settle)
            _check_rates(prometheus, driver, before, after)
            _check_backends(prometheus, backend)
            _check_dashboard(prometheus, window_seconds=after - before)
            _check_names(prometheus)
            _check_alerts(prometheus)
        finally:
            prometheus.stop()


def _check_rates(prometheus: Prometheus, driver: _Driver, before: float, after: float) -> None:
    """The counters have grown by what the client has counted: the rates are the same."""
    for (operation, status), count in driver.answers.items():
        series = f'sum(iredapi_requests_total{{operation="{operation}",status="{status}"}})'
        grown = prometheus.value(series, after) - prometheus.value(series, before)
        rate, own = grown / driver.seconds, count / driver.seconds
        assert rate == pytest.approx(own, rel=0.01), (operation, status)
    assert sum(driver.answers.values()) > 800
    whole = "sum(iredapi_request_duration_seconds_count)"
    grown = prometheus.value(whole, after) - prometheus.value(whole, before)
    assert grown == pytest.approx(sum(driver.answers.values()), rel=0.01)
    # PromQL's own rate knows the length of its window up to two scrapes.
    window = after - before
    rated = f"sum(rate(iredapi_requests_total[{window * 1000:.0f}ms]))"
    expected = sum(driver.answers.values()) / window
    slack = 2 * INTERVAL / window + 0.01
    assert prometheus.value(rated, after) == pytest.approx(expected, rel=slack)


def _check_backends(prometheus: Prometheus, backend: str) -> None:
    series = 'sum by (backend) (iredapi_backend_seconds_total{operation="user.create"})'
    seconds = {own["backend"]: value for own, value in prometheus.query(series)}
    assert seconds[backend] > 0
    assert seconds["hash_pool"] > 0
    busy = prometheus.value('sum(iredapi_request_duration_seconds_sum{operation="user.create"})')
    assert sum(seconds.values()) <= busy * 1.1


def _check_dashboard(prometheus: Prometheus, window_seconds: float) -> None:
    """Every query of the dashboard is valid, and has data where the service can have any."""
    window = f"{max(window_seconds, 4 * INTERVAL) * 1000:.0f}ms"
    for title, expression in _dashboard():
        asked = expression.replace("$__rate_interval", window).replace("$instance", ".*")
        assert "$" not in asked, title
        found = prometheus.query(asked)
        if not any(name in expression for name in _NEEDS_A_STANDBY):
            assert found, f"{title}: {asked}"
            assert any(value == value for _, value in found), title  # not NaN alone


def _check_names(prometheus: Prometheus) -> None:
    """No name or label of any series has an account's name."""
    labels = prometheus.ask("labels")
    texts = {*labels, *(one for name in labels for one in prometheus.ask(f"label/{name}/values"))}
    assert "user.create" in texts
    for text in texts:
        assert "@" not in text
        assert not any(part in text for part in ("ex.com", "nobody", ROOT.partition("@")[0])), text


def _check_alerts(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    assert group["rules"]
    for rule in group["rules"]:
        assert rule["health"] in {"ok", "unknown"}, rule
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    firing = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}
    assert not firing & {"IredapiDown", "IredapiServerAway", "IredapiErrors"}
