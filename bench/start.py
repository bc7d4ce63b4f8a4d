"""Measure the start of the service, and its idle memory, beside another revision, in turn.

A start ends with the first answer. Its CPU time depends less on what else the machine does. The
state database is up to date, as it is at every start but the first one after an upgrade. Medians of
nine rounds.

``python -m bench.start REV [postgresql mariadb sqlite openldap]``
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.__main__ import KINDS, databases
from bench.against import MIB, checked_out, timed
from bench.programs import Memory, cpu_seconds, service
from tests.servers import mariadb
from tests.servers.mariadb import MariadbServer
from tests.servers.openldap import OpenldapServer
from tests.servers.store import Store

_ROUNDS: Final = 9
_UNITS: Final = (("s", "start to first answer"), ("s", "its CPU time"), ("MiB", "idle memory"))


def _start(store: Store, source: str, state: str) -> tuple[float, float, float]:
    """Return the seconds until the first answer, those of CPU time, and MiB of memory."""
    begun = time.perf_counter()
    with service(store, PYTHONPATH=source, IREDAPI_STATE_URL=state) as process:
        seconds, cpu = time.perf_counter() - begun, cpu_seconds(process.pid)
        time.sleep(0.5)
        return seconds, cpu, Memory(process.pid).now() / MIB


def _line(name: str, own: float, other: float, unit: str) -> None:
    print(f"  {name:<24}{own:>8.2f}{other:>8.2f} {unit:<4}{own / other:>6.2f}", flush=True)


def compare(store: Store, states: tuple[str, str], sources: tuple[str, str]) -> None:
    """Start both revisions in turn, and print the medians and their ratios."""
    sides = [*zip(sources, states, strict=True)]
    found: list[list[tuple[float, float, float]]] = [[], []]
    for number in range(_ROUNDS + 1):
        for place in (0, 1) if number % 2 else (1, 0):
            measured = _start(store, *sides[place])
            if number:  # the first start migrates, and compiles what has changed
                found[place].append(measured)
    for at, (unit, name) in enumerate(_UNITS):
        own, other = (statistics.median(one[at] for one in side) for side in found)
        _line(name, own, other, unit)


async def main() -> None:
    """Measure on each kind of storage."""
    _, revision, *kinds = sys.argv
    print(f"  {'':<24}{'this':>8}{revision[:7]:>8}      ratio")
    with checked_out(revision) as source:
        sources = (str(Path(__file__).parents[1] / "src"), source)
        for kind in kinds or KINDS:
            async with AsyncExitStack() as end:
                make = await end.enter_async_context(
                    databases("mariadb" if kind == "openldap" else kind)
                )
                spare = await make("b")
                if kind != "openldap":
                    store = await make("a")
                else:
                    beside, server = MariadbServer(mariadb.DURABLE), OpenldapServer(sync=True)
                    end.callback(beside.stop)
                    end.callback(server.stop)
                    store = await beside.create_store("ldap", server)
                print(kind, flush=True)
                states = (store.state, spare.state)
                await asyncio.to_thread(compare, store, states, sources)
                await store.close()
                await spare.close()
        own, other = (timed(["--version"], one, _ROUNDS) for one in sources)
        _line("iredapi --version", own, other, "s")


if __name__ == "__main__":
    asyncio.run(main())
