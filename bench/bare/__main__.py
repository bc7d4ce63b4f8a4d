"""Serve on a free port, with the server that the service has: uvicorn, uvloop, httptools."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import uvicorn

from bench.bare.app import Bare
from bench.bare.drivers import DRIVERS


def _directory() -> Any:
    from bench.bare.directory import Directory

    names = ("URI", "BASE", "DN", "PASSWORD")
    return Directory({name: os.environ[f"BARE_{name}"] for name in names})


def _databases() -> Any:
    kind = os.environ["BARE_KIND"]
    driver = DRIVERS[kind]
    names = ("vmail", "amavisd", "state")
    return Bare(kind, {name: driver(os.environ[f"BARE_{name.upper()}"]) for name in names})


async def _serve(listener: socket.socket) -> None:
    app = _directory() if os.environ["BARE_KIND"] == "openldap" else _databases()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """Print the address and serve."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"bare limit on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_serve(listener))


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    main()
