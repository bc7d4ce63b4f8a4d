"""Parsers of values of settings: env files, lists, and URLs of databases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator
from pydantic_settings import DotEnvSettingsSource, NoDecode
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from iredapi.config import env_names, url_hosts, url_options


class EnvFile(DotEnvSettingsSource):
    """Settings source of the env file. As in systemd, ``${NAME}`` in a value is not expanded."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        return {line.name.lower(): line.value for line in env_names.read(file_path)}


def split(value: Any) -> Any:
    """Split a list that is written with commas, or decode it when it is a JSON array.

    Values that are not text are returned unchanged. Raises ValueError for JSON that is not valid.
    """
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


CommaList = Annotated[list[str], NoDecode, BeforeValidator(split)]
"""A setting that is a list: ``a,b`` or ``["a", "b"]`` in the environment."""

SPECIAL: Final = ", ".join(f"{char} is %{ord(char):02X}" for char in "@:/?#%[]")
"""How special characters of a user name or password are written in a URL."""

_EXAMPLE: Final = "postgresql://user:password@host/name"
_SQLITE: Final = "sqlite:///path, with one more / before an absolute path, names a SQLite file"


def async_url(url: str) -> str:
    """Complete a database URL with the asynchronous driver of its kind.

    Raises ValueError when it is not a URL of PostgreSQL, MariaDB/MySQL or SQLite that names a
    database. The message never quotes the URL: when the password holds a special character, a part
    of it is parsed as the host.
    """
    if not url:
        return url
    sqlite = url.lower().startswith("sqlite")
    if not sqlite and url.count("@") > 1:
        raise ValueError(
            f"a database URL has one @, before the host: in a user name or password {SPECIAL}"
        )
    if not sqlite:
        _check_query(url.partition("?")[2])
        url = url_hosts.moved_behind(url)
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except ArgumentError:
        raise ValueError(f"not a database URL such as {_EXAMPLE} ({SPECIAL})") from None
    except ValueError:
        raise ValueError(
            f"not a database URL such as {_EXAMPLE}: the port is not a number ({SPECIAL} in a "
            "user name or password)"
        ) from None
    drivers = {
        "postgresql": "postgresql+asyncpg",
        "mysql": "mysql+aiomysql",
        "mariadb": "mysql+aiomysql",
        "sqlite": "sqlite+aiosqlite",
    }
    if kind not in drivers:
        raise ValueError(f"{kind}: only postgresql, mysql (MariaDB) and sqlite are supported")
    _check(parsed, kind)
    parsed = url_hosts.normalised(parsed.set(drivername=drivers[kind]))
    if kind in {"mysql", "mariadb"} and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed.render_as_string(hide_password=False)


def _check_query(text: str) -> None:
    """Refuse options without a value: SQLAlchemy drops them. Raises ValueError."""
    if "@" in text:
        raise ValueError(f"an @ stands after the ?: in a user name, password or option {SPECIAL}")
    for item in text.split("&") if text else ():
        name, _, value = item.partition("=")
        if not value:
            raise ValueError(f"{name}: it has no value")


def _check(url: URL, kind: str) -> None:
    """Refuse URLs that could only fail later, or that mean something else. Raises ValueError."""
    if kind == "sqlite":
        if url.host or not url.database or url.database == ":memory:":
            raise ValueError(f"{_SQLITE}; a database in memory is not supported")
        url_options.check(url)
        return
    if not url.database:
        raise ValueError("the name of the database is missing at the end of the URL")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("the port is not one of 1 to 65535")
    url_options.check(url)
