"""Typed access to the values of iRedAdmin's ``settings.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL

from iredapi.config.errors import ConfigurationError
from iredapi.config.iredadmin_settings import IredadminSettings

DRIVERS: Final = {"mysql": ("mysql", 3306), "pgsql": ("postgresql", 5432)}
LOGINS: Final = {
    "vmail": "vmailadmin",
    "amavisd": "amavisd",
    "iredapd": "iredapd",
    "iredadmin": "iredadmin",
}


@dataclass
class SettingsReader:
    """Converts values of iRedAdmin's settings to types. Absent and empty ones get the default.

    The methods raise ConfigurationError for a value of another type.
    """

    found: IredadminSettings
    warnings: list[str] = field(default_factory=list)

    @property
    def values(self) -> Mapping[str, Any]:
        return self.found.values

    def wrong(self, name: str, expected: str) -> ConfigurationError:
        """Return an error that names the setting, but not its value, which may be a password."""
        return ConfigurationError(f"{self.found.path}: `{name}` is not {expected}")

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def number(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.wrong(name, "a number")
        try:
            number = int(value)
        except ValueError:
            raise self.wrong(name, "a number") from None
        if number < 0:
            raise self.wrong(name, "a number from 0 upwards")
        return number

    def switch(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, str):
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if value.lower() not in words:
                raise self.wrong(name, "True or False")
            return words[value.lower()]
        return bool(value)

    def items(self, name: str) -> list[str]:
        value = self.values.get(name)
        if value is None or value == "":
            return []
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list | tuple | set) or not all(
            isinstance(item, str) for item in value
        ):
            raise self.wrong(name, "a list of texts")
        items = [item.strip() for item in value if item.strip()]
        return sorted(items) if isinstance(value, set) else items

    def url(self, name: str, backend: str) -> str:
        driver, default_port = DRIVERS[backend]
        port = self.number(f"{name}_db_port") or default_port
        if port > 65535:
            raise self.wrong(f"{name}_db_port", "a TCP port")
        host = self.text(f"{name}_db_host", "127.0.0.1")
        query: dict[str, str] = {}
        if host.startswith("/"):
            query = {"host" if backend == "pgsql" else "unix_socket": host}
        return URL.create(
            driver,
            username=self.text(f"{name}_db_user", LOGINS[name]),
            password=self.text(f"{name}_db_password"),
            host=None if query else host,
            port=None if query else port,
            database=self.text(f"{name}_db_name", name),
            query=query,
        ).render_as_string(hide_password=False)


def networks_of_client(path: Path, client: str) -> list[str]:
    """Return the networks of one item of ``RESTFUL_API_CLIENTS``.

    It is an address, a network, or an older notation of iRedAdmin: ``a.b.c``, ``a.b.c.x-y``. Raises
    ConfigurationError.
    """
    try:
        return [str(ip_network(client))]
    except ValueError:
        pass
    try:
        parts = client.split(".")
        if 1 <= len(parts) <= 3 and client.isascii() and all(part.isdigit() for part in parts):
            padded = ".".join(parts + ["0"] * (4 - len(parts)))
            return [str(ip_network(f"{padded}/{8 * len(parts)}"))]
        first, dash, last = client.partition("-")
        if dash:  # a.b.c.x-y
            end = f"{first.rpartition('.')[0]}.{last}"
            between = summarize_address_range(ip_address(first), ip_address(end))
            return [str(network) for network in between]
    except (ValueError, TypeError):
        pass
    raise ConfigurationError(
        f"{path}: `RESTFUL_API_CLIENTS` holds {client!r}, which is neither an address nor a network"
    )
