"""What a client asks of a list: which items, in which order, from where, and which parts of them.

Pure values that ``schemas.listing`` makes, operations pass on, and storages obey
(docs/adr/0015).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from iredapi.errors import InvalidParameters, Problem

ADDRESS: Final = "address"
"""The order of names; each list has it."""
DEFAULT_LIMIT: Final = 100
"""Items of a page when only ``cursor`` was sent."""
MAX_LIMIT: Final = 1000
"""Maximum items of a page."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which items of a list, and their order."""

    sort: str = ADDRESS
    """``address``, or what else the list can be sorted by; equal values are sorted by address."""
    descending: bool = False
    search: str = ""
    """A text that the address, the name or the employee id contains, in any case; empty: all."""
    active: bool | None = None
    """Only active, or only disabled ones, as it is stored; None: both."""
    modified_since: datetime | None = None
    """Only those that were created or changed at this time or later (UTC, no zone)."""
    by_status: bool = False
    """Whether ``active`` was asked for with ``status``, and not with ``disabled_only``."""
    hidden: frozenset[str] = frozenset()
    """Names of fields, lower case, that are not searched: of columns and attributes, too."""

    @property
    def by_value(self) -> bool:
        """Whether keys have a value: the order is not that of names."""
        return self.sort != ADDRESS

    def parts(self) -> list[Any]:
        """Return what a cursor is bound to."""
        since = self.modified_since and self.modified_since.isoformat()
        return [self.sort, self.descending, self.search, self.active, since]


@dataclass(frozen=True, slots=True)
class Key:
    """The place of an item in a list: the value that it is sorted by, and its name, as stored."""

    name: str
    value: str | int | None = None
    """None when the list is sorted by name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of each item is shown."""

    view: str = "native"
    """``native``, ``canonical``, or ``names``: only the names, as texts."""
    fields: tuple[str, ...] = ()
    """Only these keys of each item; empty: all."""
    extras: frozenset[str] = frozenset()
    """What is added to each item (``with``)."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a list that follow each other."""

    items: list[Any]
    last: Key | None = None
    """Where the page ends; the item itself may have been deleted meanwhile. None: no items."""
    more: bool = False
    """Whether items follow."""
    total: int | None = None
    """How many items all pages have together; None: not counted."""


def page_of(keys: Sequence[Key], limit: int, items: Mapping[str, Any]) -> Page:
    """Return the page of ``limit`` keys out of one more; items that are gone are left out."""
    some = keys[:limit]
    return Page(
        [items[key.name] for key in some if key.name in items],
        some[-1] if some else None,
        more=len(keys) > limit,
    )


def only(items: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return items with these keys only, in any case; no names: all keys."""
    if not names:
        return list(items)
    wanted = {name.lower() for name in names}
    return [{key: item[key] for key in item if key.lower() in wanted} for item in items]


def check_fields(names: Sequence[str], known: Collection[str]) -> None:
    """Raise InvalidParameters when a name of ``fields`` is no key of the items, in any case."""
    there = {name.lower() for name in known}
    if wrong := [name for name in names if name.lower() not in there]:
        keys = ", ".join(sorted(known))
        raise InvalidParameters(
            *(
                Problem("fields", "INVALID_VALUE", f"Items have no {name}. They have {keys}.")
                for name in wrong
            )
        )
