"""How fast the service is, as a share of what a bare program reaches in the same run.

``make bench`` starts the service as a user would (embedded SQLite, one worker), and beside it a
bare ASGI program on the same database file: no framework, no session, no rules, the plain SELECTs.
Both are driven in turn, round by round, so that a noisy machine is noisy for both. The table shows
medians. Sizes: ``python -m bench --users 1000 --seconds 2 --rounds 3``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

PASSWORD = "Bench-Horse-1"
ADMIN = "bench@admins.invalid"
CONNECTIONS = 16
Journey = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


def start(
    command: list[str], environment: dict[str, str], pattern: str
) -> tuple[subprocess.Popen[str], str]:
    """Start a server and return it with the address that it prints."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            # Its log is not ours to read, but a full pipe would stop it.
            subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
            return process, found[1]
    raise SystemExit(f"{command} did not start")


async def rate(client: httpx.AsyncClient, journey: Journey, seconds: float) -> float:
    """Return answered requests per second over parallel connections."""
    done = 0
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            response = await journey(client, number)
            if response.status_code != 200:
                raise SystemExit(f"{response.request.url}: {response.text}")
            done += 1

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return done / seconds


async def measure(service: str, bare: str, users: int, seconds: float, rounds: int) -> None:
    """Drive both programs and print the table."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with (
        httpx.AsyncClient(base_url=f"{service}/api/", limits=limits, timeout=60) as ours,
        httpx.AsyncClient(base_url=bare, limits=limits, timeout=60) as theirs,
    ):
        await ours.post("login", data={"username": ADMIN, "password": PASSWORD})
        await ours.post("domain/bench.test")
        for start_at in range(0, users, CONNECTIONS):
            await asyncio.gather(
                *(
                    ours.post(f"user/u{number}@bench.test", data={"password": PASSWORD})
                    for number in range(start_at, min(start_at + CONNECTIONS, users))
                )
            )
        journeys: dict[str, tuple[Journey, Journey]] = {
            "read one user": (
                lambda client, n: client.get(f"user/u{n % users}@bench.test"),
                lambda client, n: client.get(f"/user/u{n % users}@bench.test"),
            ),
            "list names": (
                lambda client, _: client.get("users/bench.test?email_only=yes"),
                lambda client, _: client.get("/users/bench.test"),
            ),
            "update one parameter": (
                lambda client, n: client.put(
                    f"user/u{n % users}@bench.test", data={"name": f"N {time.time_ns()}"}
                ),
                lambda client, n: client.put(f"/user/u{n % users}@bench.test"),
            ),
        }
        print(f"{'journey':<24}{'service/s':>12}{'bare/s':>12}{'ratio':>8}")
        for name, (mine, limit) in journeys.items():
            pairs = [
                (await rate(ours, mine, seconds), await rate(theirs, limit, seconds))
                for _ in range(rounds)
            ]
            own = statistics.median(pair[0] for pair in pairs)
            top = statistics.median(pair[1] for pair in pairs)
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{name:<24}{own:>12.0f}{top:>12.0f}{ratio:>8.2f}", flush=True)


def main() -> None:
    """Start both programs, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            "IREDAPI_DATA_DIR": directory,
            "IREDAPI_PORT": "0",
            "IREDAPI_ADMIN": ADMIN,
            "IREDAPI_ADMIN_PASSWORD": PASSWORD,
            "IREDAPI_LOG_LEVEL": "WARNING",
        }
        script = Path(sys.executable).with_name("iredapi")
        service, address = start([str(script), "serve"], environment, r"listens on (\S+)")
        vmail = str(Path(directory) / "vmail.db")
        bare, limit = start([sys.executable, "-m", "bench.bare", vmail], {}, r"bare limit on (\S+)")
        try:
            time.sleep(2)
            asyncio.run(measure(address, limit, given.users, given.seconds, given.rounds))
        finally:
            for process in (service, bare):
                process.terminate()
                process.wait(30)


if __name__ == "__main__":
    main()
