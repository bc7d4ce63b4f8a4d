"""Slow, silent and numerous clients of the HTTP protocol, on real sockets of a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from iredapi.config.settings import Settings
from iredapi.errors import Overloaded
from iredapi.observability.logging import configure
from iredapi.web.connection_limits import LimitedProtocol, Limits, max_connections

QUICK = Limits(head_seconds=0.4, body_seconds=0.4, write_seconds=1.0, check_seconds=0.1)
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """/x: its name. /body: the body. /ignored: an answer before the body. /wait: after a second.

    /stream/N: N pieces of 100 kB; ``STREAM_ENDED`` is set when the task is over.
    """
    path = scope["path"]
    pieces = [path.encode()]
    if path == "/body":
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        pieces = [b"".join(pieces)]
    elif path == "/wait":
        await asyncio.sleep(1)
    elif path.startswith("/stream/"):
        pieces = [b"x" * 100_000] * int(path.rpartition("/")[2])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        if path.startswith("/stream/"):
            STREAM_ENDED.set()


STREAM_ENDED = asyncio.Event()


@asynccontextmanager
async def serving(limits: Limits = QUICK, **config: Any) -> AsyncIterator[int]:
    """Run a server; returns its port."""

    class Protocol(LimitedProtocol):
        pass

    Protocol.limits = limits
    STREAM_ENDED.clear()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(
        uvicorn.Config(
            _app,
            http=Protocol,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            access_log=False,
            **config,
        )
    )
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def _until_closed(reader: asyncio.StreamReader, seconds: float = 8) -> bytes:
    """Return what comes until the server ends the connection."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), seconds)
    return b""


async def _sent(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send parts and return all that came back, and the seconds until the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    answer = asyncio.create_task(_until_closed(reader))
    for part in parts:
        with contextlib.suppress(ConnectionError):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
    found = await answer
    writer.close()
    return found, time.monotonic() - started


def _failure(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nconnection: close" in head
    assert b"\r\ncontent-type: application/json" in head
    document = json.loads(body)
    assert (document["_success"], document["_msg"]) == (False, code)
    assert f"x-request-id: {document['_request_id']}".encode() in head


async def test_a_silent_connection_is_closed() -> None:
    async with serving() as port:
        answer, seconds = await _sent(port)
    assert answer == b""
    assert 0.3 < seconds < 4


@pytest.mark.parametrize("pause", [0.0, 0.15], ids=["silent", "trickling"])
async def test_half_a_head_is_not_waited_for(pause: float) -> None:
    async with serving() as port:
        answer, seconds = await _sent(port, b"GET /x HTTP/1.1\r\n", *[b"A: b\r\n"] * 9, pause=pause)
    _failure(answer, 408, "REQUEST_TIMEOUT")
    assert 0.3 < seconds < 4


async def test_half_a_second_head_is_not_waited_for() -> None:
    async with serving() as port:
        answer, seconds = await _sent(port, GET, b"GET /x HT", pause=0.1)
    first, _, second = answer.partition(b"0\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    _failure(second, 408, "REQUEST_TIMEOUT")
    assert seconds < 4


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("pieces", [1, 3, 40])
async def test_a_large_head_is_refused(ends: bool, pieces: int) -> None:
    async with serving(Limits()) as port:
        head = b"GET /x HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * 17_000
        head += b"\r\n\r\n" if ends else b""
        step = len(head) // pieces + 1
        parts = [head[at : at + step] for at in range(0, len(head), step)]
        answer, seconds = await _sent(port, *parts, pause=0.01)
    _failure(answer, 431, "HEADERS_TOO_LARGE")
    assert seconds < 6


async def test_a_head_without_end_does_not_stay_in_memory() -> None:
    """64 MiB were taken."""
    async with serving(Limits()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /x HTTP/1.1\r\nX-A: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 1024 * 1024:
                writer.write(b"a" * 65536)
                await writer.drain()
                sent += 65536
                if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                    break
        _failure(await _until_closed(reader), 431, "HEADERS_TOO_LARGE")
        writer.close()
    assert sent < 32 * 1024 * 1024


async def test_a_head_of_the_allowed_size_with_a_large_body_is_served() -> None:
    async with serving(Limits()) as port:
        head = b"POST /body HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        head += b"X-A: " + b"a" * 15_000 + b"\r\nContent-Length: 200000\r\n\r\n"
        for parts in ([head + b"b" * 200_000], [head, b"b" * 200_000]):
            answer, _ = await _sent(port, *parts)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.count(b"b") >= 200_000


async def test_a_large_head_after_a_request_is_refused() -> None:
    """In one piece with it, behind a body, and while the first is being answered."""
    head = b"GET /x HTTP/1.1\r\nHost: h\r\nX-A: " + b"a" * 30_000 + b"\r\n\r\n"
    post = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    async with serving(Limits()) as port:
        for parts, pause in (([post, head], 0.2), ([post + head], 0.0)):
            answer, _ = await _sent(port, *parts, pause=pause)
            first, _, second = answer.partition(b"0\r\n\r\n")
            assert b"\r\n3\r\nabc\r\n" in first
            if pause:
                _failure(second, 431, "HEADERS_TOO_LARGE")
        wait = b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"
        answer, seconds = await _sent(port, wait, head, pause=0.1)
    assert b"/wait" in answer
    assert answer.endswith(b"0\r\n\r\n")
    assert seconds < 4


async def test_what_is_no_http_is_told_in_json() -> None:
    async with serving(Limits()) as port:
        answer, _ = await _sent(port, b"HELLO\r\n\r\n")
    _failure(answer, 400, "INVALID_REQUEST")


async def test_pipelining_and_keep_alive() -> None:
    """Longer than the limit of a head, with requests that come in pieces."""
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(GET * 3 + GET[:20])
            await asyncio.sleep(0.3)
            writer.write(GET[20:])
            for _ in range(4):
                answer = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 2)
                assert answer.endswith(b"/x\r\n0\r\n\r\n")
        writer.close()


async def test_a_body_that_nobody_reads_ends() -> None:
    """The answer is out; a byte now and then does not keep the connection."""
    head = b"POST /ignored HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    async with serving() as port:
        answer, seconds = await _sent(port, head, *[b"a"] * 60, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert seconds < 4.5


async def test_a_client_that_takes_nothing_is_closed() -> None:
    async with serving() as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            client.send(b"GET /stream/2000 HTTP/1.1\r\nHost: h\r\n\r\n")
            started = time.monotonic()
            await asyncio.wait_for(STREAM_ENDED.wait(), 8)
    assert 0.8 < time.monotonic() - started < 5


async def test_a_client_that_reads_slowly_gets_all() -> None:
    """The transport's buffer alone would tell that it takes nothing."""
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET /stream/100 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        size = 0
        for _ in range(14):
            await asyncio.sleep(0.25)
            size += len(await reader.read(150_000))
        while found := await reader.read(1_000_000):
            size += len(found)
        writer.close()
    assert size > 10_000_000


async def test_newcomers_take_the_place_of_who_waits_longest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("INFO")
    async with serving(Limits(connections=20)) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        await asyncio.sleep(0.2)
        for number in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 2), number
            silent.append((reader, writer))
        ended = [await _until_closed(reader, 1) for reader, _ in silent[:20]]
        assert ended == [b""] * 20
        for _, writer in silent:
            writer.close()
    logged = capsys.readouterr().out
    configure("ERROR")
    assert '"event":"connections_closed"' in logged
    assert '"crowded_out":1' in logged


async def test_a_newcomer_is_refused_when_all_are_busy() -> None:
    async with serving(Limits(connections=5)) as port:
        wait = b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"
        busy = []
        for _ in range(5):
            busy.append(await asyncio.open_connection("127.0.0.1", port))
            busy[-1][1].write(wait)
        await asyncio.sleep(0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        _failure(await _until_closed(reader), 503, "OVERLOADED")
        writer.close()
        for reader, writer in busy:
            assert b"/wait" in await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 3)
            writer.close()


async def test_connections_are_checked_while_others_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused connection has no request, and is closed only in the loop's next turn."""
    made, checked = LimitedProtocol.connection_made, list[bool]()

    def refused(protocol: LimitedProtocol, transport: asyncio.Transport) -> None:
        made(protocol, transport)
        protocol.refuse(Overloaded(""), linger=False)
        assert protocol._watch is not None
        protocol._watch._check()
        checked.append(transport.is_closing())

    async with serving() as port:
        silent, _ = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        monkeypatch.setattr(LimitedProtocol, "connection_made", refused)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        _failure(await _until_closed(reader), 503, "OVERLOADED")
        assert checked == [True]
        assert await _until_closed(silent) == b""
        writer.close()


async def test_running_out_of_descriptors_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        held = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 20, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            await asyncio.sleep(0.3)
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        writer.close()
    logged = capsys.readouterr().out
    configure("ERROR")
    assert '"event":"no_descriptor_left"' in logged


def test_connections_leave_descriptors_for_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO")
    settings = Settings(_env_file=None)
    assert 3_000 < max_connections(settings, 4096) < 4096 - 33 * 3
    assert 600 < max_connections(settings, 1024) < 1024 - 33 * 3
    assert "few_descriptors" not in capsys.readouterr().out
    assert max_connections(settings, 128) == 32
    assert '"event":"few_descriptors"' in capsys.readouterr().out
    configure("ERROR")
