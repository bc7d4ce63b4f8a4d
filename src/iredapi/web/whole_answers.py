"""Answers that are complete from the start are written to the connection at once.

uvicorn writes the head of an answer and its body one after the other. Each is a system call and a
packet of its own that wakes the client, and costs more than reading a user does. An answer that
cannot be written at once is sent in uvicorn's way; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

WHOLE: Final = "iredapi.whole"
"""Scope key: a ``Whole``; other servers have none."""
Whole = Callable[[int, Sequence[tuple[bytes, bytes]], bytes], bool]
"""Sends a status, headers with names in small letters, and a body; False: nothing was sent."""
_PRINTABLE: Final = bytes(
    number if number in b"\t\r\n" or 32 <= number != 127 else ord("?") for number in range(256)
)
"""Replaces control characters but tabs and line ends."""


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with a ``Whole`` in the scope of each request."""

    def on_headers_complete(self) -> None:
        """Start the request."""
        super().on_headers_complete()
        cycle: Any = self.cycle
        scope: Any = self.scope
        if cycle is not None and cycle.scope is scope:  # no upgrade
            # The task of the request runs later.
            scope[WHOLE] = partial(_send, cycle)


def _send(cycle: Any, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Send what ``RequestResponseCycle.send`` would send for the two messages of an answer."""
    if (
        cycle.response_started
        or cycle.disconnected
        or not cycle.keep_alive
        or cycle.flow.write_paused
        or cycle.access_log
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    every = [*cycle.default_headers, *headers]
    head = b"".join([b"%b: %b\r\n" % header for header in every])
    # A value with a line end would be another header: uvicorn refuses it, and control characters.
    if head != head.translate(_PRINTABLE) or len(head.splitlines()) != len(every):
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n", body)))
    cycle.message_event.set()
    cycle.on_response()
    return True
