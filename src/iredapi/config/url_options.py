"""What may stand after the ``?`` of a database URL, beside hosts and TLS.

What is not known here is refused at the start, by its name: a driver would refuse it at the first
request, or do something else with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.engine import URL

from iredapi.config import tls_options, url_hosts

_POSTGRESQL: Final = (
    "host", "port", url_hosts.ATTRIBUTES, "connect_timeout", "application_name", "passfile",
    "statement_cache_size", "prepared_statement_cache_size",
)  # fmt: skip
_MYSQL: Final = (
    "host", "port", "connect_timeout", "unix_socket", "charset", "sql_mode", "program_name",
    "read_default_file", "read_default_group",
)  # fmt: skip
_SQLITE: Final = ("timeout", "cached_statements", "uri", "mode", "cache", "immutable", "nolock")
_REPEATED: Final = frozenset({"host", "port"})
_NUMBERS: Final = ("connect_timeout", "statement_cache_size", "prepared_statement_cache_size")


def check(url: URL) -> None:
    """Refuse what no driver knows, and values that are no good. Raises ValueError."""
    kind = url.get_backend_name()
    known = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}.get(kind, _MYSQL)
    for name, value in url.query.items():
        if kind != "sqlite" and tls_options.is_tls(name):
            continue  # ``tls_options`` checks these
        if name not in known:
            raise ValueError(f"{name}: no such option after the ?; there are {', '.join(known)}")
        if not isinstance(value, str) and name not in _REPEATED:
            raise ValueError(f"{name}: it stands after the ? twice")
        if not value:
            raise ValueError(f"{name}: it has no value")
        if name in _NUMBERS and not (str(value).isascii() and str(value).isdigit()):
            raise ValueError(f"{name}: a number")
        if name == "connect_timeout" and int(str(value)) == 0:
            raise ValueError(f"{name}: a number of seconds above 0")
    if kind != "sqlite":
        url_hosts.of_url(url)
        if (options := tls_options.of_url(url)) is not None:
            options.context()  # the files can be read


def arguments(url: URL) -> tuple[URL, Mapping[str, Any]]:
    """Return a URL without the options below, and the arguments that they are for the driver."""
    postgresql = url.get_backend_name() == "postgresql"
    found: dict[str, Any] = {}
    query = dict(url.query)
    if seconds := query.pop("connect_timeout", ""):
        found["timeout" if postgresql else "connect_timeout"] = float(str(seconds))
    if postgresql:
        if name := query.pop("application_name", ""):
            found["server_settings"] = {"application_name": name}
        if size := query.pop("statement_cache_size", ""):
            found["statement_cache_size"] = int(str(size))
            # SQLAlchemy has a cache of its own.
            query.setdefault("prepared_statement_cache_size", size)
            if int(str(size)) == 0:
                # No names: behind PgBouncer two clients would give the same one to a connection.
                found["prepared_statement_name_func"] = str
    return url.set(query=query), found
