"""Fixtures of the tests of the directory server itself, and of our client of it."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from iredapi.backends.ldap.client import Directory, DirectoryOptions
from tests.conftest import need
from tests.servers.openldap import BIND_DN, OpenldapServer


@pytest.fixture
def directory(openldap_server: OpenldapServer) -> OpenldapServer:
    """This test worker's OpenLDAP, with nothing below both bases."""
    openldap_server.reset()
    return openldap_server


def options_for(server: OpenldapServer, **changes: object) -> DirectoryOptions:
    """Return connection options for a server, as ``cn=vmailadmin``."""
    given: dict[str, object] = {
        "uris": (server.uri,),
        "bind_dn": BIND_DN,
        "password": server.password,
        "connect_timeout": 2.0,
        "timeout": 5.0,
    }
    return DirectoryOptions(**(given | changes))  # type: ignore[arg-type]


async def freeze(server: OpenldapServer) -> None:
    """Freeze a server, and wait until it is."""
    state = Path(f"/proc/{server.pid}/stat")
    server.freeze()
    for _ in range(400):
        if (await asyncio.to_thread(state.read_text)).rpartition(")")[2].split()[0] == "T":
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the server does not freeze")


@asynccontextmanager
async def opened(options: DirectoryOptions) -> AsyncIterator[Directory]:
    """A client that is closed in the end."""
    client = Directory(options)
    try:
        yield client
    finally:
        await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(directory: OpenldapServer) -> AsyncIterator[Directory]:
    """A client of ``directory``."""
    async with opened(options_for(directory)) as found:
        yield found


@pytest.fixture
def own_server() -> Iterator[OpenldapServer]:
    """A server that a test may stop and freeze."""
    need("openldap")
    server = OpenldapServer()
    yield server
    server.stop()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where the kernel accepts connections, and nothing answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def dropped_port() -> Iterator[int]:
    """A port whose SYN packets are dropped: the queue of its listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with socket.socket() as probe:
            probe.settimeout(0.3)
            with pytest.raises(TimeoutError):
                probe.connect(("127.0.0.1", port))
        yield port


class Heartbeat:
    """Measures for how long the event loop was blocked, in seconds.

    Without the garbage collector, whose full runs take their time in a process full of tests.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Heartbeat:
        gc.collect()
        gc.disable()
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0.02)
        self.longest = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0.02)  # what happened last counts, too
        self._task.cancel()
        gc.enable()

    async def _beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.longest = max(self.longest, time.monotonic() - before - 0.005)
