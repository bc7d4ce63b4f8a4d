"""HTTP on a connection: uvicorn's, with answers that leave in one piece.

A server for ASGI writes the head of an answer and its body one after the other, and each is a
packet of its own that wakes the client: half of what answering costs.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST: Final = 65_536
"""Bytes that wait for the end of a turn of the event loop."""


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

    def on_response_complete(self) -> None:
        """Send the answer, then see what the client wants next."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
