"""The next names of a list in their order, from a server that does not sort.

The index of substrings finds the names that begin with a text, and shows at once that there are
none. A search is for names with some beginnings. When they are too many for one answer, the first
beginning in the answer divides them into three parts, each of which is searched in the same way:
what comes before it, this beginning, and what comes after it. So the next page of a list takes some
dozens of small searches, however long the list is.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple


class Beginning(NamedTuple):
    """A text that names begin with, or a whole name."""

    text: str
    whole: bool = False

    def is_of(self, name: str) -> bool:
        """Return whether a name begins so."""
        return name == self.text if self.whole else name.startswith(self.text)


Part = Sequence[Beginning]
"""Sorted; none is the beginning of another, unless it is a whole name."""
Search = Callable[[Part | None, int], list[str]]
"""Returns at most so many names of a part, in no order; None: of the whole list. Empty and other
names stand for entries that were found and have no name in this part."""

SECONDS: Final = 1.0
"""It takes longer without the index, or with other names than usual; then all names are read."""
SIZE: Final = 50
"""Names in one answer."""
_LEAST: Final = 10
_MOST: Final = 128
"""Beginnings in one search."""
_COMPARISONS: Final = 800
"""slapd compares each entry that it answers with with each beginning: so many times at most."""
# slapd compares in lower case, and without blanks at the end. Addresses have no control characters.
_CHARACTERS: Final = [c for c in map(chr, range(33, 127)) if c == c.lower()]
_NEXT: Final = sorted([*_CHARACTERS, *(f" {c}" for c in _CHARACTERS)])
# The index has beginnings of two and more characters.
_FIRST: Final = [Beginning(f"{one}{more}") for one in _CHARACTERS for more in _NEXT]


class GaveUp(Exception):
    """All names have to be read: it takes too long, or there are odd names."""


def next_names(search: Search, after: str | None, limit: int, *, descending: bool) -> list[str]:
    """Return the next ``limit`` names behind ``after``; None: the first ones. Raises GaveUp.

    Names have two or more characters of ASCII, in lower case.
    """
    deadline = time.monotonic() + SECONDS
    found: list[str] = []
    todo: list[Part | None] = [None] if after is None else [*_behind(after, descending=descending)]
    while todo and len(found) < limit:
        part = todo.pop()
        size = SIZE if part is None else max(_LEAST, min(SIZE, _COMPARISONS // len(part)))
        names = search(part, size)
        if any("  " in name for name in names):  # for slapd it is one blank
            raise GaveUp
        own = {name for name in names if name and (part is None or _place(part, name) is not None)}
        if len(names) < size:
            found += sorted(own, reverse=descending)
        elif not own or time.monotonic() > deadline:
            raise GaveUp
        else:
            todo += _divided(part, (max if descending else min)(own), descending=descending)
    return found[:limit]


def _place(part: Part, name: str) -> int | None:
    """Return the index of the beginning that a name has; None: it is not in this part."""
    place = bisect_right(part, (name, True)) - 1
    return place if place >= 0 and part[place].is_of(name) else None


def _children(beginning: str) -> Part:
    return [Beginning(beginning, whole=True), *(Beginning(beginning + more) for more in _NEXT)]


def _divided(part: Part | None, name: str, *, descending: bool) -> list[Part]:
    """Divide a part at a name, which is the first one known; the last of the result comes first."""
    every: Part = part or _FIRST
    if part is not None and len(part) == 1:
        every = _children(part[0].text)
    place = _place(every, name)
    if place is None:
        raise GaveUp
    before, after = every[:place], every[place + 1 :]
    if descending:
        before, after = after, before
    # As a rule nothing comes before it, and few of what comes after it are needed.
    later = _split(after, 1, descending=descending)
    return [*later, [every[place]], *_split(before, _MOST, descending=descending)]


def _split(part: Part, size: int, *, descending: bool) -> list[Part]:
    """Split a part, the first ones into such small pieces; the last of the result comes first."""
    ordered, place = (part[::-1] if descending else part), 0
    pieces: list[Part] = []
    while place < len(ordered):
        pieces.append(sorted(ordered[place : place + size]))
        place, size = place + size, min(2 * size, _MOST)
    return pieces[::-1]


def _behind(name: str, *, descending: bool) -> list[Part]:
    """Return what follows a name; the last of the result comes first."""
    domain = name.rfind("@") if "@" in name else len(name)
    parts: list[Part] = []
    # What begins with a domain is only there when several domains are listed.
    rare: list[Beginning] = []
    every: Part = _FIRST
    while True:
        place = _place(every, name)
        if place is None:
            raise GaveUp
        some = every[:place] if descending else every[place + 1 :]
        own = every[place]
        if len(own.text) > domain + 1:
            rare += some
        else:
            parts += _split(some, 1, descending=descending)
        if own.whole:
            break
        every = _children(own.text)
    return [*parts, sorted(rare)] if rare else parts
