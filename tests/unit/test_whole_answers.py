"""Answers that are written at once: the bytes are those of uvicorn's own way."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from iredapi.web.middleware import RequestContext
from iredapi.web.responses import Json
from iredapi.web.whole_answers import WHOLE, WholeAnswers


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
    """/usual/…: in two messages. /split: a header with a line end. Others: a whole answer."""
    path = scope["path"]
    if path.startswith("/usual"):
        del scope[WHOLE]
    value = "a\r\nx-b: c" if path == "/split" else "c"
    name = path.rpartition("/")[2]
    await Json(name.encode(), 404, {"X-A": value})(scope, receive, send)


@pytest.fixture
async def wire() -> Any:
    app = RequestContext(_app, handlers={})
    config = uvicorn.Config(
        app,
        http=WholeAnswers,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    config.load()
    protocol = WholeAnswers(config, ServerState(), {})
    protocol.server_state.default_headers = [(b"server", b"uvicorn")]
    transport = _Wire()
    protocol.connection_made(transport)
    return protocol, transport


async def _asked(wire: Any, *lines: str, more: str = "") -> list[bytes]:
    protocol, transport = wire
    transport.packets.clear()
    head = f"Host: h\r\nX-Request-Id: 12345678\r\n{more}\r\n"
    protocol.data_received("".join(f"{line} HTTP/1.1\r\n{head}" for line in lines).encode())
    for _ in range(3 * len(lines)):
        await asyncio.sleep(0)
    packets: list[bytes] = transport.packets
    return packets


async def test_a_whole_answer_is_one_packet_with_the_same_bytes(wire: Any) -> None:
    (packet,) = list(await _asked(wire, "GET /name"))
    usual = await _asked(wire, "GET /usual/name")
    assert len(usual) == 2
    assert packet == b"".join(usual)
    assert packet.startswith(b"HTTP/1.1 404 Not Found\r\nserver: uvicorn\r\ncontent-length: 4\r\n")
    assert b"\r\nx-request-id: 12345678\r\n" in packet
    assert packet.endswith(b"\r\n\r\nname")


async def test_answers_to_requests_that_came_together_are_in_order(wire: Any) -> None:
    packets = await _asked(wire, "GET /one", "GET /usual/two", "GET /three")
    assert re.findall(rb"\r\n\r\n(one|two|three)", b"".join(packets)) == [b"one", b"two", b"three"]


async def test_what_is_not_whole_is_sent_as_uvicorn_does(wire: Any) -> None:
    (head, *_) = await _asked(wire, "HEAD /name")
    assert b"content-length: 4\r\n" in head
    assert head.endswith(b"\r\n\r\n")
    packets = await _asked(wire, "GET /name", more="Connection: close\r\n")
    assert b"\r\nconnection: close\r\n" in packets[0]
    assert wire[1].closed


async def test_a_value_with_a_line_end_is_refused(wire: Any) -> None:
    assert await _asked(wire, "GET /split") == []
    assert wire[1].closed


async def test_an_answer_to_somebody_who_has_gone_is_not_sent(wire: Any) -> None:
    protocol, transport = wire
    protocol.data_received(b"GET /name HTTP/1.1\r\nHost: h\r\n\r\n")
    protocol.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert transport.packets == []
