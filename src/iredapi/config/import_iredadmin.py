"""Convert the ``settings.py`` of an installed iRedAdmin to our settings.

``iredadmin_settings`` reads the file as data (it is never executed), ``configuration`` maps its
values to ``IREDAPI_*``, and ``env_file`` writes them. A value that cannot be determined is an error
where a wrong guess could give access to somebody; otherwise it causes a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from iredapi.config.errors import ConfigurationError
from iredapi.config.host_programs import Host, Program, release
from iredapi.config.iredadmin_settings import IredadminSettings, all_unknown, read_iredadmin
from iredapi.config.iredadmin_values import DRIVERS, LOGINS, SettingsReader, networks_of_client
from iredapi.config.loading import ENV_FILE
from iredapi.domain.passwords import Scheme

__all__ = ["IredadminSettings", "configuration", "read_iredadmin"]

USUAL_PLACES: Final = (
    Path("/opt/www/iredadmin/settings.py"),
    Path("/var/www/iredadmin/settings.py"),
    Path("/usr/share/apache2/iredadmin/settings.py"),
    Path("/usr/local/www/iredadmin/settings.py"),
)
"""Where iRedMail's installer puts iRedAdmin on the systems that it supports."""

DATA_DIR: Final = "/var/lib/iredapi"

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
# Here an empty list has a meaning: profiles then show the password hashes.
_LISTS: Final = {
    "API_HIDDEN_USER_PROFILES": "HIDDEN_USER_FIELDS",
    "API_HIDDEN_ADMIN_PROFILES": "HIDDEN_ADMIN_FIELDS",
    "ADDITIONAL_DISABLED_USER_SERVICES": "DISABLED_USER_SERVICES",
    "ADDITIONAL_ENABLED_USER_SERVICES": "ENABLED_USER_SERVICES",
}
_NO_DEFAULT_ASSUMED: Final = frozenset(
    {"RESTFUL_API_CLIENTS", "min_passwd_length", "DEFAULT_PASSWORD_SCHEME"}
    | {"API_HIDDEN_USER_PROFILES", "API_HIDDEN_ADMIN_PROFILES"}
    | {"REQUIRE_DOMAIN_OWNERSHIP_VERIFICATION", "require_domain_ownership_verification"}
    | {"ADDITIONAL_DISABLED_USER_SERVICES"}
    | {"backend", "ldap_uri", "ldap_basedn", "ldap_bind_dn", "ldap_bind_password"}
    | {f"vmail_db_{part}" for part in ("host", "port", "name", "user", "password")}
)
"""Settings whose defaults may be less restrictive than the value, or name other accounts."""
_NO_CLIENT: Final = "255.255.255.255/32"
"""A network that contains no client."""
_LDAP_NEEDED: Final = ("ldap_basedn", "ldap_bind_dn", "ldap_bind_password")
_KNOWN: Final = frozenset(
    {"backend", "RESTFUL_API_CLIENTS", "RESTRICT_API_ACCESS"}
    | {"DEFAULT_PASSWORD_SCHEME", "iredapd_enabled"}
    | {"amavisd_enable_logging", "amavisd_enable_quarantine", "amavisd_enable_policy_lookup"}
    | {"mlmmjadmin_api_auth_token", "MLMMJADMIN_API_BASE_URL", "MLMMJADMIN_API_VERIFY_SSL"}
    | {"ldap_uri", "ldap_domainadmin_dn", "LDAP_ADD_MEMBER_DN_TO_GROUP", *_LDAP_NEEDED}
    | {
        f"{name}_db_{part}"
        for name in LOGINS
        for part in ("host", "port", "name", "user", "password")
    }
    | _TEXTS.keys()
    | _NUMBERS.keys()
    | _SWITCHES.keys()
    | _LISTS.keys()
    | {name.lower() for name in _SWITCHES}
)


class Configuration(NamedTuple):
    """``IREDAPI_*`` values, and warnings about settings that could not be converted."""

    values: dict[str, str]
    warnings: list[str]


# Mapping ---------------------------------------------------------------------------------------


def configuration(found: IredadminSettings) -> Configuration:
    """Convert iRedAdmin's settings to ours.

    Raises ConfigurationError with the name of the setting when the file does not belong to an
    iRedAdmin on MySQL/MariaDB, PostgreSQL or OpenLDAP, or when a value is not valid.
    """
    reader = SettingsReader(found)
    unknown = dict(all_unknown(found, sorted(_KNOWN)))
    for name in sorted(_NO_DEFAULT_ASSUMED & unknown.keys()):
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
    if backend not in DRIVERS and backend != "ldap":
        raise ConfigurationError(
            f"{found.path}: `backend` is {backend!r}; 'mysql', 'pgsql' or 'ldap' is expected"
        )
    values = {"IREDAPI_DATA_DIR": DATA_DIR}
    if backend == "ldap":
        values |= _directory(reader)
        backend = "mysql"  # the other databases of an iRedMail server with OpenLDAP
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
        if name not in _NO_DEFAULT_ASSUMED and name in found.unknown
    ]
    if behind_nginx():
        values["IREDAPI_TRUSTED_PROXIES"] = "127.0.0.1,::1"
    return Configuration(values, reader.warnings)


def _access(reader: SettingsReader, unknown: Mapping[str, str]) -> dict[str, str]:
    """Return the allowed networks. Access restricted without a list allows no client."""
    clients = reader.items("RESTFUL_API_CLIENTS")
    if reader.values.get("RESTFUL_API_CLIENTS") and not clients:
        raise reader.wrong("RESTFUL_API_CLIENTS", "a list of addresses or networks")
    if clients:
        networks = [
            item for client in clients for item in networks_of_client(reader.found.path, client)
        ]
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
        f"({_NO_CLIENT} is no client). List the clients in IREDAPI_ALLOWED_NETWORKS"
    )
    return {"IREDAPI_ALLOWED_NETWORKS": _NO_CLIENT}


PACKAGED_UNIT: Final = Path("/usr/lib/systemd/system/iredapi.service")
NGINX: Final = (Path("/etc/nginx"), Path("/usr/local/etc/nginx"))
"""Directories of nginx's configuration on the systems that iRedMail supports."""


def behind_nginx() -> bool:
    """Return whether nginx of this host is a proxy for iRedAdmin, as iRedMail configures it."""
    for directory in NGINX:
        for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
            if path.suffix not in {".conf", ".tmpl"} or not path.is_file():
                continue
            with suppress(OSError):
                text = path.read_text(encoding="utf-8", errors="replace")
                if "iredadmin" in text.lower() and re.search(r"(uwsgi|proxy)_pass\s", text):
                    return True
    return False


def password_check(values: Mapping[str, str], dovecot: Program | None) -> str:
    """Return the value of IREDAPI_LDAP_PASSWORD_CHECK for this host's Dovecot; "": none."""
    if values.get("IREDAPI_BACKEND") != "ldap" or dovecot is None:
        return ""
    return "dovecot" if release(dovecot.version) == "2.4" else "slapd"


def found_on(host: Host) -> list[str]:
    """Return a line for each program of the mail server that is on this host, or missing."""
    found = [host.dovecot(), host.mlmmj(), *host.sql_servers()]
    lines = [f"Found {program}." for program in found if program is not None]
    if found[0] is None:
        lines.append(
            "There is no Dovecot on this host: set IREDAPI_DOVECOT_VERSION to the mail server's, "
            "so that passwords are judged by it."
        )
    return lines


def not_served(values: Mapping[str, str]) -> list[str]:
    """Return a line for each group of operations that is answered 501, and the setting it needs."""
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
    """Return the steps that are left until the service runs."""
    option = "" if output == ENV_FILE else f" --env-file {output}"
    proxied = "IREDAPI_TRUSTED_PROXIES" in values
    create = f"iredapi admin create{option} admin@admins.example --global"
    packaged = PACKAGED_UNIT.exists()
    files = "/usr/share/doc/iredapi/examples" if packaged else "deploy"
    copied = "" if packaged else "cp deploy/iredapi.service /etc/systemd/system/ && "
    owned = packaged and output == ENV_FILE
    return [
        *([] if owned else [f"chown iredapi: {output}"]),
        f"iredapi doctor{option}",
        f"{copied}systemctl enable --now iredapi",
        f"include {files}/nginx.conf in the server block for HTTPS"
        + ("" if proxied else ", and set IREDAPI_TRUSTED_PROXIES to the web server's address"),
        f"log in with a global admin, or make one: {create}",
    ]


def _directory(reader: SettingsReader) -> dict[str, str]:
    """Return the settings of OpenLDAP and the login for writing."""
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


def _related_data(reader: SettingsReader, unknown: Mapping[str, str]) -> list[str]:
    """Return the names of the related databases that are used and whose password is known."""
    unused = set()
    if not reader.switch("iredapd_enabled", default=True):
        unused.add("iredapd")  # its database settings may be placeholders
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


def _mail_server(reader: SettingsReader) -> dict[str, str]:
    """Return settings of passwords, profiles and mailboxes; those with a default only when set."""
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
        # iRedAdmin's settings table has some of these names in lower case.
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
