"""Session: what all LDAP roles of one unit share (directory, cached entries, locks, plan)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from iredapi.backends.ldap.client import ANY_ENTRY, Change, DirectoryReader, Entry, Scope, Search
from iredapi.backends.ldap.dn_layout import DOMAIN, EXTERNAL, Tree, both, either, equal, same
from iredapi.backends.ldap.entry_diff import Edit
from iredapi.backends.ldap.errors import LdapError, NotUnique, PasswordRefused
from iredapi.backends.ldap.escaping import depth, split_rdn
from iredapi.backends.ldap.iredadmin_mailbox_tables import IredadminAccounts
from iredapi.backends.ldap.list_cache import Listings
from iredapi.backends.ldap.locks import UnitLocks
from iredapi.backends.ldap.object_classes import Schema
from iredapi.backends.ldap.write_plan import Add, BulkStep, Delete, Plan, encoded
from iredapi.domain.addresses import domain_of

CHUNK = 200
"""Entries in one page of a search for all accounts of a domain."""
_NAMES = 1000
"""The same for their names only. slapd finds the candidates of a search anew for each page."""
TERMS = 20
"""Values in one filter. slapd compares each candidate with each value: one filter of 200 values was
four times slower than ten filters of 20."""
_OPTIONAL = frozenset({"mailboxformat", "mailboxfolder", "listowner", "listmoderator"})
"""Attributes that the schema of older iRedMail releases does not have."""


def chunks(values: Collection[str]) -> list[list[str]]:
    """Split values into sorted lists of at most ``TERMS``, one for each filter."""
    every = sorted(values)
    return [every[start : start + TERMS] for start in range(0, len(every), TERMS)]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the LDAP roles."""

    member_dns: bool = True


class Session:
    """One unit of work on the directory; without ``locks`` it can only read.

    Writes are collected in ``plan`` and sent when the unit commits.
    """

    def __init__(
        self,
        directory: DirectoryReader,
        tree: Tree,
        iredadmin: IredadminAccounts,
        options: Options,
        listings: Listings,
        locks: UnitLocks | None,
        schema: Schema,
    ) -> None:
        self.directory = directory
        # DNs of domains that do not have the usual DN are cached for this unit only.
        self.tree = replace(tree, other_dns={})
        self.iredadmin = iredadmin
        self.options = options
        self.listings = listings
        self.plan = Plan(read_only=locks is None)
        self.after: list[Callable[[], Awaitable[None]]] = []
        """Callbacks for after the plan was executed."""
        self.failed: list[Callable[[], Awaitable[None]]] = []
        """Callbacks for after the plan failed and was undone."""
        self.left_out: list[tuple[str, str, str]] = []
        """Values that a write left out: attribute or ``mail``, account, reason."""
        self._locks = locks
        self._schema = schema
        self._known = schema.names
        self._entries: dict[str, Entry | None] = {}
        self._searched: dict[tuple[str, str], list[Entry]] = {}

    # -- reading -----------------------------------------------------------------------------------

    async def lock(self, *domains: str) -> None:
        """Lock domain parts of addresses; a unit that only reads locks nothing."""
        if self._locks is not None and not self._locks.names.issuperset(domains):
            await self._locks.take(*domains)
            # Entries that were read before the lock was held may be outdated.
            self._entries.clear()
            self._searched.clear()

    async def entry(self, dn: str) -> Entry | None:
        """Return an entry; it is read once in a unit."""
        key = same(dn)
        if key not in self._entries:
            self._entries[key] = await self.directory.get(dn)
        return self._entries[key]

    async def read_ahead(
        self,
        dns: Sequence[str],
        searches: Sequence[Search] = (),
    ) -> list[list[Entry]]:
        """Read entries that ``entry`` returns later, and make searches, in one thread turn."""
        new = [dn for dn in dns if same(dn) not in self._entries]
        reads = [(dn, Scope.BASE, ANY_ENTRY, ("*",)) for dn in new]
        found = await self.directory.search_all([*reads, *searches])
        for dn, entries in zip(new, found, strict=False):
            self._entries[same(dn)] = entries[0] if entries else None
        return found[len(new) :]

    async def domain(self, name: str) -> Entry | None:
        """Return the entry of a mail domain: by its usual DN, or else by ``domainName``."""
        entry = await self.entry(self.tree.domain(name))
        if entry is not None and "maildomain" in words(entry, "objectClass"):
            return entry
        found = await self.find(self.tree.base, Scope.ONE, both(DOMAIN, equal("domainName", name)))
        for entry in found[:1]:
            self.tree.other_dns[name] = entry.dn
            return self.remember(entry)
        return None

    async def account(self, kind: str, dn: str, mail: str) -> Entry | None:
        """Return the entry of an account: by its usual DN, or else by its address."""
        entry = await self.entry(dn)
        if entry is not None and kind.lower() in words(entry, "objectClass"):
            return entry
        found = await self.accounts(kind, mail)
        return found[0] if found else None

    async def accounts(self, kind: str, mail: str) -> list[Entry]:
        """Return all entries of a kind that have an address, those below its domain first.

        Usually there is one. Another program may have made more, and Postfix finds them all.
        """
        if (kind, mail) not in self._searched:
            found = await self.find(
                self.tree.base, Scope.SUB, both(f"(objectClass={kind})", equal("mail", mail))
            )
            domain_dn = same(self.tree.domain(domain_of(mail)))
            found.sort(key=lambda entry: (not same(entry.dn).endswith(domain_dn), same(entry.dn)))
            self._searched[kind, mail] = [self.remember(entry) for entry in found]
        return self._searched[kind, mail]

    async def admin(self, mail: str) -> Entry | None:
        """Return the entry of a standalone admin: by its usual DN, or else by its address."""
        entry = await self.entry(self.tree.admin(mail))
        if entry is not None:
            return entry
        key = ("mailAdmin", mail)
        if key not in self._searched:
            kind = both("(objectClass=mailAdmin)", equal("mail", mail))
            found = await self.find(self.tree.admin_base, Scope.SUB, kind)
            self._searched[key] = [self.remember(entry) for entry in found]
        return next(iter(self._searched[key]), None)

    async def external(self, address: str) -> Entry | None:
        """Return the entry of a list's external members: by its usual DN, or else by the list."""
        entry = await self.entry(self.tree.external(address))
        if entry is not None:
            return entry
        kind = both(EXTERNAL, equal("memberOfGroup", address))
        found = await self.find(self.tree.base, Scope.SUB, kind)
        return self.remember(found[0]) if found else None

    def remember(self, entry: Entry) -> Entry:
        """Cache an entry that a search has found; return the cached one if there is one."""
        return self._entries.setdefault(same(entry.dn), entry) or entry

    async def find(
        self, base: str, scope: Scope, filter_text: str, names: Sequence[str] = ("*",)
    ) -> list[Entry]:
        """Search; the result is empty if there is no base."""
        return await self.directory.search(base, scope, filter_text, names)

    async def find_all(self, searches: Sequence[Search]) -> list[list[Entry]]:
        """Make several searches in one thread turn."""
        return await self.directory.search_all(searches) if searches else []

    def pages(
        self, base: str, scope: Scope, filter_text: str, names: Sequence[str] = ("*",)
    ) -> AsyncIterator[list[Entry]]:
        """Search for many entries, page by page."""
        return self.directory.pages(base, scope, filter_text, names, size=CHUNK)

    def pages_of_names(
        self, scope: Scope, filter_text: str, name: str
    ) -> AsyncIterator[list[Entry]]:
        """Search below the base for the attribute that names entries, page by page."""
        return self.directory.pages(self.tree.base, scope, filter_text, (name,), size=_NAMES)

    async def holders(
        self, base: str, scope: Scope, kind: str, attribute: str, values: Collection[str],
        names: Sequence[str] = ("*",),
    ) -> list[Entry]:  # fmt: skip
        """Return the entries of a kind that have one of these values."""
        found: list[Entry] = []
        for some in chunks(values):
            terms = either(equal(attribute, value) for value in some)
            found += await self.find(base, scope, both(kind, terms), names)
        return found

    # -- writing -----------------------------------------------------------------------------------

    def edit(self, entry: Entry) -> Edit:
        """Return the edit of an entry."""
        return self.plan.edit(entry)

    def fit(self, edit: Edit) -> None:
        """Adapt an edit to the server's schema; what it cannot store goes to ``left_out``."""
        for name in edit.fit(self._schema):
            # The date of a password is not a value that the request sent.
            if name.lower() != "shadowlastchange":
                self.left_out.append((name, value_of_rdn(edit.dn), "NOT_ALLOWED_BY_SCHEMA"))

    def add(self, dn: str, attributes: Mapping[str, Collection[str | bytes]]) -> None:
        """Plan a new entry, without attributes that the server's schema does not have."""
        there = {name: values for name, values in encoded(attributes).items() if self.knows(name)}
        self.plan.append(Add(dn, there))

    async def delete(self, entry: Entry) -> None:
        """Plan the removal of an entry, after that of all entries below it."""
        for below in await self.directory.below(entry.dn):
            self.plan.append(Delete(below.dn, dict(below.attributes)))
        self.plan.append(Delete(entry.dn, dict(entry.attributes)))

    def change_found(
        self,
        base: str,
        filter_text: str,
        change: Callable[[Entry], Sequence[Change] | None],
        names: Sequence[str] = ("*",),
        scope: Scope = Scope.SUB,
    ) -> None:
        """Plan a bulk step on all entries of a search; ``change`` returns None to delete one."""
        self.plan.append(BulkStep(lambda: self.pages(base, scope, filter_text, names), change))

    def edit_found(
        self,
        base: str,
        filter_text: str,
        change: Callable[[Edit], None],
        names: Sequence[str] = ("*",),
        *,
        some: bool = False,
    ) -> None:
        """Plan a bulk step that edits all entries that a search finds, ``base`` included.

        Entries that the server refuses to change go to ``left_out``; with ``some`` it is an error
        if it refuses all of them.
        """

        def changes(entry: Entry) -> Sequence[Change]:
            edit = Edit(entry)
            change(edit)
            self.fit(edit)
            return edit.changes()

        def left_out(entry: Entry, error: LdapError) -> None:
            reason = "DIRECTORY_REFUSED"
            if isinstance(error, PasswordRefused):
                reason = "PW_REFUSED_BY_DIRECTORY"
            elif isinstance(error, NotUnique):
                reason = "ALREADY_EXISTS"
            self.left_out.append(("mail", value_of_rdn(entry.dn), reason))

        wanted = names if "*" in names else (*names, "objectClass")
        self.plan.append(
            BulkStep(
                lambda: self.pages(base, Scope.SUB, filter_text, wanted), changes, left_out, some
            )
        )

    def delete_subtree(self, base: str) -> None:
        """Plan a bulk step that deletes everything below an entry, then the entry."""

        async def find() -> AsyncIterator[list[Entry]]:
            left = await self.find(base, Scope.SUB, "(objectClass=*)", ("1.1",))
            yield sorted(left, key=lambda entry: -depth(entry.dn))

        self.plan.append(BulkStep(find, lambda _entry: None))

    @property
    def attributes(self) -> frozenset[str]:
        """The names of all attributes and object classes of the server's schema, lower case."""
        return self._known

    def knows(self, attribute: str) -> bool:
        """Tell whether the server's schema has an attribute."""
        low = attribute.lower()
        return low not in _OPTIONAL or not self._known or low in self._known


def value_of_rdn(dn: str) -> str:
    """Return the value in the RDN of an entry, usually an address, in lower case."""
    return same(split_rdn(dn)[0]).partition("=")[2]


def address_in(entry: Entry, domain: str) -> str:
    """Return the address of an entry in a domain: the one in its RDN, or else the first.

    Usually an entry has only one.
    """
    mails = entry.values("mail")
    if len(mails) == 1 and domain_of(only := mails[0].strip().lower()) == domain:
        return only
    own = sorted(mail for mail in words(entry, "mail") if domain_of(mail) == domain)
    name = value_of_rdn(entry.dn)
    return name if name in own or not own else own[0]


def flag(entry: Entry, name: str, word: str) -> bool:
    """Tell whether the first value of an attribute is a word, regardless of case."""
    return entry.value(name).strip().lower() == word


def words(entry: Entry, name: str) -> frozenset[str]:
    """Return the values of an attribute, lower case."""
    return frozenset(value.strip().lower() for value in entry.values(name) if value.strip())


def number(text: str) -> int:
    """Return a whole number; 0 for anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
