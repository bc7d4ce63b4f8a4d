"""What the stores of one request share: the connection to ``vmail``, time, rows as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Dialect,
    Executable,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.sql import spellings as other_spellings
from iredapi.backends.sql import tables
from iredapi.database.compiled_statement import Plain, Statement
from iredapi.database.connection import Row
from iredapi.database.database import Connections
from iredapi.database.dialect import MYSQL, insert_ignore
from iredapi.database.live_schema import Schema
from iredapi.database.repository import chunks, now
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


class Store:
    """Base of the SQL stores."""

    def __init__(self, connections: Connections, schema: Schema, quota_table: Table) -> None:
        self._connections = connections
        self.schema = schema
        self.quota_table = quota_table

    @property
    def dialect(self) -> str:
        """The dialect of the account database."""
        return self._connections.databases["vmail"].dialect

    @property
    def engine_dialect(self) -> Dialect:
        """What SQLAlchemy knows of the account database."""
        return self._connections.databases["vmail"].engine.dialect

    def mailbox_path(self) -> ColumnElement[str]:
        """Make SQL for the absolute path of a mailbox, as Dovecot puts it together."""
        m = tables.mailbox.c
        if self.dialect in MYSQL:
            return func.concat_ws("/", m.storagebasedirectory, m.storagenode, m.maildir)
        return m.storagebasedirectory + "/" + m.storagenode + "/" + m.maildir

    async def connection(self) -> AsyncConnection:
        """Return the connection to ``vmail``."""
        return await self._connections.get("vmail")

    async def run(self, statement: Executable, values: Any = None) -> int:
        """Run a write and return the number of rows."""
        result = await (await self.connection()).execute(statement, values)
        return int(getattr(result, "rowcount", 0))

    async def rows(
        self, statement: Select[Any] | CompoundSelect[Any], **values: Any
    ) -> Sequence[Mapping[str, Any]]:
        """Run a read and return its rows by column name."""
        result = await (await self.connection()).execute(statement, values)
        return [{str(key): value for key, value in row.items()} for row in result.mappings()]

    async def plain(
        self, key: object, build: Callable[[], Select[Any] | CompoundSelect[Any]], **values: Any
    ) -> list[dict[str, Any]]:
        """Run a read that is built once, past SQLAlchemy.

        Its values are bound parameters, but for constants.
        """
        columns, found = await self.table(key, build, **values)
        return [dict(zip(columns, row, strict=True)) for row in found]

    async def table(
        self, key: object, build: Callable[[], Select[Any] | CompoundSelect[Any]], **values: Any
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Run a read as ``plain`` does; returns the names of the columns, and rows in order."""
        plain = self.schema.statement(key, lambda: self._compiled(build()))
        return plain.columns, await self._connections.run("vmail", plain, values)

    async def page_of(
        self,
        key: object,
        build: Callable[[], Select[Any]],
        after: str,
        limit: int,
        *,
        order: int = 0,
        **values: Any,
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Return columns and rows of the next page of a list that is read as ``table`` does.

        It is sorted by the column at ``order`` and takes the parameter ``after``, the name after
        which the page begins.
        """
        database = self._connections.databases["vmail"]
        plain = self.schema.statement(("list", key), lambda: self._compiled(build()))
        # A list that ends with its first page needs no cursor.
        if after and not self._connections.writing:
            rows = await database.cursors.page(plain, values, after, limit, order)
            if rows is not None:
                return plain.columns, rows
        return await self.table(
            ("page", key),
            lambda: build().limit(bindparam("limit", type_=Integer)),
            after=after,
            limit=limit,
            **values,
        )

    async def hold_rows(self, *rows: Row) -> None:
        """Hold rows until the end of the unit; what depends on them is read afterwards."""
        await self._connections.hold("vmail", *rows)

    async def begin_reading(
        self,
        key: object,
        build: Callable[[], Sequence[Select[Any] | CompoundSelect[Any]]],
        values: Mapping[str, Any],
    ) -> list[list[dict[str, Any]]] | None:
        """Begin the unit with reads, the first of which holds what it finds; the rows of each.

        None where somebody else holds one of these; then nothing has begun.
        """
        every = self.schema.statement(key, lambda: [self._compiled(one) for one in build()])
        found = await self._connections.begin_reading("vmail", every, values)
        if found is None:
            return None
        return [
            [dict(zip(plain.columns, row, strict=True)) for row in rows]
            for plain, rows in zip(every, found, strict=True)
        ]

    async def table_for_each(
        self,
        key: object,
        build: Callable[[], Select[Any]],
        values: Sequence[Mapping[str, Any]],
    ) -> tuple[tuple[str, ...], list[list[Any]]]:
        """Run a read as ``table`` does for each of some values, in one message."""
        plain, numbered = self._numbered(key, build)
        return plain.columns, await self._connections.fetch_for_each("vmail", numbered, values)

    async def fetch_batched(
        self, key: object, build: Callable[[], Statement], **values: Any
    ) -> tuple[tuple[str, ...], Sequence[Any]]:
        """Run a read as ``table`` does, but in no transaction.

        It must take no time: others wait behind it.
        """
        plain = self.schema.statement(key, lambda: self._compiled(build()))
        return plain.columns, await self._connections.fetch_batched("vmail", plain, values)

    async def fetch_batched_for_each(
        self,
        key: object,
        build: Callable[[], Statement],
        values: Sequence[Mapping[str, Any]],
    ) -> list[list[Any]]:
        """Run a statement for each of some values, as one transaction; the rows of each."""
        numbered = self._numbered(key, build)[1]
        return await self._connections.fetch_for_each("vmail", numbered, values, begun=False)

    async def execute_autocommit(
        self, key: object, build: Callable[[], Statement], **values: Any
    ) -> list[Any]:
        """Run a write that is a transaction of its own; the rows that it returns."""
        plain = self.schema.statement(key, lambda: self._compiled(build()))
        return await self._connections.run_alone("vmail", plain, values)

    async def count(
        self, key: object, build: Callable[[], Statement], words: str = "", **values: Any
    ) -> int:
        """Run a write that is a transaction of its own; how many rows it found.

        ``words`` stand before the statement.
        """
        plain = self.schema.statement(key, lambda: self._compiled(build()).after(words))
        return await self._connections.count("vmail", plain, values)

    def _numbered(self, key: object, build: Callable[[], Statement]) -> tuple[Plain, Plain]:
        plain = self.schema.statement(key, lambda: self._compiled(build()))
        return plain, self.schema.statement(
            ("numbered", key), lambda: plain.numbered(self.engine_dialect)
        )

    async def change(self, key: object, build: Callable[[], Statement], **values: Any) -> list[Any]:
        """Run a write that is built once, past SQLAlchemy; the rows that it returns."""
        plain = self.schema.statement(key, lambda: self._compiled(build()))
        return await self._connections.run("vmail", plain, values)

    async def change_all(
        self, key: object, build: Callable[[], Sequence[Statement]], **values: Any
    ) -> None:
        """Run writes that are built once and do not depend on each other.

        Each names its values in its own way. On PostgreSQL they are one statement.
        """
        every = self.schema.statement(key, lambda: self._compiled_all(build()))
        await self._connections.run_all("vmail", every, values)

    async def change_for_each(
        self,
        key: object,
        build: Callable[[], Sequence[Statement]],
        values: Sequence[Mapping[str, Any]],
    ) -> None:
        """Run writes as ``change_all`` does, for each of some values."""
        for plain in self.schema.statement(key, lambda: self._compiled_all(build())):
            await self._connections.run_for_each("vmail", plain, values)

    def _compiled_all(self, statements: Sequence[Any]) -> list[Plain]:
        if self.dialect == "postgresql":
            *others, last = statements
            for number, other in enumerate(others):
                last = last.add_cte(other.cte(f"change_{number}"))
            statements = [last]
        return [self._compiled(statement) for statement in statements]

    def _compiled(self, statement: Statement) -> Plain:
        return Plain.of(statement, self.engine_dialect)

    async def column(self, statement: Select[Any] | CompoundSelect[Any]) -> list[str]:
        """Run a read and return its first column."""
        return list((await (await self.connection()).execute(statement)).scalars())

    async def spelling(
        self, column: ColumnElement[Any], name: str, *where: ColumnElement[bool]
    ) -> str | None:
        """Return how the name of something is stored; None: nothing has it.

        A key is asked first, then what ``where`` leaves. Raises Conflict ``AMBIGUOUS_NAME``.
        """
        wanted, written = spellings(name), typed(name)
        for chosen in (column.in_(sorted({written, str(name)})), is_like(column, wanted)):
            rows = await self.column(select(column).where(chosen, *where))
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

    async def insert(self, table: Table, values: Mapping[str, Any]) -> None:
        """Insert a row, without the optional columns that this server lacks."""
        await self.run(insert(table).values(self.schema.values(table, values)))

    async def insert_all(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows at once."""
        if rows:
            await self.run(insert(table), [dict(row) for row in rows])

    async def disabled(self, addresses: Collection[str]) -> set[str]:
        """Return which addresses are disabled users: routes to them are made inactive."""
        m = tables.mailbox.c
        found: set[str] = set()
        for some in chunks(addresses):
            found.update(
                await self.column(select(m.username).where(m.username.in_(some), m.active == 0))
            )
        return {address.lower() for address in found}

    async def insert_missing(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows whose unique keys are free."""
        if rows:
            await self.run(insert_ignore(table, self.dialect), [dict(row) for row in rows])

    async def update(
        self, table: Table, values: Mapping[str, Any], *where: ColumnElement[bool]
    ) -> None:
        """Update rows, without the optional columns that this server lacks."""
        there = self.schema.values(table, values)
        if there:
            await self.run(update(table).where(*where).values(there))

    async def delete(self, table: Table, *where: ColumnElement[bool]) -> None:
        """Delete rows of a table, if this server has it."""
        if self.schema.has(table):
            await self.run(delete(table).where(*where))

    async def set_one(
        self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]
    ) -> None:
        """Replace the rows with a key, in any spelling, by another one; no values: only remove."""
        await self.delete(table, *(is_like(table.c[name], [key[name]]) for name in key))
        if values:
            await self.insert(table, {**key, **values})

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
