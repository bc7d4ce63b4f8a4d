"""What the repositories of accounts in ``vmail`` share: spellings, and rows of other tables."""

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
    func,
    literal,
    literal_column,
    or_,
    select,
)

from iredapi.backends.sql import spellings as other_spellings
from iredapi.backends.sql import tables
from iredapi.database.column_types import MYSQL
from iredapi.database.live_schema import Schema
from iredapi.database.repository import Repository, chunks, now
from iredapi.database.session import Connections
from iredapi.database.text_matching import is_like
from iredapi.domain.addresses import domain_of, fold, spellings, typed
from iredapi.errors import Conflict

Found = TypeVar("Found")


def names_of(name: str) -> list[str]:
    """Return under which names rows belong to what is stored in some spelling: Postfix folds."""
    return sorted({name, fold(name)})


def owned(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Choose rows that belong to what is stored in some spelling."""
    names = names_of(name)
    return column == name if len(names) == 1 else column.in_(names)


def in_domain(column: ColumnElement[Any], names: Sequence[str]) -> ColumnElement[bool]:
    """Choose, for a statement that is built once, what is in a domain of some spellings.

    ``names_in`` are its values.
    """
    return or_(*(column == bindparam(f"domain_{place}") for place in range(len(names))))


def names_in(names: Sequence[str]) -> dict[str, Any]:
    """Return the values that ``in_domain`` asks for."""
    return {f"domain_{place}": str(name) for place, name in enumerate(names)}


def side(
    kind: str,
    owner: ColumnElement[Any],
    text: ColumnElement[Any],
    *where: ColumnElement[bool],
    number: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """Select one kind of side value, to be one branch of a UNION: kind, owner, text, number."""
    return select(
        literal_column(f"'{kind}'").label("kind"),
        cast(owner, String(255)).label("owner"),
        cast(text, String(255)).label("text"),
        (literal(0, Integer) if number is None else number).label("number"),
    ).where(*where)


def demotable() -> tuple[ColumnElement[bool], ...]:
    """Select mail users with the admin mark who manage nothing any more and are not global."""
    m, d = tables.mailbox.c, tables.domain_admins.c
    return (
        m.isadmin == 1,
        m.isglobaladmin == 0,
        ~exists(select(d.username).where(d.username == m.username)),
    )


class RelatedRows:
    """Side values read with one UNION: by owner and kind."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._values: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for kind, owner, text, number in rows:
            # Rows are found whose owner was stored in another spelling.
            key = (fold(owner), kind)
            self._values.setdefault(key, []).append((text or "", int(number or 0)))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._values)

    def texts(self, owner: str, kind: str) -> list[str]:
        """Return the texts of a kind, sorted."""
        return sorted(text for text, _ in self._values.get((fold(owner), kind), []))

    def off(self, owner: str, kind: str) -> list[str]:
        """Return the texts of a kind whose number, a mark of activity, is 0."""
        found = self._values.get((fold(owner), kind), [])
        return sorted(text for text, number in found if not number)

    def text(self, owner: str, kind: str) -> str:
        """Return the only text of a kind, or an empty one."""
        return next((text for text, _ in self._values.get((fold(owner), kind), [])), "")

    def number(self, owner: str, kind: str) -> int:
        """Return the only number of a kind, or 0."""
        return next((number for _, number in self._values.get((fold(owner), kind), [])), 0)


class AccountRepository(Repository):
    """Base of the repositories of accounts in ``vmail``."""

    name = "vmail"
    schema: Schema

    def __init__(self, connections: Connections, schema: Schema, quota_table: Table) -> None:
        super().__init__(connections, schema)
        self.quota_table = quota_table

    def mailbox_path(self) -> ColumnElement[str]:
        """Make SQL for the absolute path of a mailbox, as Dovecot puts it together."""
        m = tables.mailbox.c
        if self.dialect in MYSQL:
            return func.concat_ws("/", m.storagebasedirectory, m.storagenode, m.maildir)
        return m.storagebasedirectory + "/" + m.storagenode + "/" + m.maildir

    async def spelling(
        self, column: ColumnElement[Any], name: str, *where: ColumnElement[bool]
    ) -> str | None:
        """Return how the name of something is stored; None: nothing has it.

        A key is asked first, then what ``where`` leaves. Raises Conflict ``AMBIGUOUS_NAME``.
        """
        wanted, written = spellings(name), typed(name)
        for chosen in (column.in_(sorted({written, str(name)})), is_like(column, wanted)):
            rows: list[str] = await self.column(select(column).where(chosen, *where))
            # MariaDB's comparison knows neither accents nor trailing blanks.
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
        home: ColumnElement[Any] | None = None,
    ) -> Found | None:
        """Read what has a name: by its key, or else in the spelling in which it is stored.

        ``home`` is the column of its domain, see ``at_home``.
        """
        if typed(name) == name:
            found = await read(str(name))
            if found is not None:
                return found
        # Built only here: making an expression costs a third of what a whole request does.
        where = () if home is None else await self.at_home(home, name)
        stored = await self.spelling(column, name, *where)
        return None if stored is None else await read(stored)

    async def at_home(
        self, column: ColumnElement[Any], name: str
    ) -> tuple[ColumnElement[bool], ...]:
        """Choose rows by the ``domain`` that an address says it is in, so that a key is enough."""
        if "@" not in name:
            return ()
        written = typed(name).rpartition("@")[2]
        names = await self.domain_names(column, domain_of(name))
        return (column.in_(sorted({*names, written})),)

    async def domain_names(self, column: ColumnElement[Any], name: str) -> list[str]:
        """Return how the accounts of a domain may spell it in a column: ``names_of``, and others.

        Postfix and Dovecot look for the address only. What is another domain is left out.
        """
        own = names_of(name)
        if self.dialect in MYSQL:
            return own
        _, rows = await self.table(
            ("spellings", column.table, column.name),
            lambda: other_spellings.values(column, self.dialect),
            **other_spellings.spelled([fold(name)], self.dialect),
        )
        found = {row[0] for row in rows} - set(own)
        if found:
            d = tables.domain.c
            found -= set(await self.column(select(d.domain).where(d.domain.in_(sorted(found)))))
        return [*own, *sorted(found)]

    async def related_rows(self, *branches: Select[Any]) -> RelatedRows:
        """Run side branches as one UNION ALL."""
        return await self.read_related_rows(branches[0].union_all(*branches[1:]))

    async def read_related_rows(self, statement: CompoundSelect[Any], **values: Any) -> RelatedRows:
        """Run a UNION of side branches."""
        return RelatedRows((await (await self.connection()).execute(statement, values)).all())

    async def disabled(self, addresses: Collection[str]) -> set[str]:
        """Return which addresses are disabled users: routes to them are made inactive."""
        m = tables.mailbox.c
        found: set[str] = set()
        for some in chunks(addresses):
            found.update(
                await self.column(select(m.username).where(m.username.in_(some), m.active == 0))
            )
        return {address.lower() for address in found}

    async def set_bcc(self, table: Table, key: Mapping[str, Any], address: str) -> None:
        """Set or (empty address) remove a BCC row; ``active`` is not what switches it off.

        The first column of the key is unique: a row of older tools without the others goes.
        """
        unique, value = next(iter(key.items()))
        await self.delete(table, is_like(table.c[unique], [value]))
        if address:
            row = {"bcc_address": address, "created": now(), "active": 1}
            await self.insert(table, {**key, **row})

    async def set_global(self, username: str, *, is_global: bool) -> None:
        """Add or remove the ``ALL`` row, one of the two marks of a global admin."""
        key = {"username": username, "domain": "ALL"}
        await self.set_one(
            tables.domain_admins, key, {"created": now(), "active": 1} if is_global else {}
        )
