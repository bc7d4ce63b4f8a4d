"""What domains and mail users use, in ``vmail``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    bindparam,
    case,
    func,
    literal,
    select,
)

from iredapi.backends.sql import tables as t
from iredapi.backends.sql.account_repository import AccountRepository, in_domain, names_in
from iredapi.database.repository import chunks
from iredapi.domain.addresses import fold
from iredapi.domain.usage import DomainUsage, UserUsage

_SEEN = ("imap", "pop3", "lda")


class SqlUsage(AccountRepository):
    """See ``protocols.usage.UsageReader``."""

    async def domains(self, only: Collection[str] | None) -> list[DomainUsage]:
        if only is not None and not only:
            return []
        d, m, q, a = t.domain.c, t.mailbox.c, self.quota_table.c, t.alias.c
        rows = await self.rows(
            select(d.domain, d.active, d.maxquota, d.mailboxes, d.aliases, d.maillists).where(
                *_among(d.domain, only)
            )
        )
        boxes = t.mailbox.outerjoin(self.quota_table, q.username == m.username)
        users = await self._by_domain(
            select(
                m.domain.label("domain"),
                func.count().label("users"),
                _total(m.quota).label("allocated_quota"),
                _total(q.bytes).label("stored_bytes"),
                _total(q.messages).label("stored_messages"),
            ).select_from(boxes),
            m.domain,
            only,
        )
        aliases = await self._by_domain(
            select(a.domain.label("domain"), func.count().label("aliases")), a.domain, only
        )
        lists: dict[str, dict[str, int]] = {}
        if self.schema.has(t.maillists):
            l_domain = t.maillists.c.domain
            lists = await self._by_domain(
                select(l_domain.label("domain"), func.count().label("lists")), l_domain, only
            )
        seen: dict[str, dict[str, int]] = {}
        if self.schema.has(t.last_login):
            s = t.last_login.c
            seen = await self._by_domain(
                select(
                    m.domain.label("domain"),
                    func.max(s.imap).label("imap"),
                    func.max(s.pop3).label("pop3"),
                ).select_from(t.last_login.join(t.mailbox, m.username == s.username)),
                m.domain,
                only,
            )
        found = []
        for row in rows:
            name = fold(row["domain"])
            times = seen.get(name, {})
            found.append(
                DomainUsage(
                    domain=name,
                    active=bool(row["active"]),
                    quota=int(row["maxquota"]),
                    max_users=int(row["mailboxes"]),
                    max_aliases=int(row["aliases"]),
                    max_lists=int(row["maillists"]),
                    **users.get(name, {}),
                    **aliases.get(name, {}),
                    **lists.get(name, {}),
                    last_login=max(times.get("imap", 0), times.get("pop3", 0)),
                )
            )
        return sorted(found, key=lambda item: item.domain)

    async def _by_domain(
        self, statement: Select[Any], column: ColumnElement[Any], only: Collection[str] | None
    ) -> dict[str, dict[str, int]]:
        """Run a statement for each domain; rows of a name in several spellings are added up."""
        found: dict[str, dict[str, int]] = {}
        for row in await self.rows(statement.where(*_among(column, only)).group_by(column)):
            sums = found.setdefault(fold(row["domain"]), {})
            for name, value in row.items():
                if name in _SEEN:
                    sums[name] = max(sums.get(name, 0), int(value or 0))
                elif name != "domain":
                    sums[name] = sums.get(name, 0) + int(value or 0)
        return found

    async def users(self, domain: str, after: str, limit: int) -> list[UserUsage]:
        names = await self.domain_names(t.mailbox.c.domain, domain)
        m = t.mailbox.c
        columns, rows = await self.page_of(
            ("usage.users", self.quota_table.name, len(names)),
            lambda: (
                self._select_users()
                .where(in_domain(m.domain, names), m.username > bindparam("after"))
                .order_by(m.username)
            ),
            after,
            limit,
            **names_in(names),
        )
        return [_user(dict(zip(columns, row, strict=True))) for row in rows]

    async def of_users(self, mails: Collection[str]) -> Mapping[str, UserUsage]:
        found: dict[str, UserUsage] = {}
        for some in chunks(mails):
            for row in await self.rows(self._select_users().where(t.mailbox.c.username.in_(some))):
                found[fold(row["username"])] = _user(row)
        return found

    def _select_users(self) -> Select[Any]:
        m, d, q, s = t.mailbox.c, t.domain.c, self.quota_table.c, t.last_login.c
        tables = t.mailbox.outerjoin(t.domain, d.domain == m.domain).outerjoin(
            self.quota_table, q.username == m.username
        )
        seen: Sequence[ColumnElement[Any]] = [literal(0, Integer).label(name) for name in _SEEN]
        if self.schema.has(t.last_login):
            # Its key may be address and domain: then a join would repeat users.
            seen = [
                select(func.max(s[name]))
                .where(s.username == m.username)
                .correlate(t.mailbox)
                .scalar_subquery()
                .label(name)
                for name in _SEEN
            ]
        return select(
            m.username,
            m.domain,
            m.active,
            func.coalesce(d.active, 0).label("domain_active"),
            m.quota,
            q.bytes,
            q.messages,
            *seen,
        ).select_from(tables)


def _among(column: ColumnElement[Any], only: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if only is None else [column.in_(sorted(only))]


def _total(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((column > 0, column), else_=0)), 0)


def _positive(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int) else 0


def _user(row: Mapping[str, Any]) -> UserUsage:
    return UserUsage(
        mail=row["username"],
        domain=fold(row["domain"]),
        active=bool(row["active"]) and bool(row["domain_active"]),
        quota=int(row["quota"]),
        stored_bytes=_positive(row["bytes"]),
        stored_messages=_positive(row["messages"]),
        imap=_positive(row["imap"]),
        pop3=_positive(row["pop3"]),
        lda=_positive(row["lda"]),
    )
