"""What domains and mail users use, in ``vmail``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    Table,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    true,
)

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, in_domain, names_in
from iredapi.backends.sql.spelled_columns import names_of
from iredapi.backends.sql.user_mapping import HELD
from iredapi.database.column_types import MYSQL
from iredapi.database.dialect import sum_of
from iredapi.database.repository import chunks
from iredapi.database.text_matching import is_like, is_odd, is_one_of, spellings_of
from iredapi.domain import account_settings, suspension
from iredapi.domain.addresses import fold
from iredapi.domain.usage import DomainUsage, Sums, UserUsage

_SEEN: Final = ("imap", "pop3", "lda")


class SqlUsage(AccountRepository):
    """See ``protocols.usage.UsageReader``.

    For all domains, the numbers are subqueries of a domain's row, which the database computes when
    the row is fetched: the first rows come at once, and nothing is sorted or kept. A subquery has
    one value, so that several numbers are one text. The planner takes an average domain for each
    subquery; of a few domains the numbers are read by name (``within_planned``).
    """

    # -- domains -----------------------------------------------------------------------------------

    async def strays(self, only: Collection[str] | None) -> Mapping[str, Sums]:
        if only is not None:
            return await self._strays_of(only) if only else {}
        tables = [table for table in self._tables_of_accounts() if self._is_exact(table)]
        if not tables:
            return {}
        branches = []
        for number, table in enumerate(tables):
            names = select(table.c.domain).distinct().subquery(f"names_{number}")
            kind = literal(table.name).label("kind")
            branches.append(select(kind, names.c.domain).where(is_odd(names.c.domain)))
        first, *others = branches
        spelled: dict[Table, set[str]] = {}
        names_of_tables = {table.name: table for table in tables}
        for row in await self.rows(first.union_all(*others)):
            spelled.setdefault(names_of_tables[row["kind"]], set()).add(row["domain"])
        return await self._sums_of_strays(spelled)

    async def _strays_of(self, names: Collection[str]) -> Mapping[str, Sums]:
        """Return ``strays`` of some domains, by look-ups in the indexes of domains."""
        own = {spelling for name in names for spelling in names_of(name)}
        spelled: dict[Table, set[str]] = {}
        for table in self._tables_of_accounts():
            column, folded = table.c.domain, [*map(fold, names)]
            if not self._is_exact(table):
                continue
            if self.dialect in MYSQL:
                found = {*await self.exact_spellings(column, folded)}
            else:
                found = await self._stored_spellings(column, folded)
            if found - own:
                spelled[table] = found - own
        return await self._sums_of_strays(spelled)

    async def _sums_of_strays(self, spelled: Mapping[Table, Set[str]]) -> Mapping[str, Sums]:
        """Return the sums of accounts whose domains are spelled so, unless it is a domain's own."""
        if not spelled:
            return {}
        d, found = t.domain.c, dict[str, Sums]()
        every = sorted({name for names in spelled.values() for name in names})
        own = set(await self.column(select(d.domain).where(d.domain.in_(every))))
        sums = await self._sums_of({table: names - own for table, names in spelled.items()})
        for spelling, one in sums.items():
            name = fold(spelling)
            found[name] = found.get(name, Sums()).plus(one)
        return found

    async def _sums_of(self, spelled: Mapping[Table, Set[str]]) -> Mapping[str, Sums]:
        """Return the sums of accounts by the spelling of their domain.

        Where equality finds all spellings, the key is the folded name.
        """
        branches = []
        for table, names in spelled.items():
            if not names:
                continue
            rows, values = self._summed(table)
            kind = literal(table.name).label("kind")
            whole = select(kind, table.c.domain, self._text(values).label("sums"))
            chosen = self.within_planned(table.c.domain, sorted(names))
            branches.append(whole.select_from(rows).where(chosen).group_by(table.c.domain))
        if not branches:
            return {}
        first, *others = branches
        exact = {table.name for table in spelled if self._is_exact(table)}
        found: dict[str, Sums] = {}
        for row in await self.rows(first.union_all(*others)):
            name = row["domain"] if row["kind"] in exact else fold(row["domain"])
            found[name] = found.get(name, Sums()).plus(_sums({row["kind"]: row["sums"]}))
        return found

    async def domains(
        self,
        only: Collection[str] | None,
        after: str,
        limit: int,
        strays: Mapping[str, Sums],
    ) -> list[DomainUsage]:
        if only is not None and not only:
            return []
        d = t.domain.c
        if only is None:
            columns, rows = await self.page_of(
                ("usage.domains", self.quota_table.name),
                lambda: (
                    self._select_domains(*self._columns_of_sums())
                    .where(d.domain > bindparam("after"))
                    .order_by(d.domain)
                ),
                after,
                limit,
            )
            found = (dict(zip(columns, row, strict=True)) for row in rows)
            return [_domain(row, _sums_of_row(row), strays) for row in found]
        names = spellings_of(only)
        values: dict[str, Any] = {f"name_{number}": name for number, name in enumerate(names)}
        columns, rows = await self.page_of(
            ("usage.domains.some", len(names)),
            lambda: (
                self._select_domains()
                .where(d.domain > bindparam("after"), is_one_of(d.domain, len(names)))
                .order_by(d.domain)
            ),
            after,
            limit,
            **values,
        )
        return await self._with_sums([dict(zip(columns, row, strict=True)) for row in rows], strays)

    async def totals(self) -> Mapping[str, Sums]:
        m, q = t.mailbox.c, self.quota_table.c
        # All are wanted, and not the first ones soon: groups are faster than subqueries.
        summed = (
            select(
                m.domain,
                func.count().label("users"),
                _total(m.quota).label("quota"),
                _total(q.bytes).label("bytes"),
                _total(q.messages).label("messages"),
            )
            .select_from(t.mailbox.outerjoin(self.quota_table, q.username == m.username))
            .group_by(m.domain)
        )
        found = {fold(name): Sums() for name in await self.column(select(t.domain.c.domain))}
        for row in await self.rows(summed):
            if (name := fold(row["domain"])) in found:
                found[name] = found[name].plus(
                    Sums(
                        users=row["users"],
                        allocated_quota=int(row["quota"]),
                        stored_bytes=int(row["bytes"]),
                        stored_messages=int(row["messages"]),
                    )
                )
        return found

    async def of_domains(self, names: Collection[str]) -> list[DomainUsage]:
        if not names:
            return []
        strays = await self._strays_of(names)
        wanted = self._select_domains().where(t.domain.c.domain.in_(sorted(names)))
        return await self._with_sums(await self.rows(wanted), strays)

    async def _with_sums(
        self, rows: Sequence[Mapping[str, Any]], strays: Mapping[str, Sums]
    ) -> list[DomainUsage]:
        """Return the usage of domains whose rows have no sums."""
        own = {name for row in rows for name in _own_spellings(row["domain"])}
        sums = await self._sums_of(dict.fromkeys(self._tables_of_accounts(), own))
        found = []
        for row in rows:
            whole = Sums()
            for name in _own_spellings(row["domain"]):
                whole = whole.plus(sums.get(name, Sums()))
            found.append(_domain(row, whole, strays))
        return found

    def _select_domains(self, *sums: ColumnElement[Any]) -> Select[Any]:
        d = t.domain.c
        limits = (d.maxquota, d.mailboxes, d.aliases, d.maillists)
        return select(d.domain, d.active, *limits, d.settings, *sums)

    def _columns_of_sums(self) -> list[ColumnElement[Any]]:
        """Make a subquery of each table of accounts, for the domain whose row it is."""
        columns: list[ColumnElement[Any]] = []
        for table in self._tables_of_accounts():
            rows, values = self._summed(table)
            whole = select(self._text(values)).select_from(rows).where(self._own(table))
            # Names of columns of the domain's own row are taken.
            columns.append(whole.correlate(t.domain).scalar_subquery().label(f"sums_{table.name}"))
        return columns

    def _tables_of_accounts(self) -> list[Table]:
        return [table for table in (t.mailbox, t.alias, t.maillists) if self.schema.has(table)]

    def _is_exact(self, table: Table) -> bool:
        """Tell whether equality does not find other spellings of a domain."""
        return self.dialect not in MYSQL or (table.name, "domain") in self.schema.exact

    def _own(self, table: Table) -> ColumnElement[bool]:
        """Match the accounts of the domain whose row it is; other spellings are ``strays``."""
        d = t.domain.c
        if not self._is_exact(table):
            return table.c.domain == d.domain
        return table.c.domain.in_([d.domain, func.lower(d.domain)])

    def _summed(self, table: Table) -> tuple[Any, list[ColumnElement[Any]]]:
        """Return the rows of accounts of a table, and the numbers that are summed up."""
        if table is not t.mailbox:
            return table, [func.count()]
        m, q, s = t.mailbox.c, self.quota_table.c, t.last_login.c
        rows: Any = t.mailbox
        size: Any = select(q.bytes, q.messages).where(q.username == m.username)
        if self.dialect == "postgresql":
            # With a limit the planner does not read the whole table for each domain.
            size = size.limit(1).lateral("size")
            rows, sizes = rows.outerjoin(size, true()), size.c
        else:
            rows, sizes = rows.outerjoin(self.quota_table, q.username == m.username), q
        values = [func.count(), _total(m.quota), _total(sizes.bytes), _total(sizes.messages)]
        if self.schema.has(t.last_login):
            # Its key may be address and domain: then a join would repeat users.
            for name in ("imap", "pop3"):
                latest = select(func.max(s[name])).where(s.username == m.username)
                found = latest.correlate(t.mailbox).scalar_subquery()
                values.append(func.coalesce(func.max(found), 0))
        return rows, values

    def _text(self, values: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
        """Return numbers as one text, with blanks between them."""
        if self.dialect in MYSQL:
            return func.concat_ws(" ", *values, type_=String)
        whole: ColumnElement[str] = cast(values[0], String)
        for value in values[1:]:
            whole = whole.concat(" ").concat(cast(value, String))
        return whole

    # -- users -------------------------------------------------------------------------------------

    async def spellings(self, domain: str) -> Sequence[str]:
        return await self.domain_names(t.mailbox.c.domain, domain)

    async def users(
        self, spelled: Sequence[str], after: str, limit: int, *, active: bool
    ) -> list[UserUsage]:
        m = t.mailbox.c
        planned = self.dialect == "postgresql"
        within = self.within_planned if planned else in_domain
        columns, rows = await self.page_of(
            None if planned else ("usage.users", self.quota_table.name, len(spelled)),
            lambda: (
                self._select_users()
                .where(within(m.domain, spelled), m.username > bindparam("after"))
                .order_by(m.username)
            ),
            after,
            limit,
            **({} if planned else names_in(spelled)),
        )
        return [_user(dict(zip(columns, row, strict=True)), active=active) for row in rows]

    async def of_users(self, mails: Collection[str]) -> Mapping[str, UserUsage]:
        m, d = t.mailbox.c, t.domain.c
        rows = [
            row
            for some in chunks(mails)
            for row in await self.rows(self._select_users().where(m.username.in_(some)))
        ]
        names = {fold(row["domain"]) for row in rows}
        on = select(d.domain).where(is_like(d.domain, names), d.active == 1)
        active = {fold(name) for name in (await self.column(on) if names else ())}
        return {
            fold(row["username"]): _user(row, active=fold(row["domain"]) in active) for row in rows
        }

    def _select_users(self) -> Select[Any]:
        m, q, s = t.mailbox.c, self.quota_table.c, t.last_login.c
        tables = t.mailbox.outerjoin(self.quota_table, q.username == m.username)
        seen: Sequence[ColumnElement[Any]] = [literal(0, Integer).label(name) for name in _SEEN]
        if self.schema.has(t.last_login):
            seen = [
                select(func.max(s[name]))
                .where(s.username == m.username)
                .correlate(t.mailbox)
                .scalar_subquery()
                .label(name)
                for name in _SEEN
            ]
        suspended: ColumnElement[Any] = literal(0, Integer)
        if self.schema.has(t.mailbox, "settings"):
            marked = func.coalesce(m.settings, "").contains(f"{HELD}:", autoescape=True)
            suspended = case((marked, 1), else_=0)
        return select(
            m.username,
            m.domain,
            m.active,
            suspended.label("suspended"),
            m.quota,
            q.bytes,
            q.messages,
            *seen,
        ).select_from(tables)


def _total(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return sum_of(case((column > 0, column), else_=0))


def _positive(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int) else 0


def _sums(texts: Mapping[str, Any]) -> Sums:
    """Return the sums that ``SqlUsage._text`` has made of the rows of each table."""
    users, quota, size, messages, *seen = map(int, (texts.get("mailbox") or "0 0 0 0").split())
    return Sums(
        users=users,
        aliases=int(texts.get("alias") or 0),
        lists=int(texts.get("maillists") or 0),
        allocated_quota=quota,
        stored_bytes=size,
        stored_messages=messages,
        last_login=max(0, *seen) if seen else 0,
    )


def _own_spellings(stored: str) -> set[str]:
    """Return the spellings of a domain's name that count as its own; others are ``strays``."""
    return {stored, stored.lower()}


def _sums_of_row(row: Mapping[str, Any]) -> Sums:
    return _sums({name: row.get(f"sums_{name}") for name in ("mailbox", "alias", "maillists")})


def _domain(row: Mapping[str, Any], sums: Sums, strays: Mapping[str, Sums]) -> DomainUsage:
    stray = strays.get(fold(row["domain"]))
    return DomainUsage(
        stored=row["domain"],
        active=row["active"] == 1,
        suspended=suspension.is_suspended(account_settings.parse(row["settings"])),
        quota=int(row["maxquota"]),
        max_users=int(row["mailboxes"]),
        max_aliases=int(row["aliases"]),
        max_lists=int(row["maillists"]),
        sums=sums if stray is None else sums.plus(stray),
    )


def _user(row: Mapping[str, Any], *, active: bool) -> UserUsage:
    """Return the usage of a user; ``active``: whether the domain is."""
    return UserUsage(
        mail=row["username"],
        domain=fold(row["domain"]),
        active=active and row["active"] == 1,
        quota=int(row["quota"]),
        stored_bytes=_positive(row["bytes"]),
        stored_messages=_positive(row["messages"]),
        imap=_positive(row["imap"]),
        pop3=_positive(row["pop3"]),
        lda=_positive(row["lda"]),
        suspended=bool(row["suspended"]),
    )
