"""Connecting to the first of several servers that takes writes.

They are tried in the order of the URL, so that all processes use the same one. A server that did
not answer, or took no writes, is tried after the others for some seconds: a host that is switched
off answers nothing, and each new connection would wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from sqlalchemy.engine import URL, make_url

from iredapi.config import url_hosts, url_options
from iredapi.config.url_hosts import Hosts, Place
from iredapi.database import tls
from iredapi.database.errors import NoWritableServer, is_wrong_server

AVOID: Final = 5.0
"""Seconds for which a server that would not do is tried last."""
_LEAST: Final = 1.0
"""Seconds that each server has at least to answer."""
Connect = Callable[..., Awaitable[Any]]


class SeveralHosts:
    """Opens connections of a driver to one of several servers. Remembers which would not do."""

    def __init__(self, hosts: Hosts, connect: Connect, *, postgresql: bool) -> None:
        self._hosts = hosts
        self._connect = connect
        self._postgresql = postgresql
        self._errors = _errors(postgresql=postgresql)
        self._avoided: dict[Place, float] = {}

    async def connect(self, **options: Any) -> Any:
        """Return a connection of the driver.

        Raises NoWritableServer when servers answer, but none will do, or else the error of the
        last one.
        """
        name = "timeout" if self._postgresql else "connect_timeout"
        patience = float(options.pop(name, None) or 60)
        each = max(patience / len(self._hosts.places), min(_LEAST, patience))
        failure: Exception | None = None
        for place in self._in_order():
            try:
                async with asyncio.timeout(each):
                    found = await self._one(place, {**options, name: each})
            except self._errors as error:
                self._avoided[place] = time.monotonic()
                if not isinstance(failure, NoWritableServer):
                    failure = error
                continue
            self._avoided.pop(place, None)
            return found
        assert failure is not None  # noqa: S101 (there is at least one host)
        raise failure

    def _in_order(self) -> list[Place]:
        now = time.monotonic()
        return sorted(
            self._hosts.places,
            key=lambda place: now - self._avoided.get(place, -AVOID) < AVOID,
        )

    async def _one(self, place: Place, options: dict[str, Any]) -> Any:
        host, port = place
        options |= {"host": host, "port": port}
        if not self._postgresql:
            connection = await self._connect(**options)
            if self._hosts.wanted != "any":
                await _check(connection)
            return connection
        import asyncpg

        try:
            return await self._connect(**options, target_session_attrs=self._hosts.wanted)
        except asyncpg.TargetServerAttributeNotMatched as error:
            raise NoWritableServer(f"{host}:{port} takes no writes") from error


def _connect_of(*, postgresql: bool) -> Connect:
    if postgresql:
        import asyncpg

        found: Connect = asyncpg.connect
    else:
        import aiomysql

        found = aiomysql.connect
    return found


def _errors(*, postgresql: bool) -> tuple[type[Exception], ...]:
    """Return what a driver raises when it cannot connect."""
    if postgresql:
        import asyncpg

        return OSError, asyncpg.PostgresError, asyncpg.InterfaceError
    from pymysql.err import MySQLError

    return OSError, MySQLError


async def _check(connection: Any) -> None:
    """Close a connection to a server that takes no writes, and raise NoWritableServer."""
    from pymysql.err import MySQLError

    try:
        async with connection.cursor() as cursor:
            await cursor.execute("START TRANSACTION READ WRITE")
            await cursor.execute("SELECT @@innodb_read_only")
            ((reads_only,),) = await cursor.fetchall()
            await cursor.execute("ROLLBACK")
        if reads_only:
            raise NoWritableServer("the server takes no writes")
    except BaseException as error:
        with suppress(Exception):
            connection.close()
        if isinstance(error, MySQLError) and is_wrong_server(error):
            raise NoWritableServer("the server takes no writes") from error
        raise


def connect_arguments(url: str | URL) -> tuple[URL, dict[str, Any]]:
    """Return a URL without what SQLAlchemy does not know, and the arguments that it is instead.

    Raises ValueError for a mistake in it.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed, {}
    parsed, found = tls.arguments(parsed)
    parsed, others = url_options.arguments(parsed)
    found |= others
    hosts = url_hosts.of_url(parsed)
    if hosts is None:
        return parsed, found
    postgresql = parsed.get_backend_name() == "postgresql"
    connect = found.pop("async_creator_fn", None) or _connect_of(postgresql=postgresql)
    found["async_creator_fn"] = SeveralHosts(hosts, connect, postgresql=postgresql).connect
    bare = parsed.set(host=None, port=None)
    return bare.difference_update_query(["host", "port", url_hosts.ATTRIBUTES]), found
