"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from tests.servers.api import ApiProcess, add_root, running_on
from tests.servers.store import Store


@pytest.fixture(scope="session")
def _apis() -> Iterator[tuple[ExitStack, dict[str, ApiProcess]]]:
    with ExitStack() as stack:
        yield stack, {}


@pytest_asyncio.fixture(loop_scope="session")
async def api(store: Store, _apis: tuple[ExitStack, dict[str, ApiProcess]]) -> ApiProcess:
    """A running service on ``store`` (two workers where possible), with the global admin ROOT.

    It is started once for each kind of store; the store is empty but for that admin.
    """
    stack, found = _apis
    if store.name not in found:
        found[store.name] = stack.enter_context(running_on(store))
    await add_root(store)
    return found[store.name]
