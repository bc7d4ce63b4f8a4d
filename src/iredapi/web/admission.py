"""Admission control: how many requests a worker handles at a time, and how bodies get in.

A request is counted while it is worked on, and not while its client is still sending: who sends
half a body keeps nobody else out. Bodies that are being received share a bound on memory. Long
answers have a bound of their own, and few pages of them are made at a time: the rest of the API
stays responsive, however many lists are read, or not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from iredapi.errors import InvalidRequest, Overloaded, TooLarge

BODY_MEMORY: Final = 128 * 1024 * 1024
"""Most bytes of all bodies together, per worker; the first bytes of each are not counted."""
_FREE_BYTES: Final = 64 * 1024
"""Bytes of each body that are not counted: large bodies keep no small ones out."""
_STREAM_SHARE: Final = 16
"""One of so many places may be a long answer's."""
_PAGES_AT_ONCE: Final = 2
_SCOPE_KEY: Final = "iredapi.place"


class Admission:
    """The places of one worker."""

    def __init__(self, most: int) -> None:
        self.free = most
        """Requests that may begin now."""
        self.memory = BODY_MEMORY
        """Bytes that bodies may still take."""
        self.streams = max(most // _STREAM_SHARE, 4)
        """Long answers that may begin now."""
        self.first_pages = asyncio.Semaphore(_PAGES_AT_ONCE)
        self.next_pages = asyncio.Semaphore(_PAGES_AT_ONCE)
        """Held while a page of a list is read: a long one takes the event loop for a while."""


class Slot:
    """The place of one request: taken, given back, and taken again."""

    __slots__ = ("_admission", "_bytes", "_held", "_streams")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = False
        self._bytes = 0
        self._streams = False

    def take(self) -> None:
        """Count the request. Raises Overloaded at once: a queue without end helps nobody."""
        if not self._admission.free:
            raise Overloaded("This server has its hands full.")
        self._admission.free -= 1
        self._held = True

    def give(self) -> None:
        """Do not count the request any more."""
        if self._held:
            self._admission.free += 1
            self._held = False

    def reserve(self, size: int) -> None:
        """Count the memory of a body that is ``size`` bytes long by now. Raises Overloaded."""
        more = size - _FREE_BYTES - self._bytes
        if more > 0:
            if more > self._admission.memory:
                raise Overloaded("Too many large requests are being received.")
            self._admission.memory -= more
            self._bytes += more

    def stream(self) -> None:
        """Count a long answer: a client that does not read it keeps its memory. Raises Overloaded.

        Several of one request count as one.
        """
        if not self._streams:
            if not self._admission.streams:
                raise Overloaded("Too many long lists are being sent.")
            self._admission.streams -= 1
            self._streams = True

    @asynccontextmanager
    async def page(self, *, first: bool, seconds: float) -> AsyncIterator[None]:
        """Wait for the turn to read a page of a list; for a first one ``seconds`` at most.

        Raises Overloaded.
        """
        turn = self._admission.first_pages if first else self._admission.next_pages
        try:
            async with asyncio.timeout(seconds if first and turn.locked() else None):
                await turn.acquire()
        except TimeoutError:
            raise Overloaded("Too many lists are being read.") from None
        try:
            yield
        finally:
            turn.release()

    def leave(self) -> None:
        """Give back everything."""
        self.give()
        if self._streams:
            self._admission.streams += 1
            self._streams = False
        self._admission.memory += self._bytes
        self._bytes = 0


def take_slot(scope: MutableMapping[str, Any], admission: Admission) -> Slot:
    """Take a place for a request. Raises Overloaded."""
    place = Slot(admission)
    place.take()
    scope[_SCOPE_KEY] = place
    return place


def place_of(scope: Mapping[str, Any]) -> Slot:
    """Return the place of a request."""
    place: Slot = scope[_SCOPE_KEY]
    return place


class Stream(StreamingResponse):
    """An answer in pieces, one of the few that a worker sends at a time. HEAD makes no piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Raises Overloaded, before anything is sent."""
        if scope["method"] == "HEAD":
            head = {"type": "http.response.start", "status": self.status_code}
            await send({**head, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        place_of(scope).stream()
        await super().__call__(scope, receive, send)


async def receive_body(request: Request, limit: int, seconds: float) -> bytes:
    """Return the body, of at most ``limit`` bytes; all of it has ``seconds`` to arrive.

    Raises InvalidRequest, TooLarge or Overloaded.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise _too_large(limit)
    place = place_of(request.scope)
    place.give()
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise InvalidRequest(detail="The body ended early.")
                part: bytes = message.get("body", b"")
                size, more = size + len(part), message.get("more_body", False)
                if size > limit:
                    raise _too_large(limit)
                place.reserve(size)
                parts.append(part)
    except TimeoutError:
        raise InvalidRequest(detail="The body did not arrive in time.") from None
    place.take()
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(detail=f"The limit is {limit} bytes.")
