"""A TCP proxy that closes connections as a load balancer does after its time-outs.

It can also speak TLS, and lose the answers to some requests of HTTP.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Forwarder:
    """Passes bytes between its port and another one of 127.0.0.1, in a thread of its own."""

    def __init__(
        self,
        target: int,
        *,
        tls: ssl.SSLContext | None = None,
        loses: Callable[[bytes], bool] | None = None,
    ) -> None:
        """``loses``: by the first bytes of a connection, whether its first answer is lost."""
        self._target = target
        self._tls = tls
        self._loses = loses
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.opened = 0
        """How many connections were made so far."""
        self.port: int = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self.opened += 1
        self._writers += [writer, back]
        if self._loses is not None:
            first = await reader.read(65536)
            back.write(first)
            if self._loses(first):
                rest = asyncio.create_task(_copy(reader, back))
                await there.read(1)
                writer.close()
                await rest
                return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    def close_all(self) -> int:
        """Close all connections, on both sides; returns how many there were."""
        return asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(10)

    async def _close_all(self) -> int:
        open_ = [writer for writer in self._writers if not writer.is_closing()]
        self._writers.clear()
        for writer in open_:
            writer.close()
        return len(open_) // 2

    async def _stop(self) -> None:
        self._server.close()
        await self._close_all()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Close everything and end the thread."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@contextmanager
def forwarding(
    target: int,
    *,
    tls: ssl.SSLContext | None = None,
    loses: Callable[[bytes], bool] | None = None,
) -> Iterator[Forwarder]:
    """Run a proxy in front of a port."""
    forwarder = Forwarder(target, tls=tls, loses=loses)
    try:
        yield forwarder
    finally:
        forwarder.stop()
