"""Prometheus beside the driver: two workers are scraped, and both count the same requests."""

from __future__ import annotations

import statistics
import urllib.request
from dataclasses import dataclass, replace

from bench import seed
from bench.drive import Failed, Request, wrk
from bench.plan import SMALL_ONES, Plan, show
from bench.programs import cpu_seconds, login, service
from bench.seed import Size
from tests.servers import prometheus
from tests.servers.prometheus import Prometheus
from tests.servers.store import Store

_TOKEN = "token-of-the-benchmark"
_OPERATIONS = {
    "read one user": "user.read",
    "read one domain": "domain.read",
    "create user": "user.create",
    "update one parameter": "user.update",
    "read a wblist": "wblist.read",
    "login": "login",
}
_SECONDS = 5
"""wrk hangs up on up to 16 requests at its end, which the service has counted."""
_SHARE = 0.01
_SCRAPES = 100
_ROUNDS = 3
_DOMAINS = 1_000


@dataclass(slots=True)
class _Watched:
    """A service that is scraped."""

    prometheus: Prometheus
    address: str
    cookie: str

    def counted(self, operation: str) -> float:
        """Return how many requests Prometheus knows of, after the next scrape."""
        at = self.prometheus.settle()
        series = f'sum(iredapi_requests_total{{operation="{operation}",status="200"}})'
        return self.prometheus.value(series, at)


def size_of(plan: Plan) -> Size:
    """Return how much is in the database: the usual, in many domains."""
    return replace(plan.size, domains=_DOMAINS)


def watched(plan: Plan, store: Store) -> None:
    """Compare the rates of Prometheus with wrk's, for each small request. Raises Failed."""
    if reason := prometheus.missing():
        print(f"  {reason}")
        return
    show("two workers", "Prometheus", "driver", None)
    with service(store, workers=2, IREDAPI_METRICS_TOKEN=_TOKEN) as process:
        server = Prometheus([process.address], token=_TOKEN)
        try:
            cookie = login(process.address, seed.ADMIN, seed.PASSWORD)
            one = _Watched(server, process.address, cookie)
            apart = [name for name in SMALL_ONES if not _compare(one, plan, name)]
        finally:
            server.stop()
        _show_scrape(process.address, process.pid)
    if apart:
        raise Failed(f"more than {_SHARE:.0%} apart: {', '.join(apart)}")


def _compare(one: _Watched, plan: Plan, name: str) -> bool:
    request, size = SMALL_ONES[name], size_of(plan)
    before = one.counted(_OPERATIONS[name])
    driven = wrk(
        one.address, Request(request.method, f"/api{request.path}", request.body),
        seconds=max(plan.seconds, _SECONDS), cookie=one.cookie,
        users=size.users, domains=size.domains,
    )  # fmt: skip
    seconds = driven.requests / driven.per_second
    rate = (one.counted(_OPERATIONS[name]) - before) / seconds
    ratio = rate / driven.per_second
    show(name, f"{rate:.1f}/s", f"{driven.per_second:.1f}/s", None, f"{ratio:.4f}")
    return abs(ratio - 1) <= _SHARE


def _show_scrape(address: str, pid: int) -> None:
    """Show what a scrape costs the service, with the series that the requests have made."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for query, scrapes in (("", _SCRAPES), ("?domains=yes", _SCRAPES // 5)):
        request = urllib.request.Request(
            f"{address}/metrics{query}", headers={"Authorization": f"Bearer {_TOKEN}"}
        )
        costs = []
        for _ in range(_ROUNDS):
            before = cpu_seconds(pid)
            for _ in range(scrapes):
                with opener.open(request, timeout=60) as answer:
                    answer.read()
            costs.append((cpu_seconds(pid) - before) / scrapes * 1000)
        show(
            f"GET /metrics{query}", f"{statistics.median(costs):.1f} ms", "", None,
            f"CPU of the service, {_DOMAINS} domains",
        )  # fmt: skip
