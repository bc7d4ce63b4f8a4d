"""Probes for rows of the related databases whose account does not exist.

Whether an account exists is looked up in the account storage in batches (``Directory``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_network
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Table, and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from iredapi.backends.policies import tables as t
from iredapi.doctor.probes import PAGE, Row
from iredapi.doctor.removals import keep, remove
from iredapi.domain.scopes import Kind, Scope


class Directory(Protocol):
    """What the checks of the related databases need to know of the account storage."""

    async def unknown(self, accounts: Collection[str]) -> frozenset[str]:
        """Return the accounts (``user@domain``, ``@domain``, ``domain``) that do not exist.

        An address in an alias domain exists when its address in the mail domain does.
        """

    async def hosts_any(self) -> bool:
        """Tell whether there is any domain: without one, every account seems not to exist."""


def scope_of(account: str) -> Scope | None:
    """Return the scope of a stored account; None for patterns that name no single account."""
    if account == "@.":
        return Scope(Kind.GLOBAL, "global")
    local, at, domain = account.rpartition("@")
    if not at or not domain or domain.startswith(".") or "*" in account or "/" in account:
        return None
    if not any(letter.isalpha() for letter in domain):
        return None  # @192.0.2.1
    return Scope(Kind.USER, account) if local else Scope(Kind.DOMAIN, domain)


class OrphanedRows:
    """Finds the rows of a table that belong to an account that does not exist.

    ``also`` are further conditions on the rows.
    """

    fixable = True
    by_name = False

    def __init__(
        self,
        code: str,
        database: str,
        table: Table,
        column: ColumnElement[Any],
        directory: Directory,
        *also: ColumnElement[bool],
    ) -> None:
        self.code = code
        self.database = database
        self._table = table
        self._column = column
        self._directory = directory
        self._also = also

    @property
    def removes(self) -> Table | None:
        """See ``Probe``."""
        return self._table

    async def number(self, connection: AsyncConnection, rows: Sequence[Row]) -> int:
        """See ``Probe``."""
        statement = select(func.count()).select_from(self._table).where(self._rows_of(rows))
        return int((await connection.execute(statement)).scalar_one())

    def _rows_of(self, rows: Sequence[Row]) -> ColumnElement[bool]:
        return and_(self._column.in_([row["subject"] for row in rows]), *self._also)

    async def page(
        self, connection: AsyncConnection, after: Any
    ) -> tuple[list[tuple[Row, str]], Any]:
        """See ``Probe``."""
        statement = (
            select(self._column.label("subject"))
            .where(*self._also)
            .group_by(self._column)
            .order_by(self._column)
            .limit(PAGE)
        )
        if after is not None:
            statement = statement.where(self._column > after)
        names = [row.subject for row in await connection.execute(statement)]
        rows: list[Row] = [{"subject": name} for name in names if name]
        wrong = [(row, self._table.name) for row in await self._orphaned(rows)]
        return wrong, names[-1] if len(names) == PAGE else None

    async def _orphaned(self, rows: Sequence[Row]) -> list[Row]:
        accounts_ = {row["subject"]: _account_of(row["subject"], self._table) for row in rows}
        unknown = await self._directory.unknown({name for name in accounts_.values() if name})
        return [row for row in rows if accounts_[row["subject"]] in unknown]

    async def repair(self, connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
        """See ``Probe``."""
        still = await self._orphaned(rows)
        if still:
            await _remove_with_dependents(connection, self._table, self._rows_of(still))
        return still


class WiderSettings(OrphanedRows):
    """Finds rows that the daemons apply and that belong to no account, domain or all accounts.

    That is: top-level domains, IP addresses, networks, local parts. ``@.domain`` of a hosted domain
    belongs to the domain.
    """

    by_name = True

    async def _orphaned(self, rows: Sequence[Row]) -> list[Row]:
        candidates = [row for row in rows if self._is_applied(row["subject"])]
        domains = {row["subject"]: _parent(row["subject"]) for row in candidates}
        unknown = await self._directory.unknown({name for name in domains.values() if name})
        return [
            row
            for row in candidates
            if not domains[row["subject"]] or domains[row["subject"]] in unknown
        ]

    def _is_applied(self, account: str) -> bool:
        if scope_of(account.lower()) is not None:
            return False
        # Without "@", Amavisd reads a local part; iRedAPD reads IP addresses and networks only.
        return self.database == "amavisd" or "@" in account or _is_network(account)


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _parent(account: str) -> str:
    """Return ``@domain`` for ``@.domain``, to look it up in the account storage; else empty."""
    found = account.lower()
    return f"@{found[2:]}" if found.startswith("@.") and "." in found[2:] else ""


def _account_of(account: str, table: Table) -> str:
    """Return the account to look up in the account storage; empty: a global or foreign one."""
    if table is t.settings:
        return "" if account == "global" else account.lower()
    scope = scope_of(account.lower())
    return "" if scope is None or scope.kind is Kind.GLOBAL else scope.account


async def _remove_with_dependents(
    connection: AsyncConnection, table: Table, chosen: ColumnElement[bool]
) -> None:
    # Written to the file first: rows that refer to them are restored after them.
    await keep(connection, table, chosen)
    if table in (t.users, t.throttle):
        ids: list[int] = list(
            (await connection.execute(select(table.c.id).where(chosen))).scalars()
        )
        dependents = {
            t.users: (t.wblist.c.rid, t.outbound_wblist.c.sid),
            t.throttle: (t.throttle_tracking.c.tid,),
        }[table]
        for column in dependents:
            await remove(connection, column.table, column.in_(ids))
    await connection.execute(delete(table).where(chosen))
