"""How settings are written: env files, lists, and the URLs of databases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import DotEnvSettingsSource
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


class EnvFile(DotEnvSettingsSource):
    """The env file as systemd reads it: ``${NAME}`` in a value is text, nothing is expanded."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        values = dotenv_values(file_path, interpolate=False, encoding="utf-8")
        return {name.lower(): value for name, value in values.items()}


def split(value: Any) -> Any:
    """Lists are written with commas (or as JSON) in the environment."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def async_url(url: str) -> str:
    """Complete a database URL with the asynchronous driver of its kind.

    Raises ValueError when it is not a URL of PostgreSQL, MariaDB/MySQL or SQLite.
    """
    if not url:
        return url
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError(
            "not a database URL such as postgresql://user:password@host/name"
        ) from None
    drivers = {
        "postgresql": "postgresql+asyncpg",
        "mysql": "mysql+aiomysql",
        "mariadb": "mysql+aiomysql",
        "sqlite": "sqlite+aiosqlite",
    }
    if kind not in drivers:
        raise ValueError(f"{kind}: only postgresql, mysql (MariaDB) and sqlite are supported")
    parsed = parsed.set(drivername=drivers[kind])
    if kind in {"mysql", "mariadb"} and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed.render_as_string(hide_password=False)
