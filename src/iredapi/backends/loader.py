"""From settings to a backend: the only place that asks "sql or ldap?"."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import MetaData, Table

from iredapi.backends.policies import tables as policies
from iredapi.backends.policies.greylists import SqlGreylists
from iredapi.backends.policies.satellites import SqlSatellites
from iredapi.backends.policies.spam import SqlSpamPolicies
from iredapi.backends.policies.throttles import SqlThrottles
from iredapi.backends.policies.wblists import SqlWblists
from iredapi.backends.sql import tables
from iredapi.backends.sql.admins import SqlAdmins
from iredapi.backends.sql.aliases import SqlAddresses, SqlAliases
from iredapi.backends.sql.domains import SqlDomains
from iredapi.backends.sql.engine import Connections, Database, Databases, PoolOptions
from iredapi.backends.sql.users import SqlUsers
from iredapi.domain.actors import Actor
from iredapi.settings import Backend, ConfigurationError, Settings
from iredapi.unit import Rules, Unit

_METADATA = {
    "vmail": tables.metadata,
    "amavisd": policies.amavisd_metadata,
    "iredapd": policies.iredapd_metadata,
    "iredadmin": policies.iredadmin_metadata,
}


def make_databases(settings: Settings) -> tuple[Databases, Table]:
    """Return the SQL databases of a configuration and its real-time quota table; opens nothing."""
    if settings.backend is not Backend.SQL:
        raise ConfigurationError("IREDAPI_BACKEND: this release knows sql only")
    pool = PoolOptions(settings.pool_size, settings.pool_timeout, settings.connect_timeout)
    # Postfix and Dovecot need connections of the same servers: satellites get few.
    small = replace(pool, size=max(settings.pool_size // 2, 2))
    urls = {name: url for name, url in settings.urls().items() if name in _METADATA}
    databases = Databases(
        {
            name: Database(name, url, _METADATA[name], pool if name == "vmail" else small)
            for name, url in urls.items()
        }
    )
    quota = tables.used_quota
    if settings.used_quota_table != quota.name:
        quota = quota.to_metadata(MetaData(), name=settings.used_quota_table)
    return databases, quota


async def make_unit(
    connections: Connections, quota_table: Table, actor: Actor, rules: Rules
) -> Unit:
    """Return all roles for one request."""
    schema = await connections.databases["vmail"].schema()
    store = (connections, schema, quota_table)
    return Unit(
        actor=actor,
        rules=rules,
        domains=SqlDomains(*store),
        users=SqlUsers(*store),
        admins=SqlAdmins(*store),
        aliases=SqlAliases(*store),
        addresses=SqlAddresses(*store),
        writing=connections.writing,
        satellites=SqlSatellites(connections),
        throttles=SqlThrottles(connections),
        greylists=SqlGreylists(connections),
        spam_policies=SqlSpamPolicies(connections),
        wblists=SqlWblists(connections),
    )
