"""Admins of both kinds, and alias domains: short lists that are sorted and searched in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from iredapi.domain import canonical
from iredapi.domain.addresses import fold
from iredapi.domain.admins import Admin
from iredapi.domain.limits import Allocation
from iredapi.domain.listing import Key, ListQuery
from iredapi.domain.usage import added


@dataclass(frozen=True, slots=True)
class AnyAdmin:
    """An admin of either kind."""

    admin: Admin
    standalone: bool
    """False: a mail user with rights."""

    def to_response(
        self, allocations: Mapping[str, Allocation], hidden: Collection[str]
    ) -> dict[str, Any]:
        """Return the item of the answer, without hidden fields.

        ``allocations`` are the limits of domains, by name.
        """
        record = self.admin
        shown = canonical.without(canonical.admin(record), hidden)
        used = [allocations[name] for name in record.managed_domains if name in allocations]
        return {
            "mail": record.mail,
            "kind": "admin" if self.standalone else "user",
            **{name: value for name, value in shown.items() if name != "mail"},
            "mayCreateDomains": "yes"
            if record.is_global or "create_new_domains" in record.settings
            else "no",
            "usedDomains": len(used),
            "usedQuota": _sum(item.quota for item in used),
            "usedUsers": _sum(item.users for item in used),
            "usedAliases": _sum(item.aliases for item in used),
            "usedLists": _sum(item.lists for item in used),
        }


def _sum(numbers: Iterable[int]) -> int:
    # 0 is unlimited and -1 none allowed: both count nothing, as for the limits of admins.
    return reduce(added, (number for number in numbers if number > 0), 0)


@dataclass(frozen=True, slots=True)
class AliasDomain:
    """Another name of a domain."""

    name: str
    target: str
    """The domain."""
    active: bool

    def to_response(self) -> dict[str, Any]:
        """Return the item of the answer."""
        status = "active" if self.active else "disabled"
        return {"aliasDomain": self.name, "domain": self.target, "accountStatus": status}


@dataclass(frozen=True, slots=True)
class Row:
    """What an item of a short list is chosen and sorted by."""

    name: str
    texts: tuple[str, ...]
    """What is searched, the name included."""
    active: bool
    value: str = ""
    """What it is sorted by; empty: by name."""


def chosen(rows: Iterable[Row], query: ListQuery) -> list[Row]:
    """Return the rows that a query chooses, in its order."""
    wanted = fold(query.search)
    found = [
        row
        for row in rows
        if (query.active is None or row.active is query.active)
        and (not wanted or any(wanted in text.lower() for text in row.texts))
    ]
    return sorted(found, key=lambda row: (row.value, row.name), reverse=query.descending)


def keys_after(rows: Iterable[Row], query: ListQuery, after: Key | None, limit: int) -> list[Key]:
    """Return the next keys of rows that are in the order of the query."""
    place = None if after is None else (str(after.value or ""), after.name)
    found = [
        Key(row.name, row.value or None)
        for row in rows
        if place is None
        or ((row.value, row.name) < place if query.descending else (row.value, row.name) > place)
    ]
    return found[:limit]
