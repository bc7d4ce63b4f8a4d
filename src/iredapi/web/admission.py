"""Admission control: limits on concurrent requests, on the memory of bodies, on long answers.

A request does not count while its body is being received, so clients that send half a body do not
block others. Bodies that are being received share a limit on memory. Long answers (lists) have a
separate limit, and few pages are read at the same time: the event loop stays free for other
requests. All limits are per worker process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from iredapi.domain.actors import Actor
from iredapi.errors import InvalidRequest, Overloaded, TooLarge

BODY_MEMORY: Final = 128 * 1024 * 1024
"""Maximum bytes of all bodies together; the first ``_FREE_BYTES`` of each do not count."""
_FREE_BYTES: Final = 64 * 1024
"""Bytes of each body that do not count, so that small bodies are accepted beside large ones."""
_STREAM_SHARE: Final = 16
"""Maximum requests divided by this is the maximum number of long answers."""
_PAGES_AT_ONCE: Final = 2
_IMPORTS: Final = 2
"""Maximum number of imports at the same time."""
_SCOPE_KEY: Final = "iredapi.slot"


class Admission:
    """The counters of one worker process."""

    def __init__(self, most: int) -> None:
        self.free = self.most = most
        """Number of requests that may start, now and at most."""
        self.imports = _IMPORTS
        """Number of imports that may start."""
        self.waits = most
        """Number of requests that may wait for events."""
        self.waits_of = Counter[str]()
        """Number of those that wait, by normal admin."""
        self.memory = BODY_MEMORY
        """Bytes that are left for bodies."""
        self.streams = max(most // _STREAM_SHARE, 4)
        """Number of long answers that may start."""
        self.first_pages = asyncio.Semaphore(_PAGES_AT_ONCE)
        self.next_pages = asyncio.Semaphore(_PAGES_AT_ONCE)
        """Held while a page of a list is read: encoding one blocks the event loop."""


class Slot:
    """What one request has taken of the limits."""

    __slots__ = ("_admission", "_bytes", "_held", "_imports", "_streams", "_waits", "_waits_for")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = False
        self._bytes = 0
        self._streams = False
        self._imports = False
        self._waits = False
        self._waits_for = ""

    def acquire(self) -> None:
        """Count the request. Raises Overloaded at once: there is no queue."""
        if not self._admission.free:
            raise Overloaded("This server answers too many requests at the moment.")
        self._admission.free -= 1
        self._held = True

    def release(self) -> None:
        """Stop counting the request."""
        if self._held:
            self._admission.free += 1
            self._held = False

    def reserve(self, size: int) -> None:
        """Count the memory of a body of which ``size`` bytes have arrived. Raises Overloaded."""
        more = size - _FREE_BYTES - self._bytes
        if more > 0:
            if more > self._admission.memory:
                raise Overloaded("Too many large requests are being received.")
            self._admission.memory -= more
            self._bytes += more

    def stream(self) -> None:
        """Count a long answer; a second one of the same request does not count.

        Its memory is in use for as long as the client does not read it. Raises Overloaded.
        """
        if not self._streams:
            if not self._admission.streams:
                raise Overloaded("Too many long lists are being sent.")
            self._admission.streams -= 1
            self._streams = True

    def start_import(self) -> None:
        """Count an import, and no request any more. Raises Overloaded."""
        if not self._admission.imports:
            raise Overloaded("Other imports are going on.")
        self._admission.imports -= 1
        self._imports = True
        self.release()

    def wait(self, actor: Actor) -> None:
        """Count a request that waits for events, and no other any more. Raises Overloaded.

        One normal admin has half of the places at most: others wait for events, too.
        """
        if not self._waits:
            admission, name = self._admission, "" if actor.is_global else actor.username
            if not admission.waits:
                raise Overloaded("Too many clients wait for events.")
            if name:
                if admission.waits_of[name] >= max(admission.most // 2, 1):
                    raise Overloaded("Too many clients of this admin wait for events.")
                admission.waits_of[name] += 1
            admission.waits -= 1
            self._waits, self._waits_for = True, name
        self.release()

    @property
    def others_wait(self) -> bool:
        """Whether requests are being answered, beside imports."""
        return self._admission.free < self._admission.most

    @asynccontextmanager
    async def page(self, *, first: bool, seconds: float) -> AsyncIterator[None]:
        """Wait until a page of a list may be read; for the first page at most ``seconds``.

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

    def close(self) -> None:
        """Release everything that the request has taken."""
        self.release()
        if self._streams:
            self._admission.streams += 1
            self._streams = False
        if self._imports:
            self._admission.imports += 1
            self._imports = False
        if self._waits:
            self._admission.waits += 1
            self._waits = False
            if name := self._waits_for:
                self._admission.waits_of[name] -= 1
                if not self._admission.waits_of[name]:
                    del self._admission.waits_of[name]
        self._admission.memory += self._bytes
        self._bytes = 0


def take_slot(scope: MutableMapping[str, Any], admission: Admission) -> Slot:
    """Count a request, and store its slot in the scope. Raises Overloaded."""
    slot = Slot(admission)
    slot.acquire()
    scope[_SCOPE_KEY] = slot
    return slot


def slot_of(scope: Mapping[str, Any]) -> Slot:
    """Return the slot of a request."""
    slot: Slot = scope[_SCOPE_KEY]
    return slot


class Stream(StreamingResponse):
    """A long answer, sent in chunks. For HEAD no chunk is made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises Overloaded before anything is sent."""
        if scope["method"] == "HEAD":
            head = {"type": "http.response.start", "status": self.status_code}
            await send({**head, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        self.take(slot_of(scope))
        await super().__call__(scope, receive, send)

    def take(self, slot: Slot) -> None:
        """Take the place of an answer of this kind. Raises Overloaded."""
        slot.stream()


async def receive_body(request: Request, limit: int, seconds: float) -> bytes:
    """Return the body, of at most ``limit`` bytes, which must arrive within ``seconds``.

    A timer for each request would cost more than receiving a small body: ``connection_limits``
    wakes those that wait once a second. Raises InvalidRequest, TooLarge or Overloaded.
    """
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise _too_large(limit)
    slot = slot_of(request.scope)
    slot.release()
    parts: list[bytes] = []
    size, more, end = 0, True, time.monotonic() + seconds
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise InvalidRequest(detail="The body ended early.")
        part: bytes = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > limit:
            raise _too_large(limit)
        slot.reserve(size)
        parts.append(part)
        if more and time.monotonic() > end:
            raise InvalidRequest(detail="The body did not arrive in time.")
    slot.acquire()
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(detail=f"The limit is {limit} bytes.")
