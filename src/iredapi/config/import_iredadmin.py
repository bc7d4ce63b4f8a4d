"""Make our env file from the ``settings.py`` of an iRedAdmin that is already there.

``settings_py`` reads the file (as data: it is never executed), ``configuration`` maps what it found
to ``IREDAPI_*`` values; ``env_file`` writes them. What cannot be known is refused where a wrong
guess would let somebody in, and told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import URL

from iredapi.config.errors import ConfigurationError
from iredapi.config.iredadmin_settings import IredadminSettings, all_unknown, read_iredadmin
from iredapi.config.loading import ENV_FILE
from iredapi.domain.passwords import Scheme

__all__ = ["IredadminSettings", "configuration", "read_iredadmin"]

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
_NEVER_GUESSED: Final = frozenset(
    {"RESTFUL_API_CLIENTS", "min_passwd_length", "DEFAULT_PASSWORD_SCHEME"}
    | {"API_HIDDEN_USER_PROFILES", "API_HIDDEN_ADMIN_PROFILES"}
    | {"REQUIRE_DOMAIN_OWNERSHIP_VERIFICATION", "require_domain_ownership_verification"}
    | {"ADDITIONAL_DISABLED_USER_SERVICES"}
    | {"backend", "ldap_uri", "ldap_basedn", "ldap_bind_dn", "ldap_bind_password"}
    | {f"vmail_db_{part}" for part in ("host", "port", "name", "user", "password")}
)
"""Their defaults are more open than what may stand there, or lead to other accounts."""
_NOBODY: Final = "255.255.255.255/32"
"""The network of no client."""
_LDAP_NEEDED: Final = ("ldap_basedn", "ldap_bind_dn", "ldap_bind_password")
_KNOWN: Final = frozenset(
    {"backend", "RESTFUL_API_CLIENTS", "RESTRICT_API_ACCESS"}
    | {"DEFAULT_PASSWORD_SCHEME", "iredapd_enabled"}
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
    | {name.lower() for name in _SWITCHES}
)


class Configuration(NamedTuple):
    """``IREDAPI_*`` values, and sentences about what could not be taken over."""

    values: dict[str, str]
    warnings: list[str]


# Mapping ---------------------------------------------------------------------------------------


def configuration(found: IredadminSettings) -> Configuration:
    """Map iRedAdmin's settings to ours.

    Raises ConfigurationError, naming the setting, when the file is not one of iRedAdmin's on
    MySQL/MariaDB, PostgreSQL or OpenLDAP or holds a value that cannot be meant.
    """
    reader = _Reader(found)
    unknown = dict(all_unknown(found, sorted(_KNOWN)))
    for name in sorted(_NEVER_GUESSED & unknown.keys()):
        if name.startswith("vmail_db_") and found.values.get("backend") == "ldap":
            continue
        raise ConfigurationError(
            f"{found.path}: `{name}` in {unknown[name]} is not a plain value, and a guess would be "
            "wrong: write it as a text, number or list at the end of the file"
        )
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
    values = {"IREDAPI_DATA_DIR": DATA_DIR}
    if backend == "ldap":
        values |= _directory(reader)
        backend = "mysql"  # what a server with OpenLDAP has beside it
    else:
        values["IREDAPI_BACKEND"] = "sql"
        values["IREDAPI_VMAIL_URL"] = reader.url("vmail", backend)
    for name in _related_data(reader, unknown):
        values[f"IREDAPI_{name.upper()}_URL"] = reader.url(name, backend)
    values |= _mail_server(reader)
    values |= _access(reader, unknown)
    if token := reader.text("mlmmjadmin_api_auth_token"):
        values["IREDAPI_MLMMJADMIN_URL"] = reader.text("MLMMJADMIN_API_BASE_URL", _MLMMJADMIN_URL)
        values["IREDAPI_MLMMJADMIN_TOKEN"] = token
        if not reader.switch("MLMMJADMIN_API_VERIFY_SSL", default=True):
            values["IREDAPI_MLMMJADMIN_VERIFY_TLS"] = "false"
    reader.warnings += [
        f"`{name}` in {where} is not a plain value and was left out"
        for name, where in unknown.items()
        if name not in _NEVER_GUESSED and name in found.unknown
    ]
    if behind_nginx():
        values["IREDAPI_TRUSTED_PROXIES"] = "127.0.0.1,::1"
    return Configuration(values, reader.warnings)


def _access(reader: _Reader, unknown: Mapping[str, str]) -> dict[str, str]:
    """Who may use the API; a restriction to nobody in particular lets nobody in."""
    clients = reader.items("RESTFUL_API_CLIENTS")
    if reader.values.get("RESTFUL_API_CLIENTS") and not clients:
        raise reader.wrong("RESTFUL_API_CLIENTS", "a list of addresses or networks")
    if clients:
        networks = [item for client in clients for item in _networks(reader.found.path, client)]
        return {"IREDAPI_ALLOWED_NETWORKS": ",".join(networks)}
    if "RESTRICT_API_ACCESS" in unknown:
        raise ConfigurationError(
            f"{reader.found.path}: `RESTRICT_API_ACCESS` in {unknown['RESTRICT_API_ACCESS']} is "
            "not a plain value, and there is no `RESTFUL_API_CLIENTS`: write True or False"
        )
    if not reader.switch("RESTRICT_API_ACCESS", default=False):
        return {}
    reader.warnings.append(
        "`RESTRICT_API_ACCESS` is True and `RESTFUL_API_CLIENTS` is empty: nobody may use the API "
        f"({_NOBODY} is no client). List the clients in IREDAPI_ALLOWED_NETWORKS"
    )
    return {"IREDAPI_ALLOWED_NETWORKS": _NOBODY}


NGINX: Final = (Path("/etc/nginx"), Path("/usr/local/etc/nginx"))
"""Where nginx's configuration is on the systems that iRedMail knows."""


def behind_nginx() -> bool:
    """Whether nginx of this host passes requests on to iRedAdmin, as iRedMail sets it up."""
    for directory in NGINX:
        for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
            if path.suffix not in {".conf", ".tmpl"} or not path.is_file():
                continue
            with suppress(OSError):
                text = path.read_text(encoding="utf-8", errors="replace")
                if "iredadmin" in text.lower() and re.search(r"(uwsgi|proxy)_pass\s", text):
                    return True
    return False


def not_served(values: Mapping[str, str]) -> list[str]:
    """Say what will be answered 501 with a configuration, and what would change it."""
    lines = []
    if "IREDAPI_MLMMJADMIN_URL" not in values and not values.get("IREDAPI_MLMMJ_SPOOL"):
        lines.append(
            "subscribable mailing lists (/api/ml): no `mlmmjadmin_api_auth_token`; set "
            "IREDAPI_MLMMJADMIN_URL and IREDAPI_MLMMJADMIN_TOKEN, or IREDAPI_MLMMJ_SPOOL"
        )
    for name, what in (
        ("AMAVISD", "spam policies, white- and blacklists"),
        ("IREDAPD", "throttling, greylisting"),
    ):
        if f"IREDAPI_{name}_URL" not in values:
            lines.append(f"{what}: set IREDAPI_{name}_URL")
    if values.get("IREDAPI_BACKEND", "sql") != "ldap":
        lines.append("unsubscribable lists (/api/maillist) and LDIF: they exist with OpenLDAP only")
    return lines


def next_steps(output: Path, values: Mapping[str, str]) -> list[str]:
    """Say what is to be done before the service runs."""
    option = "" if output == ENV_FILE else f" --env-file {output}"
    proxied = "IREDAPI_TRUSTED_PROXIES" in values
    create = f"iredapi admin create{option} admin@admins.example --global"
    return [
        f"chown iredapi: {output}",
        f"iredapi doctor{option}",
        "cp deploy/iredapi.service /etc/systemd/system/ && systemctl enable --now iredapi",
        "include deploy/nginx.conf in the server block for HTTPS"
        + ("" if proxied else ", and set IREDAPI_TRUSTED_PROXIES to the web server's address"),
        f"log in with a global admin, or make one: {create}",
    ]


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


def _related_data(reader: _Reader, unknown: Mapping[str, str]) -> list[str]:
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
        if any(item.startswith(f"{name}_db_") for item in unknown):
            reader.warnings.append(f"where the database {name} is, is not known: it is not used")
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
