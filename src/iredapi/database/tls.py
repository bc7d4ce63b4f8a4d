"""TLS of the drivers: SQLAlchemy's arguments for what ``config/tls_options`` reads from a URL.

asyncpg knows the words of ``sslmode`` itself. aiomysql knows only a context, and goes on without
TLS when the server offers none, so whoever is between could switch it off: ``mysql_tls`` refuses
that before the login is sent.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import URL

from iredapi.config.tls_options import Mode, TlsOptions, of_url, without_tls

NO_TLS: Final = 2026
"""The error of MySQL's client library for TLS that fails (CR_SSL_CONNECTION_ERROR)."""


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
    from iredapi.database.mysql_tls import connecting

    connect = connecting(optional=options.mode < Mode.REQUIRE)
    return {"ssl": options.context(), "async_creator_fn": connect}
