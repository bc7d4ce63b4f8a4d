"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from tests.servers.api import ApiProcess, add_root, running_on, share_sqlite
from tests.servers.store import Store


@pytest.fixture(scope="session")
def _apis() -> Iterator[dict[str, tuple[ApiProcess, ExitStack]]]:
    found: dict[str, tuple[ApiProcess, ExitStack]] = {}
    yield found
    for _, stack in found.values():
        stack.close()


@pytest_asyncio.fixture(loop_scope="session")
async def api(store: Store, _apis: dict[str, tuple[ApiProcess, ExitStack]]) -> ApiProcess:
    """A running service on ``store`` (two workers where possible), with the global admin ROOT.

    It is started once for each kind of store; the store is empty but for that admin.
    """
    if store.name not in _apis:
        stack = ExitStack()
        _apis[store.name] = stack.enter_context(running_on(store)), stack

        def stop() -> None:
            del _apis[store.name]
            stack.close()

        share_sqlite(store, stop)
    await add_root(store)
    return _apis[store.name][0]
