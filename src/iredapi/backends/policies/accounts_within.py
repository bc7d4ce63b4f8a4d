"""Which rows of a policy table belong to accounts of some domains, and what follows a place."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_, literal, or_, true

from iredapi.database.dialect import domain_of
from iredapi.database.text_matching import is_like


def within(account: ColumnElement[Any], domains: Collection[str] | None) -> ColumnElement[bool]:
    """Match accounts of these domains in any form; None: all accounts.

    They are stored as ``@domain`` and ``user@domain``, by other programs also as ``@.domain``.
    """
    if domains is None:
        return true()
    return is_like(domain_of(account), [form for name in domains for form in (name, f".{name}")])


def behind(
    first: ColumnElement[Any], second: ColumnElement[Any], after: tuple[str, str]
) -> ColumnElement[bool]:
    """Match rows behind a place of the order by two texts."""
    one, two = literal(after[0], first.type), literal(after[1], second.type)
    return or_(first > one, and_(first == one, second > two))
