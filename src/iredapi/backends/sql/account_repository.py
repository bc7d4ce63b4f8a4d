"""The base of all repositories of accounts in ``vmail``: spellings of names, related rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from iredapi.backends.sql import tables
from iredapi.backends.sql.spelled_columns import SpellingRepository, names_of
from iredapi.database.column_types import MYSQL
from iredapi.database.live_schema import Schema
from iredapi.database.repository import chunks, now
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import domain_of, fold, spellings, typed
from iredapi.errors import Conflict

Found = TypeVar("Found")


def owned(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Match rows that belong to the account or domain that is stored as ``name``."""
    names = names_of(name)
    return column == name if len(names) == 1 else column.in_(names)


def in_domain(column: ColumnElement[Any], names: Sequence[str]) -> ColumnElement[bool]:
    """Match, in a statement that is compiled once, a domain in any of its spellings.

    ``names_in`` returns the values of the parameters.
    """
    return or_(*(column == bindparam(f"domain_{number}") for number in range(len(names))))


def names_in(names: Sequence[str]) -> dict[str, Any]:
    """Return the values of the parameters of ``in_domain``."""
    return {f"domain_{number}": str(name) for number, name in enumerate(names)}


def select_related(
    kind: str | ColumnElement[Any],
    owner: ColumnElement[Any],
    text: ColumnElement[Any],
    *where: ColumnElement[bool],
    number: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """Select rows of one related table as one branch of a UNION: kind, owner, text, number."""
    return select(
        (literal_column(f"'{kind}'") if isinstance(kind, str) else kind).label("kind"),
        cast(owner, String(255)).label("owner"),
        cast(text, String(255)).label("text"),
        (literal(0, Integer) if number is None else number).label("number"),
    ).where(*where)


def demotable() -> tuple[ColumnElement[bool], ...]:
    """Match mail users who are marked as admins, manage no domain and are no global admins."""
    m, d = tables.mailbox.c, tables.domain_admins.c
    return (
        m.isadmin == 1,
        m.isglobaladmin != 1,
        ~exists(select(d.username).where(d.username == m.username)),
    )


class RelatedRows:
    """Values of other tables that belong to accounts: texts and numbers by owner and kind.

    They are read with one UNION of ``select_related`` branches.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        self._values: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for kind, owner, text, number in rows:
            # The owner may be stored in another spelling.
            key = (fold(owner), kind)
            self._values.setdefault(key, []).append((text or "", int(number or 0)))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._values)

    def texts(self, owner: str, kind: str) -> list[str]:
        """Return the texts of a kind, sorted."""
        return sorted(text for text, _ in self._values.get((fold(owner), kind), []))

    def inactive_texts(self, owner: str, kind: str) -> list[str]:
        """Return the texts of a kind whose number, the column ``active``, is not 1."""
        found = self._values.get((fold(owner), kind), [])
        return sorted(text for text, number in found if number != 1)

    def text(self, owner: str, kind: str) -> str:
        """Return the only text of a kind, or an empty one."""
        return next((text for text, _ in self._values.get((fold(owner), kind), [])), "")

    def number(self, owner: str, kind: str) -> int:
        """Return the only number of a kind, or 0."""
        return next((number for _, number in self._values.get((fold(owner), kind), [])), 0)


class AccountRepository(SpellingRepository):
    """Base of the repositories of accounts in ``vmail``."""

    name = "vmail"
    schema: Schema

    def __init__(self, connections: Connections, schema: Schema, quota_table: Table) -> None:
        # Without super(): each request makes several.
        self._connections = connections
        self.schema = schema
        self.quota_table = quota_table

    def mailbox_path(self) -> ColumnElement[str]:
        """Return SQL for the absolute path of a mailbox, as Dovecot's ``user_query`` builds it."""
        m = tables.mailbox.c
        if self.dialect in MYSQL:
            return func.concat_ws("/", m.storagebasedirectory, m.storagenode, m.maildir)
        return m.storagebasedirectory + "/" + m.storagenode + "/" + m.maildir

    async def spelling(
        self, column: ColumnElement[Any], name: str, *where: ColumnElement[bool]
    ) -> str | None:
        """Return the stored spelling of a name; None: it is not stored.

        Looks the name up by its key first, then in any spelling among the rows of ``where``.
        Raises Conflict ``AMBIGUOUS_NAME`` when several spellings are stored.
        """
        wanted, written = spellings(name), typed(name)
        for chosen in (column.in_(sorted({written, str(name)})), is_like(column, wanted)):
            rows: list[str] = await self.column(select(column).where(chosen, *where))
            # MariaDB's equality ignores accents and trailing blanks: compare here.
            found = {value for value in rows if fold(value) in wanted}
            for exact in (written, str(name)):
                if exact in found:
                    return exact
            if len(found) > 1:
                raise Conflict(
                    "AMBIGUOUS_NAME", f"Stored as {', '.join(map(repr, sorted(found)))}: name one."
                )
            if found:
                return found.pop()
        return None

    async def find(
        self,
        column: ColumnElement[Any],
        name: str,
        read: Callable[[str], Awaitable[Found | None]],
        *,
        domain_column: ColumnElement[Any] | None = None,
    ) -> Found | None:
        """Read an account or a domain by its key, or else by its stored spelling.

        ``domain_column`` is the column of the account's domain, see ``within_domain``.
        """
        if typed(name) == name:
            found = await read(str(name))
            if found is not None:
                return found
        # Built only when needed: building the expression costs a third of a request's CPU time.
        where = () if domain_column is None else await self.within_domain(domain_column, name)
        stored = await self.spelling(column, name, *where)
        return None if stored is None else await read(stored)

    def within_planned(
        self, column: ColumnElement[str], names: Sequence[str]
    ) -> ColumnElement[bool]:
        """Match rows of these domains, in a statement that the planner makes a plan for each time.

        On PostgreSQL the names are constants of the statement, so that the planner knows how large
        the domains are. Of a parameter it takes the average, and the time of the statement would
        depend on the size of other domains.
        """
        if not names:
            return false()
        constants = self.dialect == "postgresql"
        known = [
            self._constant(name) if constants else literal(name, String(255)) for name in names
        ]
        return column == known[0] if len(known) == 1 else column.in_(known)

    def _constant(self, value: str) -> ColumnElement[str]:
        """Make a part of the statement's text, quoted."""
        quoted = literal(value, String(255)).compile(
            dialect=self.engine_dialect, compile_kwargs={"literal_binds": True}
        )
        return literal_column(str(quoted), String(255))

    async def within_domain(
        self, column: ColumnElement[Any], name: str
    ) -> tuple[ColumnElement[bool], ...]:
        """Match rows of the domain of an address, so that the index of the domain is used."""
        if "@" not in name:
            return ()
        written = typed(name).rpartition("@")[2]
        names = await self.domain_names(column, domain_of(name))
        return (column.in_(sorted({*names, written})),)

    async def domain_names(self, column: ColumnElement[Any], name: str) -> list[str]:
        """Return the spellings of a domain in a column of accounts: ``names_of``, and others.

        Postfix and Dovecot look up the address only, so a row with another spelling works. A
        spelling that is another domain is left out: one with a row of its own, unless it is the
        only one and there is no row of this name.
        """
        own = names_of(name)
        if self.dialect in MYSQL:
            return sorted({*own, *await self.exact_spellings(column, [fold(name)])})
        found = await self._stored_spellings(column, [name]) - set(own)
        return [*own, *sorted(await self.without_other_domains(found, own))]

    async def without_other_domains(self, found: set[str], own: Collection[str]) -> set[str]:
        """Leave out spellings that are other domains than ``own``, see ``domain_names``."""
        if not found:
            return found
        d = tables.domain.c
        rows = await self.column(select(d.domain).where(d.domain.in_(sorted(found.union(own)))))
        alike: dict[str, set[str]] = {}
        for stored in rows:
            alike.setdefault(fold(stored), set()).add(stored)
        others = [some for some in alike.values() if len(some) > 1 or not some.isdisjoint(own)]
        return found.difference(*others)

    async def related_rows(self, *branches: Select[Any]) -> RelatedRows:
        """Run branches of ``select_related`` as one UNION ALL."""
        return await self.read_related_rows(branches[0].union_all(*branches[1:]))

    async def read_related_rows(self, statement: CompoundSelect[Any], **values: Any) -> RelatedRows:
        """Run a UNION of ``select_related`` branches."""
        return RelatedRows((await (await self.connection()).execute(statement, values)).all())

    async def disabled(self, addresses: Collection[str]) -> set[str]:
        """Return which addresses are disabled users: ``forwardings`` to them are inactive."""
        m = tables.mailbox.c
        found: set[str] = set()
        for some in chunks(addresses):
            found.update(
                await self.column(select(m.username).where(m.username.in_(some), m.active != 1))
            )
        return {address.lower() for address in found}

    async def set_bcc(self, table: Table, key: Mapping[str, Any], address: str) -> None:
        """Set a BCC address; an empty one removes the row instead of clearing ``active``.

        The first column of the key is unique: rows with it are removed in any case.
        """
        unique, value = next(iter(key.items()))
        await self.delete(table, is_like(table.c[unique], [value]))
        if address:
            row = {"bcc_address": address, "created": now(), "active": 1}
            await self.insert(table, {**key, **row})

    async def set_global(self, username: str, *, is_global: bool) -> None:
        """Add or remove ``ALL`` in ``domain_admins``, one of the two marks of a global admin."""
        key = {"username": username, "domain": "ALL"}
        await self.set_one(
            tables.domain_admins, key, {"created": now(), "active": 1} if is_global else {}
        )
