"""``deleted_mailboxes`` in iRedAdmin's database, of users that were in LDAP."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
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
from iredapi.state.guarded_mailboxes import GuardedMailboxes


class LdapDeletedMailboxes(SqlDeletedMailboxes):
    """See ``protocols.deleted_mailboxes.DeletedMailboxes``."""

    name = "iredadmin"

    def __init__(
        self, connections: Connections, guarded: GuardedMailboxes, session: Session
    ) -> None:
        super().__init__(connections, guarded)
        self._session = session

    async def _since_creation(self, wanted: Wanted) -> ColumnElement[bool]:
        q = t.deleted_mailboxes.c
        created = await creation_times(self._session, wanted.domains or ())
        return or_(
            false(),
            *(
                and_(is_like(q.domain, [name]), self.earliest() > moment)
                for name, moment in created.items()
            ),
        )


async def creation_times(session: Session, names: Collection[str]) -> dict[str, datetime]:
    """Return when domains were created (UTC), by their names; those without a date are missing."""
    entries = await session.holders(
        session.tree.base, Scope.ONE, DOMAIN, "domainName", sorted(names),
        ("domainName", "createTimestamp"),
    )  # fmt: skip
    found = {}
    for entry in entries:
        with suppress(ValueError):
            created = datetime.strptime(entry.value("createTimestamp")[:14], "%Y%m%d%H%M%S")  # noqa: DTZ007 (the tables hold no zone)
            found[entry.value("domainName").lower()] = created
    return found
