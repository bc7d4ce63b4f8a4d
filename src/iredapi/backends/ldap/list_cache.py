"""Cache of long lists of the directory, from one page to the next."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, TypeVar

_Item = TypeVar("_Item")


class Listings:
    """Cache of the sorted names of long lists, from one page of a listing to its next.

    slapd does not sort: all names are read at once, then the entries of each page by name.
    """

    MOST = 400_000
    """Maximum number of names in the cache; a list counts as ``KEY`` more, also an empty one."""
    KEY = 100
    SECONDS = 60.0

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[float, list[Any]]] = OrderedDict()

    async def whole(
        self, key: Hashable, read: Callable[[], Awaitable[list[Any]]], *, fresh: bool
    ) -> list[Any]:
        """Return a sorted list, read again with ``fresh`` or when it is not in the cache."""
        kept = self._kept.pop(key, None)
        if kept is None or fresh or time.monotonic() - kept[0] > self.SECONDS:
            kept = (0.0, await read())
        self._keep(key, kept[1])
        return kept[1]

    def _keep(self, key: Hashable, names: list[Any]) -> None:
        self._kept[key] = (time.monotonic(), names)
        while sum(len(item[1]) + self.KEY for item in self._kept.values()) > self.MOST:
            self._kept.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Have a list read again for its next page."""
        self._kept.pop(key, None)

    async def page(
        self, key: Hashable, after: str, limit: int, read: Callable[[], Awaitable[list[str]]]
    ) -> list[str]:
        """Return the names after ``after``; the first page (``after`` empty) reads them again."""
        kept = self._kept.pop(key, None)
        if kept is None or not after or time.monotonic() - kept[0] > self.SECONDS:
            kept = (0.0, sorted(await read()))
        names = kept[1]
        start = bisect_right(names, after)
        if start + limit < len(names):
            self._keep(key, names)
        return names[start : start + limit]


async def full_page(
    names: Callable[[str, int], Awaitable[list[str]]],
    read: Callable[[list[str]], Awaitable[Mapping[str, _Item]]],
    after: str,
    limit: int,
) -> list[_Item]:
    """Return the next items of a listing, fewer than ``limit`` only at its end.

    ``names`` returns the next names, ``read`` the items that still exist, by name. An item that was
    deleted since the names were read must not make a page short, which would end the listing.
    """
    found: list[_Item] = []
    while (asked := limit - len(found)) > 0:
        some = await names(after, asked)
        there = await read(some) if some else {}
        found += [there[name] for name in some if name in there]
        if len(some) < asked:
            break
        after = some[-1]
    return found
