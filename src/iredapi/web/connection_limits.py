"""Limits for slow and silent clients: uvicorn's HTTP protocol with limits on time, size and number.

uvicorn closes an idle connection only after its first request, and httptools reads a request head
of any size. ``LimitedProtocol`` adds, per connection:

===================  ===============================================================  ==========
what                 limit                                                            answer
===================  ===============================================================  ==========
silent connection    ``head_seconds`` until the first byte                            closed
request head         ``head_seconds`` from its first byte, ``head_bytes``             408, 431
unread body          ``body_seconds`` after the answer (a 401, say)                   aborted
unread answer        ``write_seconds`` in which the client's TCP accepts no byte      aborted
number               ``connections`` per process: a new one replaces the one that     aborted,
                     has waited longest; when all are busy, the new one is refused    503
===================  ===============================================================  ==========

Bodies that an operation reads have other limits (``web.admission``). A client that reads slowly is
not disconnected: each acknowledged byte counts as progress. Time limits are checked once a second
for all connections of a process. Closed connections are logged, at most once in ten seconds.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import http
import os
import resource
import secrets
import socket
import struct
import termios
from collections import Counter
from collections.abc import MutableSet
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings
from iredapi.errors import ApiError, Overloaded
from iredapi.web import responses

STATE_KEY: Final = "max_connections"
"""Key of the lifespan state: maximum number of connections of this process."""
_LOG_SECONDS: Final = 10.0
_LINGER_SECONDS: Final = 2.0
"""Time for a refused client to read the answer. Closing at once would reset the connection."""
_PROTECTED_SECONDS: Final = 0.1
"""A younger connection is not closed for a new one: its request may still arrive."""
MOST_CONNECTIONS: Final = 8192
"""Upper limit: a connection takes 6 kB of memory, and 20 kB while its head arrives."""
_OTHER_DESCRIPTORS: Final = 64
"""Descriptors of files, pipes, the event loop, requests to mlmmjadmin and DNS."""
_STATE_CONNECTIONS: Final = 8
_LAST_DESCRIPTORS: Final = 4
"""So few free descriptors are logged as ``no_descriptor_left``."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection. ``connections`` is used unless the lifespan state has a number."""

    head_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    write_seconds: float = 30.0
    check_seconds: float = 1.0
    """Interval of the check of all connections."""
    connections: int = 0
    """0: a quarter of the file descriptors."""


def max_connections(settings: Settings, descriptors: int = 0) -> int:
    """Return the maximum number of client connections of one worker.

    ``descriptors`` is the maximum of files and connections together; 0: the process's limit. A part
    is reserved for databases and files, and for connections that the event loop accepts before they
    are counted (``accept_backlog``).
    """
    databases = settings.pool_size + 3 * max(settings.pool_size // 2, 2) + _STATE_CONNECTIONS
    if settings.backend is Backend.LDAP:
        databases += settings.ldap_pool_size
    # SQLite has three files for each connection: the database, its log, and the log's index.
    reserved = _OTHER_DESCRIPTORS + databases * (3 if settings.uses_sqlite else 1)
    limit = descriptors or descriptor_limit()
    wanted, least = limit - reserved - accept_backlog(limit), max(limit // 4, 1)
    if wanted < least:
        _log.warning("few_descriptors", descriptors=limit, databases=reserved, connections=least)
    return min(max(wanted, least), MOST_CONNECTIONS)


def accept_backlog(descriptors: int = 0) -> int:
    """Return the length of the listen queue: at most an eighth of the descriptors.

    libuv accepts the whole queue before ``connection_made`` of the first connection is called.
    """
    return min(2048, max((descriptors or descriptor_limit()) // 8, 16))


def descriptor_limit() -> int:
    """Return the maximum number of open file descriptors (the soft RLIMIT_NOFILE)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft


class _HeadTooLargeError(Exception):
    """Stops the parser; httptools reports it to uvicorn as a parser error."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection; see the module's docstring."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_head = True
        """Whether the next byte belongs to a request head and not to a body."""
        self.has_asked = False
        """Whether a request has begun on this connection."""
        self.head_size = 0
        """Bytes of the current head in chunks that contain nothing else."""
        self.since = 0.0
        """Loop time at which the connection or the current request began."""
        self.refused = False
        self.dropped = False
        self.pending = 0
        """Bytes that the client had not accepted at the last check."""
        self.pending_since = 0.0
        self.unread_since = 0.0
        """Loop time since which a body arrives for an answered request; 0: none does."""
        self._chunk_size = 0
        self._head_too_large = False
        self._watch: _ConnectionWatch | None = None

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection. If there are too many, close another one or refuse this one."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._watch = _watch_of(self)
        self._watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.remove(self)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head; ignore data of a refused client."""
        if self.refused:
            return
        if self.in_head:
            if not self.head_size:
                self.since = self.loop.time()
            self.head_size += len(data)
        self._chunk_size = len(data)
        super().data_received(data)
        if self.in_head and self.head_size > self.limits.head_bytes and not self.refused:
            self.refuse(ApiError("HEADERS_TOO_LARGE"))

    # -- callbacks of httptools --------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is too large."""
        most = self.limits.head_bytes
        # A chunk may also contain a body: the head is measured only if the chunk is too large.
        if max(self.head_size, self._chunk_size) > most and self._measured_head() > most:
            self._head_too_large = True
            raise _HeadTooLargeError
        self.in_head = False
        self.has_asked = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect another head."""
        super().on_message_complete()
        self.in_head = True
        self.head_size = 0
        self.unread_since = 0.0

    def _measured_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # -- refusals ----------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.has_asked and not self.cycle.response_complete

    @property
    def is_waiting(self) -> bool:
        """Whether the connection waits for data of the client."""
        if self.refused or self.dropped:
            return False
        return not self.is_busy or self.cycle.more_body

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed: in JSON, like all answers."""
        if self._head_too_large:
            self.refuse(ApiError("HEADERS_TOO_LARGE"))
        else:
            self.refuse(ApiError("INVALID_REQUEST", msg))

    def refuse(self, error: ApiError, *, linger: bool = True) -> None:
        """Answer with an error, then close. An answer that is being sent is finished first.

        ``linger``: keep reading for a while, so that the client receives the answer.
        """
        self.refused = True
        if self.transport.is_closing():
            return
        if self.pipeline or (self.is_busy and not self.cycle.more_body):
            self.cycle.keep_alive = False
            return
        self.since = self.loop.time()
        self.transport.write(_response(error))
        if linger and not self.is_busy and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def drop(self) -> None:
        """Close at once; unsent data are lost."""
        self.dropped = True
        self.transport.abort()


def _response(error: ApiError) -> bytes:
    request_id = secrets.token_hex(8)
    answer = responses.failure(error, request_id)
    headers = [
        *answer.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    lines = [b"%b: %b\r\n" % header for header in headers]
    phrase = http.HTTPStatus(error.status).phrase.encode()
    status_line = b"HTTP/1.1 %d %b\r\n" % (error.status, phrase)
    return b"".join([status_line, *lines, b"\r\n", bytes(answer.body)])


class _ConnectionWatch:
    """Limits the number of a server's connections, and checks them once a second."""

    def __init__(self, connections: MutableSet[Any], limits: Limits, most: int) -> None:
        self._connections: MutableSet[LimitedProtocol] = connections
        self._limits = limits
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._descriptors = descriptor_limit()
        self._timer: asyncio.TimerHandle | None = None
        self._dropped = 0
        self._closed: Counter[str] = Counter()
        """Number of closed connections per reason, since the last log line."""
        self._logged = float("-inf")

    def add(self, protocol: LimitedProtocol) -> None:
        """Count a new connection. If there are too many, close others or refuse it."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.check_seconds, self._check)
        connection: socket.socket | None = protocol.transport.get_extra_info("socket")
        # The kernel assigns the lowest free number.
        if connection is not None and connection.fileno() >= self._descriptors - _LAST_DESCRIPTORS:
            self._closed["no_descriptor"] += 1
        if len(self._connections) - self._dropped > self._most and not self._make_room():
            self._closed["refused"] += 1
            error = Overloaded("This server has too many connections.")
            protocol.refuse(error, linger=False)
            self._log()

    def remove(self, protocol: LimitedProtocol) -> None:
        """Stop counting a connection."""
        if protocol.dropped:
            self._dropped -= 1

    def _make_room(self) -> bool:
        """Close some of the connections that wait for their clients; return False if none does.

        First those without a request, then idle ones, then those that send a body; of each kind
        those that wait longest. Several at once, so that a flood does not cause a sort each time.
        """
        latest = self._loop.time() - _PROTECTED_SECONDS
        waiting = [item for item in self._connections if item.is_waiting and item.since < latest]
        waiting.sort(key=lambda item: (item.has_asked, not item.in_head, item.since))
        for item in waiting[: max(self._most // 16, 1)]:
            self._drop(item, "crowded_out")
        self._log()
        return bool(waiting)

    def _drop(self, protocol: LimitedProtocol, reason: str) -> None:
        self._closed[reason] += 1
        self._dropped += 1
        protocol.drop()

    def _check(self) -> None:
        """Check every connection."""
        self._timer = None
        now = self._loop.time()
        for protocol in list(self._connections):
            if not protocol.dropped:
                self._check_one(protocol, now)
        self._check_descriptors()
        self._log()
        if self._connections:
            self._timer = self._loop.call_later(self._limits.check_seconds, self._check)

    def _check_one(self, protocol: LimitedProtocol, now: float) -> None:
        limits = self._limits
        if self._is_stuck(protocol, now):
            self._drop(protocol, "unread_answer")
        elif protocol.transport.is_closing() or protocol.is_busy:
            if protocol.is_busy and protocol.cycle.more_body:
                protocol.cycle.message_event.set()  # ``admission.receive_body`` looks at the time
        elif protocol.refused:
            if now - protocol.since > _LINGER_SECONDS:
                protocol.transport.close()
        elif not protocol.in_head:
            # The answer is sent, but the client still sends the body.
            protocol.unread_since = protocol.unread_since or now
            if now - protocol.unread_since > limits.body_seconds:
                self._drop(protocol, "unread_body")
        elif protocol.head_size:
            if now - protocol.since > limits.head_seconds:
                self._closed["half_head"] += 1
                protocol.refuse(ApiError("REQUEST_TIMEOUT"))
        elif not protocol.has_asked and now - protocol.since > limits.head_seconds:
            self._drop(protocol, "silent")

    def _is_stuck(self, protocol: LimitedProtocol, now: float) -> bool:
        """Return whether the client has accepted no byte of an answer for ``write_seconds``."""
        pending = protocol.transport.get_write_buffer_size()
        if pending:
            pending += _unacknowledged(protocol.transport)
        if not pending or pending != protocol.pending:
            protocol.pending, protocol.pending_since = pending, now
            return False
        return now - protocol.pending_since > self._limits.write_seconds

    def _check_descriptors(self) -> None:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._closed["no_descriptor"] += 1

    def _log(self) -> None:
        now = self._loop.time()
        if not self._closed or now - self._logged < _LOG_SECONDS:
            return
        self._logged = now
        counts, self._closed = dict(self._closed), Counter()
        if counts.pop("no_descriptor", 0):
            _log.error(
                "no_descriptor_left", descriptors=self._descriptors, hint="raise LimitNOFILE"
            )
        if counts:
            crowded = counts.keys() & {"crowded_out", "refused"}
            (_log.warning if crowded else _log.info)(
                "connections_closed", open=len(self._connections), most=self._most, **counts
            )


_WATCHES: Final[WeakKeyDictionary[ServerState, _ConnectionWatch]] = WeakKeyDictionary()


def _watch_of(protocol: LimitedProtocol) -> _ConnectionWatch:
    state = protocol.server_state
    found = _WATCHES.get(state)
    if found is None:
        limits = protocol.limits
        most = limits.connections or protocol.app_state.get(STATE_KEY, 0)
        most = most or max(descriptor_limit() // 4, 1)
        found = _ConnectionWatch(state.connections, limits, most)
        _WATCHES[state] = found
    return found


def _unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Return the bytes in the kernel's send queue (SIOCOUTQ, Linux); 0 if unknown."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None:
        return 0
    try:
        found = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except (OSError, ValueError):
        return 0
    return int(struct.unpack("i", found)[0])
