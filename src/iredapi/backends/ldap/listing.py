"""Pages of lists in LDAP, from a server that does not sort (docs/adr/0015).

In the order of names, the next ones are searched for. For another order all keys of a list are read
and sorted here; they are kept for a minute, for the next pages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from iredapi.backends.ldap.client import Entry, Scope
from iredapi.backends.ldap.connection import Connection
from iredapi.backends.ldap.dn_layout import both, either, ends, equal
from iredapi.backends.ldap.escaping import escape_filter
from iredapi.backends.ldap.ordered_names import GaveUp, Part, next_names
from iredapi.backends.ldap.session import TERMS, Session, number, value_of_rdn, words
from iredapi.domain.addresses import domain_of
from iredapi.domain.listing import Key, ListQuery

Value = str | int
_Sorted = list[tuple[Value, str]]
_Entries = dict[str, Entry]
Sort = tuple[str, Callable[[Entry], Value]]
"""An attribute, and what an entry that has been read with it is sorted by."""


def text_of(attribute: str) -> Sort:
    """Return a sort by a text, in any case."""
    return attribute, lambda entry: entry.value(attribute).strip().lower()


def number_of(attribute: str) -> Sort:
    """Return a sort by a number; 0 where there is none."""
    return attribute, lambda entry: number(entry.value(attribute))


_SEARCHED: Final = 201
"""Pages of so many names are searched for, and first pages of any length."""
_INDEXED: Final = 4
"""Characters of a text that slapd's index of substrings has together."""
_TIMES: Final[Mapping[str, Sort]] = {
    "created": text_of("createTimestamp"),
    "modified": text_of("modifyTimestamp"),
}


@dataclass(frozen=True, slots=True)
class Listed:
    """How the entries of a kind are listed."""

    name: str
    """Tells the list from others, in the cache."""
    kind: str
    """The filter of its entries."""
    texts: tuple[str, ...]
    """The attributes that are searched."""
    key: str = "mail"
    """The attribute of names."""
    sorts: Mapping[str, Sort] = field(default_factory=dict)
    """What else the list can be sorted by, beside ``address``, ``created`` and ``modified``."""
    scope: Scope = Scope.SUB
    added: frozenset[str] = frozenset()
    """Keys of profiles that are no attributes."""


class ListingReader:
    """Base of the roles whose accounts are listed in pages; see ``protocols.accounts.Listed``."""

    listed: ClassVar[Listed]

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = session.tree

    async def keys(
        self, domains: Collection[str] | None, query: ListQuery, after: Key | None, limit: int
    ) -> list[Key]:
        # A long page takes many searches; later ones are faster when all names are known.
        if _is_searched_for(query, domains) and (after is None or limit <= _SEARCHED):
            names = await self._next_names(domains, query, after, limit)
            if names is not None:
                return [Key(name) for name in names]
        every = await self._every(domains, query, fresh=after is None)
        if query.descending:
            end = len(every) if after is None else bisect_left(every, _place(after))
            some = every[max(end - limit, 0) : end][::-1]
        else:
            start = 0 if after is None else bisect_right(every, _place(after))
            some = every[start : start + limit]
        return [Key(name, value if query.by_value else None) for value, name in some]

    async def count(self, domains: Collection[str] | None, query: ListQuery) -> int:
        # The page has just read the same list, as a rule.
        return len(await self._every(domains, query, fresh=False))

    def fields(self) -> Collection[str]:
        return self._session.attributes | self.listed.added

    async def values(self, sort: str, domains: Collection[str] | None) -> Mapping[str, int] | None:
        """Return what a list is sorted by, by name, where another system has it; None: LDAP has."""
        del sort, domains
        return None

    async def entries(self, names: Sequence[str], attributes: Sequence[str] = ("*",)) -> _Entries:
        """Return the entries that still have these names, by name."""
        wanted, listed = frozenset(names), self.listed
        found = await self._session.holders(
            self._tree.base, listed.scope, listed.kind, listed.key, names, attributes
        )
        return {name: entry for entry in found for name in words(entry, listed.key) & wanted}

    async def _next_names(
        self, domains: Collection[str] | None, query: ListQuery, after: Key | None, limit: int
    ) -> list[str] | None:
        """Return the next names in their order; None: all names have to be read."""
        listed, base, key = self.listed, self._tree.base, self.listed.key
        scope = None if domains is None else frozenset(domains)
        whole = _filter(listed, scope, query)

        def work(connection: Connection) -> list[str] | None:
            def search(part: Part | None, size: int) -> list[str]:
                wanted = whole if part is None else both(whole, _begins(key, part))
                entries, _ = connection.first_page(base, listed.scope, wanted, (key,), size)
                return [_name(entry, key, scope) for entry in entries]

            place = None if after is None else after.name
            try:
                return next_names(search, place, limit, descending=query.descending)
            except GaveUp:
                return None

        if after is None:
            # Those that ``count`` counts are read again.
            self._session.listings.forget(self._cache_key(scope, query))
        return await self._session.directory.look(work)

    def _cache_key(self, scope: frozenset[str] | None, query: ListQuery) -> Hashable:
        # Both directions have one order.
        return ("pages", self.listed.name, scope, query.sort, *query.parts()[2:])

    async def _every(
        self, domains: Collection[str] | None, query: ListQuery, *, fresh: bool
    ) -> _Sorted:
        scope = None if domains is None else frozenset(domains)
        key = self._cache_key(scope, query)

        async def read() -> _Sorted:
            found = await _read(self._session, self.listed, scope, query)
            theirs = await self.values(query.sort, domains)
            if theirs is not None:
                found = [(theirs.get(name, 0), name) for _, name in found]
            return sorted(found)

        return await self._session.listings.whole(key, read, fresh=fresh)


def _is_searched_for(query: ListQuery, domains: Collection[str] | None) -> bool:
    """Return whether the next names are found by the index of substrings."""
    if query.by_value or query.search or query.modified_since is not None:
        return False
    return domains is None or len(domains) <= TERMS


def _begins(key: str, part: Part) -> str:
    """Return a filter: a name begins so. The end of a long beginning is looked up by itself."""
    terms = []
    for text, whole in part:
        if whole:
            terms.append(equal(key, text))
            continue
        term = f"({key}={escape_filter(text)}*)"
        if len(text) > _INDEXED:
            term = both(term, f"({key}=*{escape_filter(text[-_INDEXED:])}*)")
        terms.append(term)
    return either(terms)


def _place(after: Key) -> tuple[Value, str]:
    return ("" if after.value is None else after.value, after.name)


async def _read(
    session: Session, listed: Listed, domains: frozenset[str] | None, query: ListQuery
) -> _Sorted:
    sort = {**_TIMES, **listed.sorts}.get(query.sort)
    names = [listed.key, *([sort[0]] if sort else [])]
    found: dict[str, Value] = {}
    pages = session.pages(session.tree.base, listed.scope, _filter(listed, domains, query), names)
    async for page in pages:
        for entry in page:
            name = _name(entry, listed.key, domains)
            if name:
                found[name] = sort[1](entry) if sort else ""
    return [(value, name) for name, value in found.items()]


def _name(entry: Entry, key: str, domains: frozenset[str] | None) -> str:
    """Return the name of an entry: the one in its RDN if it is one of the list's, or the first."""
    own = sorted(
        name
        for name in words(entry, key)
        if key != "mail" or domains is None or domain_of(name) in domains
    )
    if len(own) < 2:
        return next(iter(own), "")
    named = value_of_rdn(entry.dn)
    return named if named in own else own[0]


def _filter(listed: Listed, domains: frozenset[str] | None, query: ListQuery) -> str:
    terms = [listed.kind]
    if domains is not None:
        terms.append(_within(listed.key, sorted(domains)))
    if query.active is not None:
        active = equal("accountStatus", "active")
        terms.append(active if query.active else f"(!{active})")
    if query.modified_since is not None:
        digits = "".join(filter(str.isdigit, query.modified_since.isoformat(" ", "seconds")))
        terms.append(f"(modifyTimestamp>={digits}Z)")
    if query.search:
        shown = [n for n in listed.texts if n == listed.key or n.lower() not in query.hidden]
        terms.append(either(f"({name}=*{escape_filter(query.search)}*)" for name in shown))
    return both(*terms)


def _within(key: str, domains: Sequence[str]) -> str:
    if not domains:
        return "(!(objectClass=*))"
    if key != "mail":
        return either(equal(key, name) for name in domains)
    return either(ends("mail", f"@{name}") for name in domains)
