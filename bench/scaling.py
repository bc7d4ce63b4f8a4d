"""What more processes of the service add: rates, and CPU per request, of 1, 2 and 4 workers."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from bench import seed
from bench.drive import Request, wrk
from bench.plan import MIB, SMALL_ONES, Plan, show
from bench.programs import Memory, cpu_seconds, login, service
from tests.servers.store import Store

WORKERS = (1, 2, 4)
REQUESTS = ("read one user", "create user", "update one parameter")


def scaling(plan: Plan, store: Store) -> None:
    """Drive services with 1, 2 and 4 worker processes in turn, all on the same databases."""
    with ExitStack() as running:
        services = [running.enter_context(service(store, workers=n)) for n in WORKERS]
        cookie = login(services[0].address, seed.ADMIN, seed.PASSWORD)  # valid for all
        for name in REQUESTS:
            request = SMALL_ONES[name]
            rates: dict[int, list[float]] = {n: [] for n in WORKERS}
            costs: dict[int, list[float]] = {n: [] for n in WORKERS}
            for number in range(plan.rounds + 1):
                for workers, process in zip(WORKERS, services, strict=True):
                    before = cpu_seconds(process.pid)
                    rate = wrk(
                        process.address, Request(request.method, f"/api{request.path}",
                        request.body), cookie=cookie, seconds=plan.seconds,
                        users=plan.size.users, domains=plan.size.domains,
                    )  # fmt: skip
                    if number:  # pools and caches fill in the first round
                        rates[workers].append(rate.per_second)
                        spent = cpu_seconds(process.pid) - before
                        costs[workers].append(spent / rate.requests * 1e6)
            one = statistics.median(rates[1])
            for workers in WORKERS:
                rate_now = statistics.median(rates[workers])
                show(
                    f"{name}, {workers} workers", f"{rate_now:.0f}/s", f"{one:.0f}/s",
                    rate_now / one,
                    f"CPU per request {statistics.median(costs[workers]):.0f} µs of the service",
                )  # fmt: skip
        for workers, process in zip(WORKERS, services, strict=True):
            show(f"memory of {workers} workers", f"{Memory(process.pid).now() / MIB:.0f} MiB", "",
                 None)  # fmt: skip
