"""Entries of an account or a domain for the LDIF export."""

from __future__ import annotations

from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.session import Session
from iredapi.domain.ldif import Export, Record


class LdapLdif:
    """See ``protocols.accounts.Ldif``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def records(self, what: Export, name: str) -> list[Record]:
        found = await self._entries(what, name)
        return [Record(entry.dn, entry.attributes) for entry in found if entry is not None]

    async def _entries(self, what: Export, name: str) -> list[Entry | None]:
        session, tree = self._session, self._session.tree
        match what:
            case Export.DOMAIN:
                domain = await session.domain(name)
                if domain is None:
                    return []
                containers = await session.find(
                    tree.domain(name), Scope.ONE, "(objectClass=organizationalUnit)"
                )
                return [domain, *sorted(containers, key=lambda entry: entry.dn.lower())]
            case Export.MAILLIST:
                found = await session.account("mailList", tree.mail_list(name), name)
                return [] if found is None else [found, await session.external(name)]
            case Export.CATCHALL:
                return [await session.account("mailUser", tree.catchall(name), f"@{name}")]
            case Export.ADMIN:
                return [await session.admin(name)]
            case Export.ALIAS:
                return [await session.account("mailAlias", tree.alias(name), name)]
            case Export.USER:
                return [await session.account("mailUser", tree.user(name), name)]
