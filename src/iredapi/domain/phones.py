"""Telephone numbers: one text with commas to clients and on SQL, several values on LDAP."""

from __future__ import annotations

import re

# "Printable string" of RFC 4517 without its comma, which divides numbers here.
_STORABLE = re.compile(r"[A-Za-z0-9'()+\-./:=? ,]*")


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers of a comma list, sorted.

    Of those that differ only in blanks, hyphens and case the first in order is kept: to LDAP they
    are the same value.
    """
    found: dict[str, str] = {}
    for number in sorted(item.strip() for item in text.split(",")):
        found.setdefault(number.replace(" ", "").replace("-", "").lower(), number)
    found.pop("", None)
    return tuple(sorted(found.values()))


def is_storable(text: str) -> bool:
    """Tell whether LDAP's syntax of telephone numbers has all these characters."""
    return bool(_STORABLE.fullmatch(text))
