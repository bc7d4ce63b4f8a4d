"""Entries for an export."""

from __future__ import annotations

from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.session import Session, words
from iredapi.domain.ldif import Export, Record


class LdapLdif:
    """See ``protocols.Ldif``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def records(self, what: Export, name: str) -> list[Record]:
        found = await self._entries(what, name)
        return [Record(entry.dn, entry.attributes) for entry in found if entry is not None]

    async def _entries(self, what: Export, name: str) -> list[Entry | None]:
        session, tree = self._session, self._session.tree
        match what:
            case Export.DOMAIN:
                domain = await session.entry(tree.domain(name))
                if domain is None:
                    return []
                containers = await session.find(
                    tree.domain(name), Scope.ONE, "(objectClass=organizationalUnit)"
                )
                return [domain, *sorted(containers, key=lambda entry: entry.dn.lower())]
            case Export.MAILLIST:
                found = await session.entry(tree.mail_list(name))
                if found is None or "maillist" not in words(found, "objectClass"):
                    return []
                return [found, await session.entry(tree.external(name))]
            case Export.CATCHALL:
                return [await session.entry(tree.catchall(name))]
            case Export.ADMIN:
                return [await session.entry(tree.admin(name))]
            case Export.ALIAS:
                return [await session.entry(tree.alias(name))]
            case Export.USER:
                return [await session.entry(tree.user(name))]
