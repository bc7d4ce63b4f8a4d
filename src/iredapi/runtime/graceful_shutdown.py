"""Shut down without losing a request.

After SIGTERM ``/readyz`` fails, and for some seconds everything is served as before, so that a load
balancer can notice. Then the kernel drops new SYN packets, the connections in the accept queue are
accepted, and at last the port is closed. Closing it at once would reset the queued connections.
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

_ACCEPT_SECONDS = 0.15
"""Seconds for accepting the connections that are in the queue."""
_SO_ATTACH_FILTER = 26
# Classic BPF over a TCP header: load the flags, drop packets with SYN, keep others.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x45, 0, 1, 0x02),  # jset SYN
    (0x06, 0, 0, 0),  # ret drop
    (0x06, 0, 0, 0xFFFF),  # ret keep
)
_log = structlog.get_logger(__name__)


def drop_new_connections(listener: socket.socket) -> bool:
    """Attach a socket filter that drops SYN packets, and return whether that was possible.

    A client repeats its SYN after a second, and is refused then. Linux only.
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
        _log.warning("syn_filter_unavailable", reason=error.strerror)
        return False
    return True


@contextmanager
def on_sigterm(probes: Probes, seconds: float) -> Iterator[None]:
    """Shut down gracefully at SIGTERM, and call the server's own handler at the end.

    A second SIGTERM calls it at once.
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
            running.append(asyncio.ensure_future(_shut_down(seconds, server_handler)))
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


async def _shut_down(
    seconds: float, server_handler: Callable[[int, FrameType | None], object]
) -> None:
    await asyncio.sleep(seconds)
    for listener in LISTENERS:
        drop_new_connections(listener)
    # In a worker process the parent has the listener, and attaches the filter about now.
    await asyncio.sleep(_ACCEPT_SECONDS if LISTENERS else 3 * _ACCEPT_SECONDS)
    server_handler(signal.SIGTERM, None)


LISTENERS: list[socket.socket] = []
"""The listening sockets of this process; ``cli.serve`` adds them."""
