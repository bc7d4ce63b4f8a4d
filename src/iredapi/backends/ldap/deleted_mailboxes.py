"""``deleted_mailboxes`` in iRedAdmin's database, of users that were in LDAP."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, and_, false, or_

from iredapi.backends.ldap.client import Scope
from iredapi.backends.ldap.dn_layout import DOMAIN
from iredapi.backends.ldap.session import Session
from iredapi.backends.sql import tables as t
from iredapi.backends.sql.deleted_mailboxes import SqlDeletedMailboxes
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.deleted_mailboxes import Wanted


class LdapDeletedMailboxes(SqlDeletedMailboxes):
    """See ``protocols.deleted_mailboxes.DeletedMailboxes``."""

    name = "iredadmin"

    def __init__(self, connections: Connections, session: Session) -> None:
        super().__init__(connections)
        self._session = session

    async def _since_creation(self, wanted: Wanted) -> ColumnElement[bool]:
        q = t.deleted_mailboxes.c
        entries = await self._session.holders(
            self._session.tree.base, Scope.ONE, DOMAIN, "domainName",
            sorted(wanted.domains or ()), ("domainName", "createTimestamp"),
        )  # fmt: skip
        terms = []
        for entry in entries:
            try:
                created = datetime.strptime(entry.value("createTimestamp")[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 (the tables hold no zone)
            except ValueError:
                continue
            name = entry.value("domainName").lower()
            terms.append(and_(is_like(q.domain, [name]), q.timestamp > created))
        return or_(false(), *terms)
