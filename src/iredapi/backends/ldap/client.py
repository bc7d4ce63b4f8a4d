"""LDAP client of the process: one directory server, or several replicas of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from iredapi.backends.ldap.connection import Connection
from iredapi.backends.ldap.errors import LdapError, Unavailable
from iredapi.backends.ldap.escaping import depth, escape_filter, key_of, rdn
from iredapi.backends.ldap.model import Change, DirectoryOptions, Entry, Op, Scope, Search
from iredapi.backends.ldap.object_classes import Schema, names_in
from iredapi.backends.ldap.pool import Pool

__all__ = [
    "ANY_ENTRY",
    "Change",
    "Directory",
    "DirectoryOptions",
    "DirectoryReader",
    "Entry",
    "Op",
    "Scope",
    "Search",
    "escape_filter",
    "names_in",
    "rdn",
]

_T = TypeVar("_T")
_ALL: Final = ("*",)
ANY_ENTRY: Final = "(objectClass=*)"
_CLOSE_SECONDS: Final = 5.0
_TRIES: Final = 3
"""How often servers are compared: another one may stop meanwhile."""

_tls: tuple[str, bool] | None = None


def _claim_tls(options: DirectoryOptions) -> None:
    """Reserve the TLS configuration of this process: libldap supports only one."""
    global _tls  # noqa: PLW0603 - libldap's is global too
    if not options.starttls and not any(uri.startswith("ldaps:") for uri in options.uris):
        return
    wanted = (options.ca_file, options.verify)
    if _tls not in {None, wanted}:
        raise ValueError("this process uses another TLS configuration for LDAP already")
    _tls = wanted


class DirectoryReader:
    """Read access to a directory. A read is retried once if its connection was closed.

    Methods raise the exceptions of ``errors``, and end within a bounded time.
    """

    def __init__(self, options: DirectoryOptions) -> None:
        """Create the pool without connecting. Raises ValueError for invalid options."""
        _claim_tls(options)
        self._pool = Pool(options)
        self._schema: Schema | None = None
        self._reading_schema = asyncio.Lock()

    @property
    def open_connections(self) -> int:
        """Number of connections, idle or in use."""
        return self._pool.open

    @property
    def idle_connections(self) -> int:
        """Number of idle connections."""
        return self._pool.idle

    async def takes_writes(self) -> bool:
        """Tell whether the server in use accepts writes (cached for some seconds)."""
        if self._pool.is_known_to_take_writes():
            return True
        return await self._run(self._pool.takes_writes, retry=True)

    @property
    def others_may_write(self) -> bool:
        """Whether another server may accept a write that this one refused."""
        return self._pool.others_may_write

    async def search(
        self, base: str, scope: Scope, filter_text: str, names: Sequence[str] = _ALL
    ) -> list[Entry]:
        """Return all entries of a search; empty if there is no base."""
        return await self._run(
            lambda connection: connection.search(base, scope, filter_text, names), retry=True
        )

    async def search_all(self, searches: Sequence[Search]) -> list[list[Entry]]:
        """Return the entries of several searches, made one after the other in one thread turn."""
        return await self._run(
            lambda connection: [connection.search(*search) for search in searches], retry=True
        )

    async def look(self, work: Callable[[Connection], _T]) -> _T:
        """Run several searches, each of which depends on the one before, in one thread turn."""
        return await self._run(work, retry=True)

    async def pages(
        self,
        base: str,
        scope: Scope,
        filter_text: str,
        names: Sequence[str] = _ALL,
        *,
        size: int = 500,
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield the entries of a search in pages of at most ``size`` (RFC 2696).

        It keeps a connection until the last page, or until the generator is closed.
        """
        pooled = await self._pool.acquire()
        try:
            entries, more = await pooled.run(
                lambda connection: connection.first_page(base, scope, filter_text, names, size),
                retry=True,
            )
            while more is not None:
                if entries:
                    yield entries
                found = more
                entries, more = await pooled.run(
                    lambda connection: connection.next_page(found, names)  # noqa: B023
                )
        finally:
            pooled.release()

    async def get(self, dn: str, names: Sequence[str] = _ALL) -> Entry | None:
        """Return one entry, or None."""
        found = await self.search(dn, Scope.BASE, ANY_ENTRY, names)
        return found[0] if found else None

    async def below(self, dn: str) -> list[Entry]:
        """Return all entries below an entry, deepest first, with all attributes."""
        found = await self.search(dn, Scope.SUB, ANY_ENTRY)
        inside = [entry for entry in found if key_of(entry.dn) != key_of(dn)]
        return sorted(inside, key=lambda entry: -depth(entry.dn))

    async def schema(self) -> frozenset[str]:
        """Return the names of all attributes and object classes in the schema, lower case."""
        return (await self.definitions()).names

    async def definitions(self) -> Schema:
        """Return the server's schema; it is read once."""
        if self._schema is None:
            async with self._reading_schema:
                if self._schema is None:
                    self._schema = await self._read_schema()
        return self._schema

    async def _run(self, work: Callable[[Connection], _T], *, retry: bool = False) -> _T:
        pooled = await self._pool.acquire()
        try:
            return await pooled.run(work, retry=retry)
        finally:
            pooled.release()

    async def _read_schema(self) -> Schema:
        root = await self.get("", ("subschemaSubentry",))
        base = (root.value("subschemaSubentry") if root else "") or "cn=Subschema"
        found = await self.search(
            base, Scope.BASE, "(objectClass=subschema)", ("attributeTypes", "objectClasses")
        )
        if not found:
            raise LdapError(32, "the server does not publish its schema")
        return Schema.read(found[0].values("attributeTypes"), found[0].values("objectClasses"))


class Directory(DirectoryReader):
    """Read and write access to a directory."""

    async def add(self, dn: str, attributes: Mapping[str, Collection[str | bytes]]) -> None:
        """Add an entry. An attribute without values is left out."""
        await self._run(lambda connection: connection.add(dn, attributes))

    async def modify(self, dn: str, changes: Sequence[Change]) -> None:
        """Execute all changes in order, or none of them."""
        if changes:
            await self._run(lambda connection: connection.modify(dn, changes))

    async def delete(self, dn: str) -> None:
        """Delete an entry that has no children."""
        await self._run(lambda connection: connection.delete(dn))

    async def rename(self, dn: str, new_dn: str) -> None:
        """Change the DN of an entry, and of all entries below it.

        The value of the old RDN is deleted from the entry.
        """
        await self._run(lambda connection: connection.rename(dn, new_dn))

    @property
    def is_one_of_several(self) -> bool:
        """Whether there are several servers."""
        return self._pool.is_one_of_several

    @property
    def changes_of_servers(self) -> int:
        """How often a server has stopped, or was used again, as far as is known."""
        return self._pool.changes_of_servers

    async def replicated(self, since: int) -> None:
        """Wait until all servers that accept writes have the changes of all of them.

        Raises Unavailable when one of them stops meanwhile, or has since ``changes_of_servers`` was
        asked: writes may have gone to several servers then. One that lags is not used any more.
        """
        await self._run(self._pool.wait_for_others)
        if self._pool.changes_of_servers != since:
            raise Unavailable("another server is used now", uncertain=True)

    async def catch_up(self) -> None:
        """Wait until the server in use has the changes of all others that are up.

        Another process may have written to one of them. A server that lags is not used any more.
        """
        if not self.is_one_of_several:
            return
        for _ in range(_TRIES):
            # A server that stops meanwhile is left out the next time.
            with suppress(Unavailable):
                await self._run(self._pool.wait_for_others)
                return

    async def close(self) -> None:
        """Close all connections; operations still running after 5 seconds are interrupted."""
        await self._pool.close(_CLOSE_SECONDS)
