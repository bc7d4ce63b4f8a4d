"""TLS of the drivers: SQLAlchemy's arguments for what ``config/tls_options`` reads from a URL.

asyncpg knows the words of ``sslmode`` itself. aiomysql knows only a context, and goes on without
TLS when the server offers none, so whoever is between could switch it off: that is refused here
before the login is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiomysql import Connection
from pymysql.constants.CLIENT import SSL
from pymysql.err import OperationalError
from sqlalchemy.engine import URL

from iredapi.config.tls_options import Mode, TlsOptions, of_url, without_tls

NO_TLS: Final = 2026
"""The error of MySQL's client library for TLS that fails (CR_SSL_CONNECTION_ERROR)."""


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


def _connecting(kind: type[_TlsConnection]) -> Callable[..., Awaitable[Connection]]:
    async def connect(*arguments: Any, **options: Any) -> Connection:
        connection = kind(*arguments, **options)
        await connection._connect()
        return connection

    return connect


def arguments(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return a URL without its TLS options, and the arguments that they are for the driver.

    Raises ValueError for a mistake in them.
    """
    options = of_url(url)
    if options is None:
        return url, {}
    build = _for_asyncpg if url.get_backend_name() == "postgresql" else _for_aiomysql
    return without_tls(url), build(options)


def _for_asyncpg(options: TlsOptions) -> dict[str, Any]:
    if options.has_files:
        return {"ssl": options.context()}
    # The driver looks for PGSSLROOTCERT and ~/.postgresql, as libpq does.
    return {"ssl": options.mode.name.lower().replace("_", "-")}


def _for_aiomysql(options: TlsOptions) -> dict[str, Any]:
    if options.mode is Mode.DISABLE:
        return {}
    kind = _Optional if options.mode < Mode.REQUIRE else _TlsConnection
    return {"ssl": options.context(), "async_creator_fn": _connecting(kind)}
