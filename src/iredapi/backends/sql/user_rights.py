"""Rights of mail users as admins, in ``vmail``: the SQL role ``UserRights``."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import or_, select

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository


class SqlUserRights(AccountRepository):
    """See ``protocols.accounts.UserRights``."""

    async def globals_in(self, domain: str) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        return frozenset(
            await self.column(
                select(m.username).where(
                    await self.like(m.domain, [domain]),
                    or_(
                        m.isglobaladmin == 1,
                        m.username.in_(select(d.username).where(d.domain == "ALL")),
                    ),
                )
            )
        )

    async def admins_beyond(self, domain: str, managed: Collection[str]) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        return frozenset(
            await self.column(
                select(m.username).where(
                    m.domain.in_(await self.domain_names(m.domain, domain)),
                    m.username.in_(
                        select(d.username).where(d.domain.not_in([*sorted(managed), ""]))
                    ),
                )
            )
        )

    async def admins_in(self, domain: str) -> frozenset[str]:
        m, d = t.mailbox.c, t.domain_admins.c
        marked = or_(m.isadmin == 1, m.isglobaladmin == 1, m.username.in_(select(d.username)))
        names = await self.domain_names(m.domain, domain)
        found = select(m.username).where(m.domain.in_(names), marked)
        return frozenset(await self.column(found))
