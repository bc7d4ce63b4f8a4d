"""The SQL backend: transactions on ``vmail`` and the policy databases, with all their roles."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError

from iredapi.backends.policies.greylists import SqlGreylists
from iredapi.backends.policies.related_data import SqlRelatedData
from iredapi.backends.policies.spam import SqlSpamPolicies
from iredapi.backends.policies.throttles import SqlThrottles
from iredapi.backends.policies.wblists import SqlWblists
from iredapi.backends.protocols.backend import ReadTransaction, Transaction
from iredapi.backends.protocols.values import RetryUnit
from iredapi.backends.sql.addresses import SqlAddresses
from iredapi.backends.sql.admins import SqlAdmins
from iredapi.backends.sql.aliases import SqlAliases
from iredapi.backends.sql.deleted_mailboxes import SqlDeletedMailboxes
from iredapi.backends.sql.domains import SqlDomains
from iredapi.backends.sql.lists import SqlLists
from iredapi.backends.sql.usage import SqlUsage
from iredapi.backends.sql.user_batches import SqlUserBatches, SqlUserBatching
from iredapi.backends.sql.users import SqlUsers
from iredapi.backends.unit_of_work import ReadUnit, Rules, UnitOfWork
from iredapi.database.errors import is_retryable, is_undone, is_unknown_name, translated
from iredapi.database.session import Connections, Databases
from iredapi.domain import features
from iredapi.domain.actors import Actor
from iredapi.observability.health_checks import Probe
from iredapi.state import State


class SqlReadTransaction:
    """Roles that read, on connections in autocommit mode that refuse to write."""

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
            deleted_mailboxes=SqlDeletedMailboxes(self._connections, schema),
            usage=SqlUsage(*store),
        )

    async def close(self) -> None:
        await self._connections.close()


class SqlTransaction:
    """One transaction in each database that is used."""

    def __init__(self, connections: Connections, state: State, quota_table: Table) -> None:
        self._connections = connections
        self._related_data = SqlRelatedData(connections, state.renames)
        self._quota_table = quota_table

    async def unit(self, actor: Actor, rules: Rules) -> UnitOfWork:
        schema = await self._connections.databases["vmail"].schema()
        store = (self._connections, schema, self._quota_table)
        return UnitOfWork(
            actor=actor,
            rules=rules,
            domains=SqlDomains(*store),
            users=SqlUsers(*store),
            admins=SqlAdmins(*store),
            aliases=SqlAliases(*store),
            lists=SqlLists(*store),
            addresses=SqlAddresses(*store),
            user_batches=SqlUserBatches(*store),
            features=features.SQL,
            related_data=self._related_data,
            throttles=SqlThrottles(self._connections),
            greylists=SqlGreylists(self._connections),
            spam_policies=SqlSpamPolicies(self._connections),
            wblists=SqlWblists(self._connections),
            deleted_mailboxes=SqlDeletedMailboxes(self._connections, schema),
            usage=SqlUsage(*store),
        )

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
    errors: tuple[type[Exception], ...] = (DBAPIError,)

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
