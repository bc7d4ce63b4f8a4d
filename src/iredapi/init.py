"""Make our env file from the ``settings.py`` of an iRedAdmin that is already there.

``read_iredadmin`` reads the file (as data: it is never executed), ``configuration`` maps what it
found to ``IREDAPI_*`` values; ``env_file`` writes them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import URL

from iredapi.domain.passwords import Scheme
from iredapi.settings import ConfigurationError

USUAL_PLACES: Final = (
    Path("/opt/www/iredadmin/settings.py"),
    Path("/var/www/iredadmin/settings.py"),
    Path("/usr/share/apache2/iredadmin/settings.py"),
    Path("/usr/local/www/iredadmin/settings.py"),
)
"""Where iRedMail's installer puts iRedAdmin on the systems that it knows."""

DATA_DIR: Final = "/var/lib/iredapi"

_DRIVERS: Final = {"mysql": ("mysql", 3306), "pgsql": ("postgresql", 5432)}
_LOGINS: Final = {
    "vmail": "vmailadmin",
    "amavisd": "amavisd",
    "iredapd": "iredapd",
    "iredadmin": "iredadmin",
}
_MLMMJADMIN_URL: Final = "http://127.0.0.1:7790/api"

# iRedAdmin's name → ours, where the value is taken over as it is.
_TEXTS: Final = {
    "storage_base_directory": "STORAGE_BASE_DIRECTORY",
    "default_mta_transport": "DEFAULT_TRANSPORT",
    "mailbox_format": "MAILBOX_FORMAT",
    "mailbox_folder": "MAILBOX_FOLDER",
    "SQL_TBL_USED_QUOTA": "USED_QUOTA_TABLE",
    "MLMMJ_MTA_TRANSPORT_NAME": "MLMMJ_TRANSPORT",
}
_NUMBERS: Final = {
    "min_passwd_length": "MIN_PASSWORD_LENGTH",
    "max_passwd_length": "MAX_PASSWORD_LENGTH",
}
_SWITCHES: Final = {
    "PASSWORD_HAS_LETTER": "PASSWORD_HAS_LETTER",
    "PASSWORD_HAS_UPPERCASE": "PASSWORD_HAS_UPPERCASE",
    "PASSWORD_HAS_NUMBER": "PASSWORD_HAS_NUMBER",
    "PASSWORD_HAS_SPECIAL_CHAR": "PASSWORD_HAS_SPECIAL_CHAR",
    "SET_PASSWORD_CHANGE_DATE_FOR_NEW_USER": "SET_PASSWORD_CHANGE_DATE",
    "MAILDIR_HASHED": "MAILDIR_HASHED",
    "MAILDIR_PREPEND_DOMAIN": "MAILDIR_PREPEND_DOMAIN",
    "MAILDIR_DOMAIN_HASHED": "MAILDIR_DOMAIN_HASHED",
    "MAILDIR_APPEND_TIMESTAMP": "MAILDIR_APPEND_TIMESTAMP",
    "USER_ALIAS_CROSS_ALL_DOMAINS": "USER_ALIAS_CROSS_ALL_DOMAINS",
    "REQUIRE_DOMAIN_OWNERSHIP_VERIFICATION": "REQUIRE_DOMAIN_OWNERSHIP",
}
# An empty list says something here: it shows the password hashes.
_LISTS: Final = {
    "API_HIDDEN_USER_PROFILES": "HIDDEN_USER_FIELDS",
    "API_HIDDEN_ADMIN_PROFILES": "HIDDEN_ADMIN_FIELDS",
    "ADDITIONAL_DISABLED_USER_SERVICES": "DISABLED_USER_SERVICES",
    "ADDITIONAL_ENABLED_USER_SERVICES": "ENABLED_USER_SERVICES",
}
_LDAP_NEEDED: Final = ("ldap_basedn", "ldap_bind_dn", "ldap_bind_password")
_KNOWN: Final = frozenset(
    {"backend", "RESTFUL_API_CLIENTS", "DEFAULT_PASSWORD_SCHEME", "iredapd_enabled"}
    | {"amavisd_enable_logging", "amavisd_enable_quarantine", "amavisd_enable_policy_lookup"}
    | {"mlmmjadmin_api_auth_token", "MLMMJADMIN_API_BASE_URL", "MLMMJADMIN_API_VERIFY_SSL"}
    | {"ldap_uri", "ldap_domainadmin_dn", "LDAP_ADD_MEMBER_DN_TO_GROUP", *_LDAP_NEEDED}
    | {
        f"{name}_db_{part}"
        for name in _LOGINS
        for part in ("host", "port", "name", "user", "password")
    }
    | _TEXTS.keys()
    | _NUMBERS.keys()
    | _SWITCHES.keys()
    | _LISTS.keys()
)


@dataclass(frozen=True)
class IredadminSettings:
    """The literals of one ``settings.py``; the last assignment of a name has won."""

    path: Path
    values: Mapping[str, Any]
    not_literal: Mapping[str, int] = field(default_factory=dict)
    """Names of ours that are (also) assigned something else than a literal: name → line."""


class Configuration(NamedTuple):
    """``IREDAPI_*`` values, and sentences about what could not be taken over."""

    values: dict[str, str]
    warnings: list[str]


# Reading ---------------------------------------------------------------------------------------


def read_iredadmin(path: Path | str) -> IredadminSettings:
    """Read the assignments of literals in iRedAdmin's ``settings.py``.

    Raises ConfigurationError when the file cannot be read or is not Python.
    """
    path = Path(path)
    try:
        source = path.read_bytes()
    except PermissionError:
        raise ConfigurationError(
            f"{path}: no permission to read it (only root and iRedAdmin may: run this as root)"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from None
    try:
        with warnings.catch_warnings():
            # An odd escape such as "\d" in a password is none of our business, and the warning
            # would show the line.
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        # Never the text of the line: it may hold a password.
        raise ConfigurationError(
            f"{path}: not a Python file (line {error.lineno or 1} cannot be read), so not "
            "iRedAdmin's settings"
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise ConfigurationError(
            f"{path}: not a Python file, so not iRedAdmin's settings"
        ) from None
    values: dict[str, Any] = {}
    not_literal: dict[str, int] = {}
    for name, value, line in _assignments(tree):
        try:
            if value is None:
                raise ValueError
            values[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            if name in _KNOWN:
                not_literal[name] = line
        else:
            not_literal.pop(name, None)
    return IredadminSettings(path, MappingProxyType(values), MappingProxyType(not_literal))


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None, int]]:
    """Each top-level assignment: its name, its value (None: ``+=`` and the like), its line."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, value, statement.lineno
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value, statement.lineno
            case ast.AugAssign(target=ast.Name(id=name)):
                yield name, None, statement.lineno
            case _:
                pass


# Mapping ---------------------------------------------------------------------------------------


def configuration(found: IredadminSettings) -> Configuration:
    """Map iRedAdmin's settings to ours.

    Raises ConfigurationError, naming the setting, when the file is not one of iRedAdmin's on
    MySQL/MariaDB, PostgreSQL or OpenLDAP or holds a value that cannot be meant.
    """
    reader = _Reader(found)
    backend = reader.text("backend").lower()
    needed = _LDAP_NEEDED if backend == "ldap" else ("vmail_db_password",)
    missing = [name for name in ("backend", *needed) if found.values.get(name) in (None, "")]
    if missing:
        raise ConfigurationError(
            f"{found.path}: not a complete settings file of iRedAdmin: "
            + " and ".join(f"`{name}`" for name in missing)
            + (" is missing or empty" if len(missing) == 1 else " are missing or empty")
        )
    if backend not in _DRIVERS and backend != "ldap":
        raise ConfigurationError(
            f"{found.path}: `backend` is {backend!r}; 'mysql', 'pgsql' or 'ldap' is expected"
        )
    if "RESTFUL_API_CLIENTS" in found.not_literal:
        # Skipping it would open the API to addresses that the administrator keeps out.
        raise ConfigurationError(
            f"{found.path}: `RESTFUL_API_CLIENTS` in line "
            f"{found.not_literal['RESTFUL_API_CLIENTS']} is not a plain list; write it as one"
        )
    values = {"IREDAPI_DATA_DIR": DATA_DIR}
    if backend == "ldap":
        values |= _directory(reader)
        backend = "mysql"  # what a server with OpenLDAP has beside it
    else:
        values["IREDAPI_BACKEND"] = "sql"
        values["IREDAPI_VMAIL_URL"] = reader.url("vmail", backend)
    for name in _satellites(reader):
        values[f"IREDAPI_{name.upper()}_URL"] = reader.url(name, backend)
    values |= _mail_server(reader)
    if clients := reader.items("RESTFUL_API_CLIENTS"):
        values["IREDAPI_ALLOWED_NETWORKS"] = ",".join(
            network for client in clients for network in _networks(found.path, client)
        )
    if token := reader.text("mlmmjadmin_api_auth_token"):
        values["IREDAPI_MLMMJADMIN_URL"] = reader.text("MLMMJADMIN_API_BASE_URL", _MLMMJADMIN_URL)
        values["IREDAPI_MLMMJADMIN_TOKEN"] = token
        if not reader.switch("MLMMJADMIN_API_VERIFY_SSL", default=True):
            values["IREDAPI_MLMMJADMIN_VERIFY_TLS"] = "false"
    for name, line in found.not_literal.items():
        reader.warnings.append(f"`{name}` in line {line} is not a plain value and was left out")
    return Configuration(values, reader.warnings)


def _directory(reader: _Reader) -> dict[str, str]:
    """Where the accounts are in OpenLDAP, and the login that writes there."""
    uri = reader.text("ldap_uri", "ldap://127.0.0.1:389").rstrip("/").lower()
    found = re.fullmatch(r"(ldaps?)://(\[[0-9a-f:.]+\]|[^/:\s]+)(:[0-9]+)?", uri)
    if found is None:
        raise reader.wrong("ldap_uri", "ldap://host or ldaps://host, with an optional :port")
    values = {
        "IREDAPI_BACKEND": "ldap",
        "IREDAPI_LDAP_URI": uri,
        "IREDAPI_LDAP_BASE_DN": reader.text("ldap_basedn"),
        "IREDAPI_LDAP_BIND_DN": reader.text("ldap_bind_dn"),
        "IREDAPI_LDAP_BIND_PASSWORD": reader.text("ldap_bind_password"),
    }
    if found[1] == "ldaps":
        values["IREDAPI_LDAP_URI"] = f"ldap://{found[2]}:389"
        values["IREDAPI_LDAP_STARTTLS"] = "true"
        values["IREDAPI_LDAP_VERIFY"] = "false"
        reader.warnings.append(
            "`ldap_uri` begins with ldaps://, which iRedAdmin takes for StartTLS on port 389 "
            "without looking at the certificate: the same is written. Set IREDAPI_LDAP_CA_FILE "
            "and remove IREDAPI_LDAP_VERIFY to have it verified"
        )
    if admins := reader.text("ldap_domainadmin_dn"):
        values["IREDAPI_LDAP_ADMIN_BASE_DN"] = admins
    if not reader.switch("LDAP_ADD_MEMBER_DN_TO_GROUP", default=True):
        values["IREDAPI_LDAP_MEMBER_DNS"] = "false"
    return values


def _satellites(reader: _Reader) -> list[str]:
    """The databases beside the accounts that this server uses and whose password is known."""
    unused = set()
    if not reader.switch("iredapd_enabled", default=True):
        unused.add("iredapd")  # its settings may be placeholders
    if not any(
        reader.switch(f"amavisd_enable_{what}", default=True)
        for what in ("logging", "quarantine", "policy_lookup")
    ):
        unused.add("amavisd")
    names = []
    for name in ("amavisd", "iredapd", "iredadmin"):
        if name in unused:
            continue
        if reader.text(f"{name}_db_password"):
            names.append(name)
        else:
            reader.warnings.append(
                f"`{name}_db_password` is missing or empty: the database {name} is not used"
            )
    return names


def _mail_server(reader: _Reader) -> dict[str, str]:
    """Passwords, profiles and mailboxes: what has a default and is written when it is set."""
    values: dict[str, str] = {}
    for name, ours in _TEXTS.items():
        if text := reader.text(name):
            values[f"IREDAPI_{ours}"] = text
    if directory := values.get("IREDAPI_STORAGE_BASE_DIRECTORY"):
        values["IREDAPI_STORAGE_BASE_DIRECTORY"] = directory.rstrip("/") or "/"
    for name, ours in _NUMBERS.items():
        number = reader.number(name)
        if number is not None:
            values[f"IREDAPI_{ours}"] = str(number)
    for name, ours in _SWITCHES.items():
        # The panel's settings table spells some of these in lower case.
        for spelling in (name, name.lower()):
            if reader.values.get(spelling) not in (None, ""):
                values[f"IREDAPI_{ours}"] = str(reader.switch(spelling, default=True)).lower()
                break
    for name, ours in _LISTS.items():
        if reader.values.get(name) not in (None, ""):
            values[f"IREDAPI_{ours}"] = ",".join(reader.items(name))
    if scheme := reader.text("DEFAULT_PASSWORD_SCHEME").upper():
        if scheme in set(Scheme):
            values["IREDAPI_PASSWORD_SCHEME"] = scheme
        else:
            reader.warnings.append(
                f"`DEFAULT_PASSWORD_SCHEME` is {scheme!r}, which is not one of "
                f"{', '.join(Scheme)}: new passwords get the default scheme"
            )
    return values


@dataclass
class _Reader:
    """Typed looks at the values; what is absent or empty gets the default."""

    found: IredadminSettings
    warnings: list[str] = field(default_factory=list)

    @property
    def values(self) -> Mapping[str, Any]:
        return self.found.values

    def wrong(self, name: str, expected: str) -> ConfigurationError:
        """Name the setting; never its value, which may be a password in the wrong place."""
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
        driver, default_port = _DRIVERS[backend]
        port = self.number(f"{name}_db_port") or default_port
        if port > 65535:
            raise self.wrong(f"{name}_db_port", "a TCP port")
        host = self.text(f"{name}_db_host", "127.0.0.1")
        query: dict[str, str] = {}
        if host.startswith("/"):
            query = {"host" if backend == "pgsql" else "unix_socket": host}
        return URL.create(
            driver,
            username=self.text(f"{name}_db_user", _LOGINS[name]),
            password=self.text(f"{name}_db_password"),
            host=None if query else host,
            port=None if query else port,
            database=self.text(f"{name}_db_name", name),
            query=query,
        ).render_as_string(hide_password=False)


def _networks(path: Path, client: str) -> list[str]:
    """One entry of ``RESTFUL_API_CLIENTS``: an address, a network, or iRedAdmin's older forms."""
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
