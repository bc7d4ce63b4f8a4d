"""Transactions on the directory and the SQL databases, and the roles of their units."""

from __future__ import annotations

from functools import partial

from sqlalchemy.exc import DBAPIError

from iredapi.backends.ldap.admins import LdapAdmins
from iredapi.backends.ldap.aliases import LdapAddresses, LdapAliases
from iredapi.backends.ldap.deleted_mailboxes import LdapDeletedMailboxes, creation_times
from iredapi.backends.ldap.directories import LdapUnit
from iredapi.backends.ldap.domains import LdapDomains
from iredapi.backends.ldap.ldif import LdapLdif
from iredapi.backends.ldap.lists import LdapLists
from iredapi.backends.ldap.maillists import LdapMailLists
from iredapi.backends.ldap.usage import LdapUsage
from iredapi.backends.ldap.user_batches import LdapUserBatches
from iredapi.backends.ldap.users import LdapUsers
from iredapi.backends.policies.greylists import SqlGreylists
from iredapi.backends.policies.log import SqlLog
from iredapi.backends.policies.related_data import SqlRelatedData
from iredapi.backends.policies.spam import SqlSpamPolicies
from iredapi.backends.policies.throttles import SqlThrottles
from iredapi.backends.policies.wblists import SqlWblists
from iredapi.backends.sql.spelled_columns import IredadminSpellings
from iredapi.backends.unit_of_work import ReadUnit, Rules, UnitOfWork
from iredapi.database.errors import is_undone
from iredapi.domain import features
from iredapi.domain.actors import Actor
from iredapi.state import State


class LdapReadTransaction:
    """A session with a read-only plan, and SQL connections in autocommit that refuse writes."""

    def __init__(self, unit: LdapUnit, state: State) -> None:
        self._unit = unit
        self._state = state

    async def unit(self, actor: Actor, rules: Rules) -> ReadUnit:
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
            deleted_mailboxes=LdapDeletedMailboxes(
                connections, self._state.guarded_mailboxes, session
            ),
            usage=LdapUsage(session),
            log=SqlLog(
                connections,
                partial(creation_times, session),
                IredadminSpellings(connections).like,
            ),
        )

    async def close(self) -> None:
        await self._unit.close()


class LdapTransaction:
    """A write plan for the directory, and one transaction in each SQL database that is used."""

    def __init__(self, unit: LdapUnit, state: State) -> None:
        self._unit = unit
        self._state = state
        self._related_data = SqlRelatedData(unit.connections, state.renames)

    async def unit(self, actor: Actor, rules: Rules) -> UnitOfWork:
        session, connections = self._unit.session, self._unit.connections
        self._opened = UnitOfWork(
            actor=actor,
            rules=rules,
            domains=LdapDomains(session),
            users=LdapUsers(session),
            user_batches=LdapUserBatches(session),
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
            deleted_mailboxes=LdapDeletedMailboxes(
                connections, self._state.guarded_mailboxes, session
            ),
            usage=LdapUsage(session),
            log=SqlLog(
                connections,
                partial(creation_times, session),
                IredadminSpellings(connections).like,
            ),
        )
        return self._opened

    async def rehearse(self) -> None:
        await self._unit.rehearse()

    async def commit(self) -> None:
        async with self._related_data.committing():
            await self._unit.commit()
        for left_out in self._unit.session.left_out:
            self._opened.skip(*left_out)

    @property
    def partly_committed(self) -> bool:
        return self._unit.connections.committed

    def is_undone(self, error: Exception) -> bool:
        begun = self._unit.plan_begun
        return not begun and isinstance(error, DBAPIError) and is_undone(error)

    async def close(self) -> None:
        await self._unit.close()
        await self._related_data.discard_renames()
