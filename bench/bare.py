"""The bare limit: an ASGI function with aiosqlite and orjson. No framework, no checks, no rules."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any

import aiosqlite
import orjson
import uvicorn

_connection: list[aiosqlite.Connection] = []


async def _open() -> aiosqlite.Connection:
    if not _connection:
        connection = await aiosqlite.connect(sys.argv[1], isolation_level=None)
        connection.row_factory = aiosqlite.Row
        _connection.append(connection)
    return _connection[0]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer three journeys."""
    if scope["type"] != "http":
        return
    database = await _open()
    _, kind, name = scope["path"].split("/")
    data: Any
    if scope["method"] == "PUT":
        await database.execute(
            "UPDATE mailbox SET name = ? WHERE username = ?", (f"N {time.time_ns()}", name)
        )
        data = None
    elif kind == "users":
        rows = await database.execute_fetchall(
            "SELECT username FROM mailbox WHERE domain = ? ORDER BY username", (name,)
        )
        data = [row[0] for row in rows]
    else:
        row = await (
            await database.execute("SELECT * FROM mailbox WHERE username = ?", (name,))
        ).fetchone()
        forwardings = await database.execute_fetchall(
            "SELECT forwarding FROM forwardings WHERE address = ?", (name,)
        )
        quota = await database.execute_fetchall(
            "SELECT bytes, messages FROM used_quota WHERE username = ?", (name,)
        )
        data = dict(row or {}) | {
            "forwardings": [item[0] for item in forwardings],
            "quota_used": [tuple(item) for item in quota],
        }
    body = orjson.dumps({"_success": True, "_data": data})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"bare limit on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
