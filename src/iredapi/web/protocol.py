"""HTTP on a connection: uvicorn's, with answers that leave in one piece.

A server for ASGI writes the head of an answer and its body one after the other, and each is a
packet of its own that wakes the client: half of what answering costs. What is whole from the start
may be handed over as that (``WHOLE``), past two messages and a second look at each header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_MOST: Final = 65_536
"""Bytes that wait for the end of a turn of the event loop."""
WHOLE: Final = "iredapi.whole"
"""In a scope: what sends an answer at once, see ``Whole``. Other servers have nothing there."""
BODY: Final = "iredapi.body"
"""In a scope: what returns the request's body if all of it is there, else None."""
Whole = Callable[[int, bytes, bytes], bool]
"""Takes a status, the lines of the head, and the body. False: send it in the usual way."""


class _Joining:
    """A transport that sends together what is written in one turn of the event loop."""

    __slots__ = ("_loop", "_parts", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send soon."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _MOST:
            self.flush()

    def flush(self) -> None:
        """Send now what was written."""
        if self._parts:
            data, self._parts, self._size = b"".join(self._parts), [], 0
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Send what was written, and close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether it is closed, or will be."""
        return self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """The protocol class that uvicorn is to use."""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(_Joining(transport))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.scope[WHOLE] = partial(self._send_whole, cycle)
        cycle.scope[BODY] = partial(self._take_body, cycle)
        super()._start_asgi_task(cycle, app)

    def _take_body(self, cycle: Any) -> bytes | None:
        """Do what ``receive`` does where it need not wait."""
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        self.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def _send_whole(self, cycle: Any, status: int, head: bytes, body: bytes) -> bool:
        if (
            cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or self.flow.write_paused
            or cycle.scope["method"] == "HEAD"
        ):
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        more = [b"%b: %b\r\n" % header for header in cycle.default_headers]
        self.transport.write(b"".join([STATUS_LINE[status], *more, head, b"\r\n", body]))
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """Send the answer, then see what the client wants next."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
