"""A receiver of webhooks on loopback, which fails as it is told, or at random.

As a program (``python -m tests.servers.webhook_receiver PORT FILE SEED``) it keeps what it was sent
in a file, and fails at random.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OK: Final = "HTTP/1.1 204 No Content\r\n\r\n"
REDIRECT: Final = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
GONE: Final = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
ERROR: Final = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"
HALF: Final = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
NONSENSE: Final = "what?\r\n\r\n"
HANG_UP: Final = ""
SLOW: Final = "SLOW"
"""No answer at all, for as long as the client waits."""


@dataclass(frozen=True)
class Call:
    """A request that arrived as a whole."""

    line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """``answer`` gets each call and returns one of the texts above."""

    answer: Callable[[Call], str] = lambda _call: OK
    keep: Callable[[Call], None] = lambda _call: None
    """Called before the answer to what was taken."""
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    taken: list[Call] = field(default_factory=list)
    most_at_once: int = 0
    connections: int = 0
    _at_once: int = 0
    _slow: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self, account: str = "") -> list[str]:
        """The ids of what was taken, in order, without repeats."""
        events = [call.event for call in self.taken]
        return list(
            dict.fromkeys(e["id"] for e in events if not account or e["account"] == account)
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        with suppress(OSError):
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        line, *rest = head.strip().split("\r\n")
        headers = {k.lower(): v for k, v in (item.split(": ", 1) for item in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        call = Call(line, headers, body, time.time())
        self.calls.append(call)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0.002)
            answer = self.answer(call)
            if answer == SLOW:
                # A slow receiver has taken it, but the sender cannot know.
                self._keep(call)
                self._slow.append(writer)
                await reader.read(1)
                return False
            if answer in {OK, HALF}:
                self._keep(call)
        finally:
            self._at_once -= 1
        writer.write(answer.encode())
        await writer.drain()
        return answer == OK

    def _keep(self, call: Call) -> None:
        self.taken.append(call)
        self.keep(call)

    async def until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something to have arrived."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, [call.event["id"] for call in self.calls[-20:]]
            await asyncio.sleep(0.02)


@asynccontextmanager
async def receiver(
    answer: Callable[[Call], str] = lambda _call: OK,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Receiver]:
    """Run a receiver in this event loop."""
    found = Receiver(answer)
    server = await asyncio.start_server(found.serve, host, port, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        for writer in found._slow:
            writer.close()
        server.close()


class ReceiverProcess:
    """The receiver as a process, which can be killed and started again on the same port."""

    def __init__(self, port: int, directory: Path, *, seed: int, failures: float = 0.3) -> None:
        self.port = port
        self._arguments = [str(port), str(directory / "received"), str(failures)]
        self._file = directory / "received"
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def start(self) -> None:
        self._seed += 1
        command = [sys.executable, "-m", __name__, *self._arguments, str(self._seed)]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def received(self) -> list[dict[str, Any]]:
        """What was kept, in order; a line that a kill has cut was not acknowledged."""
        if not self._file.exists():
            return []
        lines = self._file.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if _is_json(line)]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


async def _main(port: int, path: str, failures: float, seed: int) -> None:
    chosen = random.Random(seed)
    counted = Counter[str]()
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(file, b"\n")  # a line that was cut stays alone

    def answer(_call: Call) -> str:
        wrong = chosen.random() < failures
        found = chosen.choice([ERROR, HANG_UP, HALF, SLOW, REDIRECT, NONSENSE]) if wrong else OK
        counted[found] += 1
        return found

    def keep(call: Call) -> None:
        os.write(file, call.body + b"\n")

    found = Receiver(answer, keep)
    server = await asyncio.start_server(found.serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
