"""The body of an import, as it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from starlette.requests import Request

from iredapi.errors import ApiError, InvalidRequest
from iredapi.transfer.importing import GROUP
from iredapi.transfer.lines import Entry, FileFormat, Gunzip, Lines, Reader

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
_MOMENT: Final = 0.005
"""Seconds for which a group waits for more lines."""
_GROUP_BYTES: Final = 4 << 20
"""Bytes of the body after which no more lines join a group."""
IDLE_SECONDS: Final = 60.0
"""Maximum seconds for which no line ends."""
WAITING_SECONDS: Final = 1800.0
"""Maximum seconds for which an import waits for its client, all together."""
_FORMATS: Final = {
    CSV: FileFormat.CSV,
    NDJSON: FileFormat.NDJSON,
    "application/ndjson": FileFormat.NDJSON,
    "application/jsonl": FileFormat.NDJSON,
    "application/jsonlines": FileFormat.NDJSON,
    "application/json": FileFormat.NDJSON,
}


class GoneError(Exception):
    """The client has gone away."""


class ImportBody:
    """The lines of a body, as they arrive. Raises ApiError."""

    def __init__(self, request: Request, file_format: FileFormat | None, usual_type: str) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            raise InvalidRequest(detail="The body is the file itself, not a form with a file.")
        encoding = request.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise InvalidRequest(detail="The body may be encoded with gzip only.")
        self._request = request
        self._gunzip = Gunzip() if encoding in {"gzip", "x-gzip"} else None
        self._lines = Lines()
        self._reader = Reader(file_format or _FORMATS.get(kind), usual_type)
        self._waited = 0.0
        self._line_at = time.monotonic()
        self._first: list[Entry] | None = None
        self._pieces: Iterator[bytes] = iter(())
        """What has arrived and is not read: a small piece of gzip may hold millions of lines."""
        self._ended = False
        """Whether all of the body has arrived."""
        self._done = False
        """Whether all of it has been read."""
        self._empty = True
        self._receiving: asyncio.Future[Any] | None = None

    async def begin(self) -> None:
        """Read the first lines: what is wrong with the file as a whole is an error of its own."""
        try:
            self._first = await self._next()
        except GoneError:
            raise InvalidRequest(detail="The body ended early.") from None

    async def entries(self) -> AsyncIterator[list[Entry]]:
        """Return the records of each piece of the body."""
        while True:
            found = self._first if self._first is not None else await self._next()
            self._first = None
            if found:
                yield found
            elif self._done:
                return

    async def _next(self) -> list[Entry]:
        """Return the next records, a whole group if they are there already.

        Nothing: the body has ended.
        """
        found: list[Entry] = []
        size = 0
        while not self._done and len(found) < GROUP and size < _GROUP_BYTES:
            one = next(self._pieces, None)
            if one is None and not self._ended:
                piece = await self._piece(_MOMENT if found else IDLE_SECONDS)
                if piece is None:
                    break
                self._pieces = iter([piece]) if self._gunzip is None else self._gunzip.feed(piece)
            elif one is None:
                self._done = True
                if self._gunzip is not None and not self._empty:
                    self._gunzip.end()
                found += self._reader.read(self._lines.end())
                found += self._reader.end()
            else:
                size += len(one)
                before = self._lines.number
                found += self._reader.read(self._lines.feed(one))
                if self._lines.number > before:
                    self._line_at = time.monotonic()
                # A thousand pieces may come out of one of gzip: other requests get their turn.
                await asyncio.sleep(0)
        return found

    async def _piece(self, seconds: float) -> bytes | None:
        """Return the next piece of the body, which may be empty; None: not within ``seconds``."""
        began = time.monotonic()
        # Not cancelled when it takes too long: it is waited for again.
        receiving = self._receiving or asyncio.ensure_future(self._request.receive())
        self._receiving = receiving
        await asyncio.wait([receiving], timeout=seconds)
        if not receiving.done():
            if seconds < IDLE_SECONDS:
                return None
            raise _late()
        self._receiving = None
        message = receiving.result()
        now = time.monotonic()
        self._waited += now - began
        if message["type"] != "http.request":
            raise GoneError
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        self._empty = self._empty and not body
        if not self._ended and (
            now - self._line_at > IDLE_SECONDS or self._waited > WAITING_SECONDS
        ):
            raise _late()
        return body

    def close(self) -> None:
        """Wait for nothing more."""
        if self._receiving is not None:
            self._receiving.cancel()

    def resume(self) -> None:
        """Begin to wait for the client: importing has taken the time until now."""
        self._line_at = time.monotonic()


def _late() -> ApiError:
    return ApiError("REQUEST_TIMEOUT", "No line has arrived for too long: send the rest again.")
