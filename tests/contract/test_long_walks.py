"""A walk through a long list by cursor has everybody who stays, once, while others come and go.

``make walk-test`` walks through 100,000 users.
"""

from __future__ import annotations

import pytest

from tests.clients import serving
from tests.servers.sorting import COLLATIONS, collate
from tests.servers.store import ALL_STORES, Store
from tests.walks import DOMAIN, Walk, fill, names


async def _filled(store: Store) -> list[str]:
    async with serving(store) as service:
        await (await service.root()).ok("POST", f"domain/{DOMAIN}")
    mails = names(store)
    await fill(store, mails)
    return mails


@pytest.mark.stores(*ALL_STORES)
async def test_everybody_who_stays_comes_once(store: Store) -> None:
    mails = await _filled(store)
    async with serving(store) as service:
        root = await service.root()
        for seed, sort in enumerate(("address", "-name")):
            walk = Walk(root, mails, {"sort": sort}, seed)
            print(f"{store.name}, {sort}: {await walk.check()}")
            mails = walk.mails


@pytest.mark.stores("postgresql")
async def test_everybody_comes_once_with_every_collation(store: Store) -> None:
    mails = await _filled(store)
    rows = await store.rows("SELECT collname FROM pg_collation")
    there = {row["collname"] for row in rows}.intersection(COLLATIONS)
    assert {"C", "en-US-x-icu"} <= there
    try:
        for seed, collation in enumerate(sorted(there)):
            await collate(store, collation)
            async with serving(store) as service:
                walk = Walk(await service.root(), mails, seed=seed)
                print(f"postgresql, {collation}: {await walk.check()}")
                mails = walk.mails
    finally:
        await collate(store, "default")
