"""Connections of aiomysql that do not go on without TLS unless that is optional."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiomysql import Connection
from pymysql.constants.CLIENT import SSL
from pymysql.err import OperationalError

from iredapi.database.tls import NO_TLS


class _TlsConnection(Connection):  # type: ignore[misc]  # aiomysql has no types
    """A connection of aiomysql that is without TLS only if that is ``optional``."""

    optional = False

    async def _request_authentication(self) -> None:
        if not self.server_capabilities & SSL:
            if not self.optional:
                raise OperationalError(NO_TLS, "the server offers no TLS")
            self.client_flag &= ~SSL  # MySQL refuses a client that announces it all the same
        await super()._request_authentication()


class _Optional(_TlsConnection):
    optional = True


def connecting(*, optional: bool) -> Callable[..., Awaitable[Connection]]:
    """Return what connects with TLS, or also without it where that is ``optional``."""
    kind = _Optional if optional else _TlsConnection

    async def connect(*arguments: Any, **options: Any) -> Connection:
        connection = kind(*arguments, **options)
        await connection._connect()
        return connection

    return connect
