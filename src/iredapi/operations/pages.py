"""Reading a page of any list: keys first, then the items that have them (docs/adr/0015)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from iredapi.backends.protocols.accounts import Listed
from iredapi.backends.unit_of_work import ReadUnit
from iredapi.domain import hidden_fields, listing
from iredapi.domain.listing import Key, ListQuery, Page, Shape, page_of

Items = Mapping[str, Any]
"""Items by their names, as they are stored."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a list is read."""

    query: ListQuery
    after: Key | None
    """The key behind which it begins; None: the beginning."""
    limit: int
    """The maximum number of items."""
    total: bool = False
    """Whether all items of the list are counted, too."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of accounts, and how its items are made."""

    role: Callable[[ReadUnit], Listed]
    native: Callable[[ReadUnit, list[str]], Awaitable[Items]]
    canonical: Callable[[ReadUnit, list[str]], Awaitable[Items]]
    """Both return those items of some names that still exist."""
    canonical_fields: Collection[str]
    with_usage: Callable[[ReadUnit, Items], Awaitable[Items]] | None = None
    """Adds to items what they use (``with=usage``); None: they use nothing."""
    hides: bool = False
    """Whether fields of its accounts may be hidden (``Rules.hidden_user_fields``)."""

    def fields(self, unit: ReadUnit, view: str) -> Collection[str]:
        """Return the keys that items may have."""
        return self.canonical_fields if view == "canonical" else self.role(unit).fields()


async def read(
    unit: ReadUnit, kind: Kind, domains: Collection[str] | None, shape: Shape, part: Part
) -> Page:
    """Return a part of a list of accounts of these domains; None: of all domains.

    Raises InvalidParameters when ``fields`` names what no item has.
    """

    async def items(names: list[str]) -> Items:
        if shape.view == "names":
            return {name: name for name in names}
        made = kind.canonical if shape.view == "canonical" else kind.native
        found = await made(unit, names)
        adds = kind.with_usage if "usage" in shape.extras else None
        return await adds(unit, found) if adds and found else found

    if shape.fields:
        listing.check_fields(shape.fields, {*kind.fields(unit, shape.view), *shape.extras})
    if kind.hides:
        query = hidden_fields.permitted(part.query, unit.rules.hidden_user_fields)
        part = replace(part, query=query)
    role = kind.role(unit)
    keys = await role.keys(domains, part.query, part.after, part.limit + 1)
    names = [key.name for key in keys[: part.limit]]
    page = page_of(keys, part.limit, await items(names) if names else {})
    if not part.total:
        return page
    return replace(page, total=await role.count(domains, part.query))
