"""SQL conditions on addresses and domains of ``vmail``, shared by the checks of its tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, String, Table, and_, exists, func, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from iredapi.backends.sql import tables as t
from iredapi.database.column_types import MYSQL
from iredapi.database.dialect import domain_of


def hosted(name: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a name is a mail domain of this server."""
    d = t.domain.alias()
    return exists(select(d.c.domain).where(d.c.domain == name))


def target(name: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return the target domain of an alias domain; NULL when there is no such domain."""
    a, d = t.alias_domain.alias(), t.domain.alias()
    return (
        select(a.c.target_domain)
        .join(d, d.c.domain == a.c.target_domain)
        .where(a.c.alias_domain == name)
        .scalar_subquery()
    )


def own_domain(address: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the mail domain of an address, alias domains resolved; NULL: not of this server."""
    name, d = domain_of(address), t.domain.alias()
    found = select(d.c.domain).where(d.c.domain == name).scalar_subquery()
    return func.coalesce(found, target(name))


def is_in(table: Table, column: str, value: ColumnElement[Any], *where: Any) -> ColumnElement[bool]:
    """Return the condition that a table has a row with a value and all of ``where``.

    Each item of ``where`` makes a condition of the table's columns.
    """
    other = table.alias()
    extra = [item(other.c) for item in where]
    return exists(select(other.c[column]).where(other.c[column] == value, *extra))


def is_user(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that an address is a mail user."""
    return is_in(t.mailbox, "username", address)


def is_account(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that an address is a user, an alias or a mailing list."""
    return or_(
        is_user(address),
        is_in(t.alias, "address", address),
        is_in(t.maillists, "address", address),
    )


def is_address(address: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that an address is an account or an alias address of a user."""
    return or_(
        is_account(address), is_in(t.forwardings, "address", address, lambda c: c.is_alias == 1)
    )


def is_gone(
    address: ColumnElement[Any], *, source: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    """Return the condition that an address is in a hosted domain and does not exist there.

    It is false for addresses that may exist: with an extension (``user+tag@``), in a domain with a
    catch-all, in a backup MX domain (whose addresses this server does not know). A catch-all does
    not count when it is the ``source``, the row that forwards to this address.
    """
    d, f, name = t.domain.alias(), t.forwardings.alias(), domain_of(address)
    return and_(
        exists(select(d.c.domain).where(d.c.domain == name, d.c.backupmx == 0)),
        address.contains("@"),
        ~address.contains("+"),
        ~is_address(address),
        or_(
            ~exists(select(f.c.address).where(f.c.address == name)),
            *(() if source is None else (source == name,)),
        ),
    )


class _WithoutSlash(FunctionElement[str]):
    """Remove the slashes at the end of a path; each dialect spells it differently."""

    name = "without_slash"
    type = String()
    inherit_cache = True


@compiles(_WithoutSlash)
def _rtrim(element: Any, compiler: Any, **kw: Any) -> str:
    return f"rtrim({compiler.process(element.clauses, **kw)}, '/')"


@compiles(_WithoutSlash, *MYSQL)
def _trim(element: Any, compiler: Any, **kw: Any) -> str:
    return f"TRIM(TRAILING '/' FROM {compiler.process(element.clauses, **kw)})"


def normalized_path(path: ColumnElement[Any]) -> FunctionElement[str]:
    """Return a path in lower case, without double slashes and slashes at its end."""
    return _WithoutSlash(func.replace(func.lower(path), "//", "/"))
