"""Sizes of mailboxes and last logins in ``iredadmin``: an LDAP deployment has no ``vmail``.

Tables that do not exist are treated as empty.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    String,
    Table,
    and_,
    bindparam,
    cast,
    literal,
    literal_column,
    or_,
    select,
)

from iredapi.backends.sql import tables as t
from iredapi.database.dialect import domain_of
from iredapi.database.repository import Repository, chunks
from iredapi.database.session import Connections
from iredapi.domain.addresses import domain_of as domain_part
from iredapi.domain.usage import added

_NUMBERS = (("bytes", "messages"), ("imap", "pop3", "lda"))
_ROWS = 2000
"""Maximum number of rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class Used:
    """Size of a mailbox, and times of its user's last logins (seconds since 1970; 0: never)."""

    bytes: int = 0
    messages: int = 0
    imap: int = 0
    pop3: int = 0
    lda: int = 0


class HashedNames:
    """A set of very many names of which only hashes are kept: 8 bytes for each.

    That two of a million names have one hash happens once in thousands of years.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted = True

    def add(self, name: str) -> None:
        """Add a name."""
        self._hashes.append(hash(name))
        self._sorted = False

    def __contains__(self, name: str) -> bool:
        """Return whether the name was added."""
        if not self._sorted:
            self._hashes = array("q", sorted(self._hashes))
            self._sorted = True
        wanted = hash(name)
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted


class MailboxSizes(Repository):
    """What Dovecot has counted of mail users in ``iredadmin``."""

    name = "iredadmin"

    def __init__(self, connections: Connections, quota_table: Table) -> None:
        super().__init__(connections)
        self._quota = quota_table

    async def used(self, mails: Collection[str]) -> Mapping[str, Used]:
        """Return size and last logins of users. Two round trips for each 500."""
        found: dict[str, dict[str, int]] = {}
        q, login = self._quota.c, t.last_login.c
        for some in chunks(mails):
            if await self.has(self._quota):
                for row in await self.row_objects(
                    select(q.username, q.bytes, q.messages).where(q.username.in_(some))
                ):
                    numbers = {"bytes": int(row.bytes or 0), "messages": int(row.messages or 0)}
                    found.setdefault(row.username.lower(), {}).update(numbers)
            if await self.has(t.last_login):
                for row in await self.row_objects(
                    select(login.username, login.imap, login.pop3, login.lda).where(
                        login.username.in_(some)
                    )
                ):
                    moments = {
                        name: int(getattr(row, name) or 0) for name in ("imap", "pop3", "lda")
                    }
                    found.setdefault(row.username.lower(), {}).update(moments)
        return {mail: Used(**values) for mail, values in found.items()}

    async def stored(self, domains: Collection[str] | None) -> dict[str, int]:
        """Return how many bytes users of these domains have stored; None: all users."""
        if not await self.has(self._quota):
            return {}
        q = self._quota.c
        within = [] if domains is None else [q.domain.in_(sorted(domains))]
        rows = await self.row_objects(select(q.username, q.bytes).where(*within))
        return {row.username.lower(): int(row.bytes or 0) for row in rows}

    async def used_by(self, mail: str) -> Used:
        """Return size and last logins of one user, in one round trip."""
        there = [table for table in (self._quota, t.last_login) if await self.has(table)]
        if not there:
            return Used()
        key = ("iredadmin.used", *(table.name for table in there))
        _, rows = await self.fetch_batched(key, partial(_used_by, there), mail=mail)
        found: dict[str, int] = {}
        for kind, name, *numbers in rows:
            # MariaDB's equality ignores accents and trailing blanks.
            if name.lower() == mail:
                found.update(zip(_NUMBERS[kind], (int(n or 0) for n in numbers), strict=False))
        return Used(**found)

    async def used_in(self, domain: str, users: Collection[str]) -> tuple[int, int]:
        """Return how many bytes and messages the users of a domain have stored.

        Rows of removed users (not in ``users``) and negative numbers are ignored.
        """
        if not await self.has(self._quota):
            return 0, 0
        q = self._quota.c
        stored = messages = 0
        for row in await self.row_objects(
            select(q.username, q.bytes, q.messages).where(q.domain == domain)
        ):
            if row.username.lower() in users:
                stored = added(stored, max(int(row.bytes or 0), 0))
                messages = added(messages, max(int(row.messages or 0), 0))
        return stored, messages

    async def used_by_domains(
        self, users: HashedNames, only: Collection[str] | None
    ) -> tuple[Mapping[str, tuple[int, int]], Mapping[str, int]]:
        """Return bytes and messages of each domain, and its users' last login by IMAP or POP3.

        Rows of removed users (not in ``users``) and negative numbers are ignored. Two statements,
        of which a part of the rows is in memory at a time.
        """
        used: dict[str, tuple[int, int]] = {}
        seen: dict[str, int] = {}
        async for mail, size, messages in self._numbers(self._quota, ("bytes", "messages"), only):
            if mail in users:
                before = used.get(domain_part(mail), (0, 0))
                used[domain_part(mail)] = (added(before[0], size), added(before[1], messages))
        async for mail, imap, pop3 in self._numbers(t.last_login, ("imap", "pop3"), only):
            if mail in users:
                seen[domain_part(mail)] = max(seen.get(domain_part(mail), 0), imap, pop3)
        return used, seen

    async def _numbers(
        self, table: Table, names: Sequence[str], only: Collection[str] | None
    ) -> AsyncIterator[tuple[str, int, int]]:
        """Yield the address and two numbers, 0 or more, of each row; ``only``: in these domains."""
        if not await self.has(table) or (only is not None and not only):
            return
        columns = (table.c.username, *(table.c[name] for name in names))
        domains: dict[str, Any] = {f"name_{n}": name for n, name in enumerate(sorted(only or ()))}

        def build() -> Select[Any]:
            own = [bindparam(name, type_=String(255)) for name in domains]
            chosen = [_of_domains(table, own)] if own else []
            behind = table.c.username > bindparam("after")
            return select(*columns).where(behind, *chosen).order_by(table.c.username)

        # A name that is not empty continues a cursor, from the beginning.
        after, count = " ", _ROWS
        while count == _ROWS:
            _, rows = await self.page_of(
                ("iredadmin.numbers", table.name, len(domains)), build, after, _ROWS, **domains
            )
            for row in rows:
                yield _numbers_of(row)
            count = len(rows)
            after = rows[-1][0] if rows else after

    async def used_of_domain(self, domain: str) -> Mapping[str, Used]:
        """Return size and last logins of a domain's users. Two statements."""
        found: dict[str, dict[str, int]] = {}
        for table, names in ((self._quota, _NUMBERS[0]), (t.last_login, _NUMBERS[1])):
            if not await self.has(table):
                continue
            columns = (table.c.username, *(table.c[name] for name in names))
            for name, *numbers in await self.row_objects(
                select(*columns).where(_of_domains(table, [literal(domain)]))
            ):
                values = (int(value or 0) for value in numbers)
                found.setdefault(name.lower(), {}).update(zip(names, values, strict=True))
        return {mail: Used(**values) for mail, values in found.items()}


def _numbers_of(row: Sequence[Any]) -> tuple[str, int, int]:
    name, first, second = row
    return name.lower(), max(int(first or 0), 0), max(int(second or 0), 0)


def _of_domains(table: Table, names: Sequence[ColumnElement[str]]) -> Any:
    """Match rows of users in domains, by the index of domains; without its trigger a row has none.

    The address is only looked at where there is no domain: else all rows would be read, and the
    time would tell how many users other domains have.
    """
    without = and_(table.c.domain == "", domain_of(table.c.username).in_(names))
    return or_(table.c.domain.in_(names), without)


def _used_by(there: Sequence[Table]) -> Select[Any] | CompoundSelect[Any]:
    """Select the rows of the user ``:mail``: the index of ``_NUMBERS``, the name, the numbers."""
    branches: list[Select[Any]] = []
    for table in there:
        kind = int(table is t.last_login)
        numbers: list[Any] = [table.c[name] for name in _NUMBERS[kind]]
        numbers += [literal_column("0")] * (3 - len(numbers))
        own = table.c.username == bindparam("mail", type_=String(255))
        name = cast(table.c.username, String(255))
        branches.append(select(literal_column(str(kind)), name, *numbers).where(own))
    first, *others = branches
    return first.union_all(*others) if others else first
