"""What the HTTP server writes, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from iredapi.web.protocol import Protocol


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
