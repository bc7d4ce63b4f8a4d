"""The SQL backend: transactions on ``vmail`` and the policy databases, with all their roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypedDict

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError

from iredapi.backends.lazy_roles import with_lazy_roles
from iredapi.backends.policies.greylists import SqlGreylists
from iredapi.backends.policies.log import SqlLog
from iredapi.backends.policies.related_data import SqlRelatedData
from iredapi.backends.policies.spam import SqlSpamPolicies
from iredapi.backends.policies.throttles import SqlThrottles
from iredapi.backends.policies.wblists import SqlWblists
from iredapi.backends.protocols.accounts import Addresses, Aliases, Domains, Users
from iredapi.backends.protocols.admins import Admins
from iredapi.backends.protocols.backend import ReadTransaction, Transaction
from iredapi.backends.protocols.deleted_mailboxes import DeletedMailboxes
from iredapi.backends.protocols.lists import Lists
from iredapi.backends.protocols.log import LogReader
from iredapi.backends.protocols.policies import Greylists, SpamPolicies, Throttles, Wblists
from iredapi.backends.protocols.related_data import RelatedData
from iredapi.backends.protocols.usage import UsageReader
from iredapi.backends.protocols.user_batches import UserBatches
from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.sql.addresses import SqlAddresses
from iredapi.backends.sql.admins import SqlAdmins
from iredapi.backends.sql.aliases import SqlAliases
from iredapi.backends.sql.deleted_mailboxes import SqlDeletedMailboxes
from iredapi.backends.sql.domains import SqlDomains
from iredapi.backends.sql.lists import SqlLists
from iredapi.backends.sql.spelled_columns import IredadminSpellings
from iredapi.backends.sql.usage import SqlUsage
from iredapi.backends.sql.user_batches import SqlUserBatches, SqlUserBatching
from iredapi.backends.sql.users import SqlUsers
from iredapi.backends.unit_of_work import ReadUnit, Rules, UnitOfWork
from iredapi.database.errors import is_retryable, is_undone, is_unknown_name, translated
from iredapi.database.live_schema import Schema
from iredapi.database.session import Connections, Databases
from iredapi.domain import features
from iredapi.domain.actors import Actor
from iredapi.observability.health_checks import Probe
from iredapi.state import State


class _Store(NamedTuple):
    """What the roles of one unit are made of."""

    connections: Connections
    schema: Schema
    quota_table: Table
    state: State

    @property
    def accounts(self) -> tuple[Connections, Schema, Table]:
        """What repositories of accounts are made of."""
        return self[:3]


class _Roles(TypedDict):
    """How each role is made."""

    domains: Callable[[_Store], Domains]
    users: Callable[[_Store], Users]
    admins: Callable[[_Store], Admins]
    aliases: Callable[[_Store], Aliases]
    lists: Callable[[_Store], Lists]
    addresses: Callable[[_Store], Addresses]
    user_batches: Callable[[_Store], UserBatches]
    related_data: Callable[[_Store], RelatedData]
    throttles: Callable[[_Store], Throttles]
    greylists: Callable[[_Store], Greylists]
    spam_policies: Callable[[_Store], SpamPolicies]
    wblists: Callable[[_Store], Wblists]
    deleted_mailboxes: Callable[[_Store], DeletedMailboxes]
    usage: Callable[[_Store], UsageReader]
    log: Callable[[_Store], LogReader]


_ROLES: Final = _Roles(
    domains=lambda store: SqlDomains(*store.accounts),
    users=lambda store: SqlUsers(*store.accounts),
    admins=lambda store: SqlAdmins(*store.accounts),
    aliases=lambda store: SqlAliases(*store.accounts),
    lists=lambda store: SqlLists(*store.accounts),
    addresses=lambda store: SqlAddresses(*store.accounts),
    user_batches=lambda store: SqlUserBatches(*store.accounts),
    related_data=lambda store: SqlRelatedData(store.connections, store.state.renames),
    throttles=lambda store: SqlThrottles(store.connections),
    greylists=lambda store: SqlGreylists(store.connections),
    spam_policies=lambda store: SqlSpamPolicies(store.connections),
    wblists=lambda store: SqlWblists(store.connections),
    deleted_mailboxes=lambda store: SqlDeletedMailboxes(
        store.connections, store.state.guarded_mailboxes, store.schema
    ),
    usage=lambda store: SqlUsage(*store.accounts),
    log=lambda store: SqlLog(
        store.connections,
        SqlDomains(*store.accounts).created,
        IredadminSpellings(store.connections).like,
    ),
)
_ReadUnit: Final = with_lazy_roles(ReadUnit, _ROLES)
_UnitOfWork: Final = with_lazy_roles(UnitOfWork, _ROLES)


class SqlReadTransaction:
    """Roles that read, on connections in autocommit mode that refuse to write."""

    def __init__(self, connections: Connections, state: State, quota_table: Table) -> None:
        self._connections = connections
        self._state = state
        self._quota_table = quota_table

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
        schema = await self._connections.databases["vmail"].schema()
        store = _Store(self._connections, schema, self._quota_table, self._state)
        return _ReadUnit(actor, rules, store=store, features=features.SQL)

    async def close(self) -> None:
        await self._connections.close()


class SqlTransaction:
    """One transaction in each database that is used."""

    def __init__(self, connections: Connections, state: State, quota_table: Table) -> None:
        self._connections = connections
        self._state = state
        self._related_data = SqlRelatedData(connections, state.renames)
        self._quota_table = quota_table

    async def unit(self, actor: Actor, rules: Rules) -> UnitOfWork:
        schema = await self._connections.databases["vmail"].schema()
        store = _Store(self._connections, schema, self._quota_table, self._state)
        unit = _UnitOfWork(actor, rules, store=store, features=features.SQL)
        unit.related_data = self._related_data
        return unit

    async def rehearse(self) -> None:
        """Do nothing: the statements were sent already."""

    async def commit(self) -> None:
        async with self._related_data.committing():
            await self._connections.commit()

    @property
    def partly_committed(self) -> bool:
        return self._connections.committed

    def is_undone(self, error: Exception) -> bool:
        return isinstance(error, DBAPIError) and is_undone(error)

    async def close(self) -> None:
        await self._connections.close()
        await self._related_data.discard_renames()


class SqlBackend:
    """Accounts in the SQL database ``vmail``."""

    features = features.SQL
    sees_own_writes = True
    errors: tuple[type[Exception], ...] = (DBAPIError,)
    # Also what ``add_users`` writes beside what decides on batches of requests.
    created_together = SqlUserBatching.created_fields | {
        "services", "custom_services", "held", "held_by_domain",
    }  # fmt: skip
    most_created_together = 256

    async def start(self) -> None:
        """Do nothing: the databases were checked when they were opened."""

    def __init__(self, databases: Databases, state: State, quota_table: Table) -> None:
        self._databases = databases
        self._state = state
        self._quota_table = quota_table
        self.user_batching = SqlUserBatching(databases["vmail"])

    async def begin_read(self) -> ReadTransaction:
        connections = await self._databases.open(writing=False)
        return SqlReadTransaction(connections, self._state, self._quota_table)

    async def begin(self, *, retry_reason: RetryUnit | None = None) -> Transaction:
        del retry_reason  # each attempt locks the rows that it reads
        connections = await self._databases.open(writing=True)
        return SqlTransaction(connections, self._state, self._quota_table)

    def is_transient(self, error: Exception) -> bool:
        # An unknown column or table: the schema has changed, and is read again.
        return isinstance(error, DBAPIError) and (is_retryable(error) or is_unknown_name(error))

    def translated(self, error: Exception) -> Exception:
        return translated(error) if isinstance(error, DBAPIError) else error

    def probes(self) -> Mapping[str, Probe]:
        return {}

    async def close(self) -> None:
        """Do nothing: the caller that opened the databases closes them."""
