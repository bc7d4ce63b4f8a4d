"""From settings to a backend: the only place that asks "sql or ldap?"."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import MetaData, Table
from sqlalchemy.exc import DBAPIError

from iredapi.backends.mailing_lists.mlmmj_spool import Options, Spool
from iredapi.backends.mailing_lists.mlmmjadmin import MlmmjAdmin
from iredapi.backends.policies import tables as policies
from iredapi.backends.policies.greylists import SqlGreylists
from iredapi.backends.policies.related_data import SqlRelatedData
from iredapi.backends.policies.spam import SqlSpamPolicies
from iredapi.backends.policies.throttles import SqlThrottles
from iredapi.backends.policies.wblists import SqlWblists
from iredapi.backends.protocols.accounts import RetryUnit
from iredapi.backends.protocols.mailing_lists import ListServer
from iredapi.backends.sql import tables
from iredapi.backends.sql.addresses import SqlAddresses
from iredapi.backends.sql.admins import SqlAdmins
from iredapi.backends.sql.aliases import SqlAliases
from iredapi.backends.sql.domains import SqlDomains
from iredapi.backends.sql.lists import SqlLists
from iredapi.backends.sql.users import SqlUsers
from iredapi.backends.unit_of_work import ReadUnit, Rules, Unit
from iredapi.concurrency.batcher import LANES
from iredapi.config.settings import Backend, ConfigurationError, Settings
from iredapi.database.database import Connections, Database, Databases, PoolOptions
from iredapi.database.dialect import is_retryable, is_unknown_name
from iredapi.database.errors import translated
from iredapi.domain import features
from iredapi.domain.actors import Actor
from iredapi.domain.features import Feature
from iredapi.observability.health_checks import Probe
from iredapi.state import State

if TYPE_CHECKING:
    from iredapi.backends.ldap.backend import Directories, LdapUnit

_METADATA = {
    "vmail": tables.metadata,
    "amavisd": policies.amavisd_metadata,
    "iredapd": policies.iredapd_metadata,
    "iredadmin": policies.iredadmin_metadata,
}


def metadata_of(settings: Settings) -> dict[str, MetaData]:
    """Return what each database must have: with LDAP the panel's has the tables of mail users."""
    if settings.backend is not Backend.LDAP:
        return _METADATA
    from iredapi.backends.ldap import iredadmin_mailbox_tables

    return _METADATA | {"iredadmin": iredadmin_mailbox_tables.metadata}


class Reading(Protocol):
    """What one request reads on a storage. Its connections refuse to write."""

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        """Return the reading part of all roles."""

    async def close(self) -> None:
        """Give everything back. May be called twice."""


class Work(Protocol):
    """One unit of work on a storage: everything of it is committed, or nothing."""

    async def unit(self, actor: Actor, rules: Rules) -> Unit:
        """Return all roles for one request."""

    async def commit(self) -> None:
        """Commit satellites first, accounts last: a broken request can be sent again."""

    async def close(self) -> None:
        """Undo what was not committed, and give everything back. May be called twice."""


class Storage(Protocol):
    """Where accounts are kept, with the SQL databases beside it."""

    features: frozenset[Feature]
    """What it can do that not every storage can."""
    errors: tuple[type[Exception], ...]
    """What its drivers raise: for ``is_transient`` and ``translated``."""
    updates_without_read: bool
    """Whether a user's own can be written without being read."""

    @property
    def shares(self) -> bool:
        """Whether requests gain when they share a unit."""

    @property
    def versions(self) -> bool:
        """Whether what was read can be written if nobody has changed it, without being held."""

    @property
    def journeys(self) -> int:
        """How many units may gain from being under way at the same time."""

    async def start(self) -> None:
        """Look whether it can be used. Raises ConfigurationError, or ServerDown."""

    async def open_reading(self) -> Reading:
        """Begin a unit that only reads."""

    async def open(self, *, again: RetryUnit | None = None) -> Work:
        """Begin a unit of work; ``again`` is why the one before could not go on."""

    def is_transient(self, error: Exception) -> bool:
        """Tell whether the same unit may well succeed when it is run again."""

    def translated(self, error: Exception) -> Exception:
        """Return our error for a driver's; one that nobody foresaw comes back as it is."""

    def probes(self) -> Mapping[str, Probe]:
        """Return how to ask the servers that this storage opened, by name."""

    async def close(self) -> None:
        """Close what this storage opened; the databases have an owner of their own."""


def make_databases(settings: Settings) -> Databases:
    """Return the SQL databases of a configuration; opens nothing."""
    pool = PoolOptions(settings.pool_size, settings.pool_timeout, settings.connect_timeout)
    # Postfix and Dovecot need connections of the same servers: satellites get few.
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


def make_storage(settings: Settings, databases: Databases, state: State) -> Storage:
    """Return the account storage of a configuration; opens nothing."""
    if settings.backend is Backend.LDAP:
        return LdapStorage(settings, databases, state)
    return SqlStorage(databases, state, _quota_table(settings))


def make_list_server(settings: Settings) -> ListServer | None:
    """Return what keeps the mailing lists; None: nobody does."""
    if settings.mlmmjadmin_url:
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
    """Return the table of used quotas, whose name an administrator may have changed."""
    quota = tables.used_quota
    if settings.used_quota_table != quota.name:
        quota = quota.to_metadata(MetaData(), name=settings.used_quota_table)
    return quota


class SqlStorage:
    """Accounts in the SQL database ``vmail``."""

    features = features.SQL
    errors: tuple[type[Exception], ...] = (DBAPIError,)

    async def start(self) -> None:
        """Nothing: ``opening`` has looked at the databases."""

    def __init__(self, databases: Databases, state: State, quota_table: Table) -> None:
        self._databases = databases
        self._state = state
        self._quota_table = quota_table
        self._accounts = databases["vmail"]
        # SQLite says what was written since 3.35.
        self.updates_without_read = not self._accounts.sqlite or sqlite3.sqlite_version_info >= (
            3,
            35,
        )

    @property
    def shares(self) -> bool:
        return self.updates_without_read and self._accounts.holds_at_once

    @property
    def versions(self) -> bool:
        return self._accounts.takes_many

    @property
    def journeys(self) -> int:
        return 1 if self._accounts.sqlite else LANES

    async def open_reading(self) -> Reading:
        connections = await self._databases.open(writing=False)
        return SqlReading(connections, self._state, self._quota_table)

    async def open(self, *, again: RetryUnit | None = None) -> Work:
        del again  # its rows are locked, and nothing is found out too late
        connections = await self._databases.open(writing=True)
        return SqlWork(connections, self._state, self._quota_table)

    def is_transient(self, error: Exception) -> bool:
        # Columns that went away are not asked for again.
        return isinstance(error, DBAPIError) and (is_retryable(error) or is_unknown_name(error))

    def translated(self, error: Exception) -> Exception:
        return translated(error) if isinstance(error, DBAPIError) else error

    def probes(self) -> Mapping[str, Probe]:
        return {}

    async def close(self) -> None:
        """Nothing is open beside the databases."""


class SqlReading:
    """Connections in autocommit, which refuse to write."""

    def __init__(self, connections: Connections, state: State, quota_table: Table) -> None:
        self._connections = connections
        self._state = state
        self._quota_table = quota_table

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        schema = await self._connections.databases["vmail"].schema()
        store = (self._connections, schema, self._quota_table)
        return ReadUnit(
            actor=actor,
            rules=rules,
            domains=SqlDomains(*store),
            users=SqlUsers(*store),
            admins=SqlAdmins(*store),
            aliases=SqlAliases(*store),
            lists=SqlLists(*store),
            addresses=SqlAddresses(*store),
            features=features.SQL,
            related_data=SqlRelatedData(self._connections, self._state.renames),
            throttles=SqlThrottles(self._connections),
            greylists=SqlGreylists(self._connections),
            spam_policies=SqlSpamPolicies(self._connections),
            wblists=SqlWblists(self._connections),
        )

    async def close(self) -> None:
        await self._connections.close()


class SqlWork:
    """One transaction in each database that is used."""

    def __init__(self, connections: Connections, state: State, quota_table: Table) -> None:
        self._connections = connections
        self._related_data = SqlRelatedData(connections, state.renames)
        self._quota_table = quota_table

    async def unit(self, actor: Actor, rules: Rules) -> Unit:
        schema = await self._connections.databases["vmail"].schema()
        store = (self._connections, schema, self._quota_table)
        return Unit(
            actor=actor,
            rules=rules,
            domains=SqlDomains(*store),
            users=SqlUsers(*store),
            admins=SqlAdmins(*store),
            aliases=SqlAliases(*store),
            lists=SqlLists(*store),
            addresses=SqlAddresses(*store),
            features=features.SQL,
            related_data=self._related_data,
            throttles=SqlThrottles(self._connections),
            greylists=SqlGreylists(self._connections),
            spam_policies=SqlSpamPolicies(self._connections),
            wblists=SqlWblists(self._connections),
        )

    async def commit(self) -> None:
        async with self._related_data.committing():
            await self._connections.commit()

    async def close(self) -> None:
        await self._connections.close()
        await self._related_data.give_up()


class LdapStorage:
    """Accounts in OpenLDAP; policies and the panel's data in SQL."""

    features = features.LDAP
    shares = False
    versions = False
    updates_without_read = False
    journeys = LANES

    def __init__(self, settings: Settings, databases: Databases, state: State) -> None:
        # bonsai is there only where it is needed.
        try:
            from iredapi.backends.ldap import backend
            from iredapi.backends.ldap.errors import LdapError
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"IREDAPI_BACKEND: for ldap install iredapi[ldap]; {error.name} is missing"
            ) from None
        self._work = backend
        self._state = state
        self._home = backend.Directories(settings, databases, state)
        self.errors: tuple[type[Exception], ...] = (DBAPIError, LdapError)

    async def start(self) -> None:
        if lacking := await self._home.start():
            raise ConfigurationError(lacking)

    @property
    def home(self) -> Directories:
        """The directory and what units share."""
        return self._home

    async def open_reading(self) -> Reading:
        return LdapReading(await self._home.open(writing=False), self._state)

    async def open(self, *, again: RetryUnit | None = None) -> Work:
        return LdapWork(await self._home.open(writing=True, again=again), self._state)

    def is_transient(self, error: Exception) -> bool:
        if isinstance(error, DBAPIError):
            return is_retryable(error) or is_unknown_name(error)
        return self._work.is_transient(error)

    def translated(self, error: Exception) -> Exception:
        if isinstance(error, DBAPIError):
            return translated(error)
        return self._work.translated(error)

    def probes(self) -> Mapping[str, Probe]:
        return {"ldap": self._home.ping}

    async def close(self) -> None:
        await self._home.close()


class LdapReading:
    """A session that plans nothing, and connections in autocommit, which refuse to write."""

    def __init__(self, unit: LdapUnit, state: State) -> None:
        self._unit = unit
        self._state = state

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        from iredapi.backends.ldap.admins import LdapAdmins
        from iredapi.backends.ldap.aliases import LdapAddresses, LdapAliases
        from iredapi.backends.ldap.domains import LdapDomains
        from iredapi.backends.ldap.ldif import LdapLdif
        from iredapi.backends.ldap.lists import LdapLists
        from iredapi.backends.ldap.maillists import LdapMailLists
        from iredapi.backends.ldap.users import LdapUsers

        session, connections = self._unit.session, self._unit.connections
        return ReadUnit(
            actor=actor,
            rules=rules,
            domains=LdapDomains(session),
            users=LdapUsers(session),
            admins=LdapAdmins(session),
            aliases=LdapAliases(session),
            lists=LdapLists(session),
            addresses=LdapAddresses(session),
            maillists=LdapMailLists(session),
            ldif=LdapLdif(session),
            features=features.LDAP,
            related_data=SqlRelatedData(connections, self._state.renames),
            throttles=SqlThrottles(connections),
            greylists=SqlGreylists(connections),
            spam_policies=SqlSpamPolicies(connections),
            wblists=SqlWblists(connections),
        )

    async def close(self) -> None:
        await self._unit.close()


class LdapWork:
    """A plan for the tree, and one transaction in each database that is used."""

    def __init__(self, unit: LdapUnit, state: State) -> None:
        self._unit = unit
        self._related_data = SqlRelatedData(unit.connections, state.renames)

    async def unit(self, actor: Actor, rules: Rules) -> Unit:
        from iredapi.backends.ldap.admins import LdapAdmins
        from iredapi.backends.ldap.aliases import LdapAddresses, LdapAliases
        from iredapi.backends.ldap.domains import LdapDomains
        from iredapi.backends.ldap.ldif import LdapLdif
        from iredapi.backends.ldap.lists import LdapLists
        from iredapi.backends.ldap.maillists import LdapMailLists
        from iredapi.backends.ldap.users import LdapUsers

        session, connections = self._unit.session, self._unit.connections
        self._opened = Unit(
            actor=actor,
            rules=rules,
            domains=LdapDomains(session),
            users=LdapUsers(session),
            admins=LdapAdmins(session),
            aliases=LdapAliases(session),
            lists=LdapLists(session),
            addresses=LdapAddresses(session),
            maillists=LdapMailLists(session),
            ldif=LdapLdif(session),
            features=features.LDAP,
            related_data=self._related_data,
            throttles=SqlThrottles(connections),
            greylists=SqlGreylists(connections),
            spam_policies=SqlSpamPolicies(connections),
            wblists=SqlWblists(connections),
        )
        return self._opened

    async def commit(self) -> None:
        async with self._related_data.committing():
            await self._unit.commit()
        for left_out in self._unit.session.left_out:
            self._opened.skip(*left_out)

    async def close(self) -> None:
        await self._unit.close()
        await self._related_data.give_up()
