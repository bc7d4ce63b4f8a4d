"""Creates the databases, the backend and the list server of a configuration.

This is the only module that chooses between SQL and LDAP.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sqlalchemy import MetaData, Table

from iredapi.backends.mailing_lists.mlmmj_spool import Options, Spool
from iredapi.backends.policies import tables as policies
from iredapi.backends.protocols.backend import Backend
from iredapi.backends.protocols.mailing_lists import ListServer
from iredapi.backends.sql import tables
from iredapi.backends.sql.backend import SqlBackend
from iredapi.config.errors import ConfigurationError
from iredapi.config.ldap_settings import Backend as BackendName
from iredapi.config.settings import Settings
from iredapi.database.database import Database, PoolOptions
from iredapi.database.session import Databases
from iredapi.state import State

_METADATA = {
    "vmail": tables.metadata,
    "amavisd": policies.amavisd_metadata,
    "iredapd": policies.iredapd_metadata,
    "iredadmin": policies.iredadmin_metadata,
}


def metadata_of(settings: Settings) -> dict[str, MetaData]:
    """Return the tables of each database; with LDAP ``iredadmin`` has tables about mailboxes."""
    if settings.backend is not BackendName.LDAP:
        return _METADATA
    from iredapi.backends.ldap import iredadmin_mailbox_tables

    return _METADATA | {"iredadmin": iredadmin_mailbox_tables.metadata}


def make_databases(settings: Settings) -> Databases:
    """Return the SQL databases of a configuration, without connecting."""
    pool = PoolOptions(
        settings.pool_size,
        settings.pool_timeout,
        settings.connect_timeout,
        settings.connection_max_age,
    )
    # Postfix and Dovecot need connections to the same servers: policy databases get fewer.
    small = replace(pool, size=max(settings.pool_size // 2, 2))
    urls = {name: url for name, url in settings.urls().items() if name in _METADATA}
    metadata = metadata_of(settings)
    return Databases(
        {
            name: Database(name, url, metadata[name], pool if name == "vmail" else small)
            for name, url in urls.items()
        },
        patience=settings.request_timeout,
    )


def make_backend(settings: Settings, databases: Databases, state: State) -> Backend:
    """Return the backend of a configuration, without connecting."""
    if settings.backend is BackendName.LDAP:
        # bonsai is an optional dependency.
        try:
            from iredapi.backends.ldap.backend import LdapBackend
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"IREDAPI_BACKEND: for ldap install iredapi[ldap]; {error.name} is missing"
            ) from None
        return LdapBackend(settings, databases, state)
    return SqlBackend(databases, state, _quota_table(settings))


def make_list_server(settings: Settings) -> ListServer | None:
    """Return the list server of a configuration; None: there is none."""
    if settings.mlmmjadmin_url:
        from iredapi.backends.mailing_lists.mlmmjadmin import MlmmjAdmin

        return MlmmjAdmin(
            settings.mlmmjadmin_url,
            settings.mlmmjadmin_token.get_secret_value(),
            seconds=settings.mlmmjadmin_timeout,
            verify_tls=settings.mlmmjadmin_verify_tls,
        )
    spool = settings.spool
    if spool is None:
        return None
    archive = Path(settings.mlmmj_archive) if settings.mlmmj_archive else None
    return Spool(
        Options(
            spool=spool,
            archive=archive or spool.with_name(f"{spool.name}-archive"),
            programs=Path(settings.mlmmj_programs),
            texts=Path(settings.mlmmj_texts),
            smtp_port=settings.mlmmj_smtp_port,
        )
    )


def _quota_table(settings: Settings) -> Table:
    """Return the table of used quotas; its name is a setting."""
    quota = tables.used_quota
    if settings.used_quota_table != quota.name:
        quota = quota.to_metadata(MetaData(), name=settings.used_quota_table)
    return quota
