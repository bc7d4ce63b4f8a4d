"""Four replicas behind nginx on one PostgreSQL, restarted in turn: no request of 3,000 fails."""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.conftest import need
from tests.servers.rolling import restart_in_turn
from tests.servers.store import Store

pytestmark = pytest.mark.stores("postgresql")
REQUESTS: Final = int(os.environ.get("CLUSTER_REQUESTS", "3000"))


@pytest.mark.skipif(
    "CLUSTER_CHANGES" not in os.environ,
    reason="make cluster-test; availability/test_rolling_restart.py does it with two replicas",
)
async def test_four_replicas(store: Store) -> None:
    need("nginx")
    turn = await restart_in_turn(store, replicas=4, requests=REQUESTS)
    print(
        f"\nfour replicas restarted in turn: {turn.answered} requests, {len(turn.failed)} failed, "
        f"slowest {turn.slowest:.2f} s"
    )
    assert turn.failed == [], turn.errors
    assert turn.answered >= REQUESTS
