"""Versions of the programs that a report depends on, and settings that do not fit them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError

from iredapi.config.host_programs import Host, Program, release
from iredapi.config.ldap_settings import Backend
from iredapi.config.settings import Settings
from iredapi.database.server import Server
from iredapi.database.session import ORDER, Databases
from iredapi.doctor.findings import Finding
from iredapi.errors import ServerDown

_NOT_KNOWN: Final = (
    "not known: passwords are judged by 2.3 and 2.4, and the quota trigger is not judged; set "
    "IREDAPI_DOVECOT_VERSION"
)


def of_host(settings: Settings, host: Host | None = None) -> dict[str, str]:
    """Return what is known of Dovecot and mlmmj, as text for people. Blocking."""
    host = host or Host()
    dovecot, mlmmj = host.dovecot(), host.mlmmj()
    shown = _NOT_KNOWN
    if settings.dovecot_version:
        shown = f"{settings.dovecot_version} (IREDAPI_DOVECOT_VERSION)"
        if dovecot is not None and dovecot.version == settings.dovecot_version:
            shown = f"{dovecot.version} ({dovecot.where})"
    found = {"Dovecot": shown}
    if settings.spool is not None or settings.mlmmjadmin_url or mlmmj is not None:
        found["mlmmj"] = "not known" if mlmmj is None else f"{mlmmj.version} ({mlmmj.where})"
    return found


async def of_servers(databases: Databases) -> dict[str, str]:
    """Return what each database's server says of itself, as far as they can be reached."""
    found = {}
    for name in ORDER:
        if not databases.has(name):
            continue
        try:
            asked = await databases[name].topology()
            if asked is None:
                async with databases[name].using() as pooled:
                    found[name] = str(await Server.ask(pooled.connection))
            else:
                found[name] = str(asked)
        except (DBAPIError, ServerDown, OSError):
            continue  # the examination reports it
    return found


def examine_settings(settings: Settings, dovecot: Program | None) -> Iterator[Finding]:
    """Report settings that do not fit the Dovecot of this host, or its version in the settings."""
    version = settings.dovecot_release
    if dovecot is not None and version != release(dovecot.version):
        detail = f"{settings.dovecot_version} is set, and there is {dovecot}"
        yield Finding("DOVECOT_VERSION_DIFFERS", "IREDAPI_DOVECOT_VERSION", detail)
    if settings.backend is not Backend.LDAP or not version:
        return
    right = {"2.3": "slapd", "2.4": "dovecot"}[version]
    if settings.ldap_password_check not in {"auto", right}:
        detail = f"{settings.ldap_password_check} is set, and Dovecot is {settings.dovecot_version}"
        yield Finding("PASSWORD_CHECK_WRONG", "IREDAPI_LDAP_PASSWORD_CHECK", detail)
