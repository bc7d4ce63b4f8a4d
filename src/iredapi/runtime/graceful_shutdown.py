"""Going away without dropping a request.

On SIGTERM ``/readyz`` fails first, and for some seconds everything is served as before, so that
whoever distributes requests can notice. Then new connections are turned away, those that were made
are still accepted, and only then the port is closed: a connection in the queue of a closed port
would be reset, and its request lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import pack
from types import FrameType
from typing import Any

import structlog

from iredapi.observability.health_checks import Probes

_SETTLE = 0.15
"""Seconds in which connections that were made are accepted."""
_SO_ATTACH_FILTER = 26
# Classic BPF over a TCP header: load the flags, keep what is no SYN, drop what is one.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x45, 0, 1, 0x02),  # jset SYN
    (0x06, 0, 0, 0),  # ret drop
    (0x06, 0, 0, 0xFFFF),  # ret keep
)
_log = structlog.get_logger(__name__)


def drop_new_connections(listener: socket.socket) -> bool:
    """Let the kernel ignore new connections to a port, and finish those that have begun.

    A client whose SYN is ignored sends it again after a second, and is refused then. Linux only;
    False elsewhere.
    """
    if sys.platform != "linux":
        return False
    code = b"".join(pack("HBBI", *step) for step in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code)
    # struct sock_fprog: a number and a pointer, as C lays them out.
    program = pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError as error:
        _log.warning("cannot_drop_new_connections", reason=error.strerror)
        return False
    return True


@contextmanager
def on_sigterm(probes: Probes, seconds: float) -> Iterator[None]:
    """Leave in order when SIGTERM comes; the server's own handler is called at the end.

    A second SIGTERM ends the waiting.
    """
    loop = asyncio.get_running_loop()
    server_handler: Any = signal.getsignal(signal.SIGTERM)
    if not callable(server_handler):
        yield
        return
    running: list[asyncio.Task[None]] = []

    def begin() -> None:
        if not probes.leaving:
            probes.leaving = True
            _log.info("leaving", seconds=seconds)
            running.append(asyncio.ensure_future(_leave(seconds, server_handler)))
        else:
            server_handler(signal.SIGTERM, None)

    def handle(_signal: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, server_handler)
        for task in running:
            task.cancel()


async def _leave(seconds: float, server_handler: Callable[[int, FrameType | None], object]) -> None:
    await asyncio.sleep(seconds)
    for listener in LISTENERS:
        drop_new_connections(listener)
    # In a worker process the parent has the port, and does it at about this time.
    await asyncio.sleep(_SETTLE if LISTENERS else 3 * _SETTLE)
    server_handler(signal.SIGTERM, None)


LISTENERS: list[socket.socket] = []
"""The ports of this process, told by whoever opened them."""
