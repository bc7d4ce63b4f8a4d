"""Telephone numbers: one comma-separated text in requests and SQL, several values in LDAP."""

from __future__ import annotations

import re

# "Printable string" of RFC 4517; the comma separates numbers.
_STORABLE = re.compile(r"[A-Za-z0-9'()+\-./:=? ,]*")


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers of a comma-separated text, sorted.

    LDAP ignores blanks, hyphens and case in comparisons: of equal numbers the first is kept.
    """
    found: dict[str, str] = {}
    for number in sorted(item.strip() for item in text.split(",")):
        found.setdefault(number.replace(" ", "").replace("-", "").lower(), number)
    found.pop("", None)
    return tuple(sorted(found.values()))


def is_storable(text: str) -> bool:
    """Tell whether LDAP's syntax of telephone numbers allows all characters of a text."""
    return bool(_STORABLE.fullmatch(text))
