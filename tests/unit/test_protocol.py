"""What the HTTP server writes, and when."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from iredapi.web.protocol import BODY, WHOLE, Protocol


class _Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.packets.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _app(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/body":
        there = scope[BODY]()
        said = b"asked" if there is None else there
        if there is None:
            message = await receive()
            said += b" " + message["body"]
        lines = b"content-length: %d\r\nx-more: 1\r\n" % len(said)
        if not scope[WHOLE](200, lines, said):
            headers = [(b"content-length", b"%d" % len(said)), (b"x-more", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": said})
        return
    size = int(path.rpartition("/")[2])
    parts = 1 if path.startswith("/whole") else 3
    headers = [(b"content-length", b"%d" % (size * parts))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(1, parts + 1):
        if path.startswith("/slow"):
            await asyncio.sleep(0.01)
        more = number < parts
        await send({"type": "http.response.body", "body": b"x" * size, "more_body": more})


@pytest.fixture
async def wire() -> Any:
    config = uvicorn.Config(_app, http=Protocol, lifespan="off", log_config=None)
    config.load()
    protocol = Protocol(config, ServerState(), {})
    transport = _Wire()
    protocol.connection_made(transport)
    return protocol, transport


async def _asked(wire: Any, *paths: str, seconds: float = 0.02, close: bool = False) -> list[bytes]:
    protocol, transport = wire
    more = "Connection: close\r\n" if close else ""
    protocol.data_received(
        "".join(f"GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n" for path in paths).encode()
    )
    await asyncio.sleep(seconds)
    packets: list[bytes] = transport.packets
    return packets


async def test_an_answer_is_one_packet(wire: Any) -> None:
    (packet,) = await _asked(wire, "/whole/5")
    assert packet.startswith(b"HTTP/1.1 200 OK\r\n")
    assert packet.endswith(b"\r\n\r\nxxxxx")
    assert len(await _asked(wire, "/whole/7")) == 2
    assert len(await _asked(wire, "/parts/9")) == 3


async def test_answers_to_what_came_at_once_are_in_order(wire: Any) -> None:
    packets = await _asked(wire, "/whole/5", "/whole/6", "/parts/7")
    bodies = b"".join(packets).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [body.rpartition(b"\r\n\r\n")[2] for body in bodies] == [
        b"x" * 5, b"x" * 6, b"x" * 21,
    ]  # fmt: skip


async def test_what_takes_long_is_sent_as_it_comes(wire: Any) -> None:
    packets = await _asked(wire, "/slow/4", seconds=0.2)
    assert packets[0].endswith(b"\r\n\r\n")
    assert packets[1:] == [b"xxxx"] * 3


async def test_much_does_not_wait(wire: Any) -> None:
    packets = await _asked(wire, "/parts/100000")
    assert [len(packet) // 100_000 for packet in packets] == [1, 1, 1]


async def test_the_last_answer_is_sent_before_the_end(wire: Any) -> None:
    (packet,) = await _asked(wire, "/whole/5", close=True)
    assert packet.endswith(b"xxxxx")
    assert wire[1].closed


async def test_nothing_is_sent_to_who_went_away(wire: Any) -> None:
    protocol, transport = wire
    protocol.data_received(b"GET /slow/5 HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0)
    assert protocol.cycle.response_started  # the head waits for the end of this turn
    assert transport.packets == []
    transport.closed = True
    protocol.connection_lost(None)
    await asyncio.sleep(0.1)
    assert transport.packets == []


async def _posted(wire: Any, more: str, *parts: bytes) -> list[bytes]:
    protocol, transport = wire
    protocol.data_received(f"POST /body HTTP/1.1\r\nHost: h\r\n{more}\r\n".encode() + parts[0])
    for part in parts[1:]:
        await asyncio.sleep(0.01)
        protocol.data_received(part)
    await asyncio.sleep(0.02)
    packets: list[bytes] = transport.packets
    return packets


async def test_whole_is_the_same_as_in_two_messages(wire: Any) -> None:
    """The second time the connection is to end, which goes the usual way."""
    one = (await _posted(wire, "Content-Length: 3\r\n", b"abc"))[0]
    two = (await _posted(wire, "Content-Length: 3\r\nConnection: close\r\n", b"abc"))[1]
    assert wire[1].closed
    one, two = (re.sub(rb"date: [^\r]+", b"date: now", packet) for packet in (one, two))
    assert one.endswith(b"\r\n\r\nabc")
    assert two == one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


async def test_bodies_one_after_the_other_are_each_requests_own(wire: Any) -> None:
    protocol, transport = wire
    for text in (b"one", b"", b"three"):
        await _posted(wire, f"Content-Length: {len(text)}\r\n", text)
    assert [packet.rpartition(b"\r\n\r\n")[2] for packet in transport.packets] == [
        b"one", b"", b"three",
    ]  # fmt: skip
    del transport.packets[:]
    head = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"
    protocol.data_received(head + b"a" + head + b"b" + head + b"c")
    await asyncio.sleep(0.02)
    assert [packet[-1:] for packet in transport.packets] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "more, parts",
    [
        ("Content-Length: 4\r\n", (b"ab", b"cd")),
        ("Content-Length: 4\r\nExpect: 100-continue\r\n", (b"", b"abcd")),
    ],
)
async def test_a_body_that_is_not_there_yet_is_asked_for(
    wire: Any, more: str, parts: tuple[bytes, ...]
) -> None:
    *before, last = await _posted(wire, more, *parts)
    assert before == ([b"HTTP/1.1 100 Continue\r\n\r\n"] if "Expect" in more else [])
    assert b"\r\n\r\nasked " in last


async def test_head_has_no_body(wire: Any) -> None:
    protocol, transport = wire
    protocol.data_received(b"HEAD /body HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0.02)
    assert len(transport.packets) == 1
    assert transport.packets[0].endswith(b"\r\n\r\n")
