"""Escaping for filters (RFC 4515) and for distinguished names (RFC 4514).

bonsai's functions are not used: the one for filters writes NUL as ``\\0``, the one for DNs fails
on an empty value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_FILTER: Final = str.maketrans({char: f"\\{ord(char):02x}" for char in "\\*()\0"})
# Hexadecimal escapes are unambiguous for every parser.
_VALUE: Final = str.maketrans({char: f"\\{ord(char):02X}" for char in '\\,+"<>;=\0'})


_SPECIAL: Final = re.compile(r'[\\";]')
"""What makes it hard to find the end of an RDN; few DNs have it."""


def escape_filter(text: str) -> str:
    """Return text as an assertion value of a search filter."""
    return text.translate(_FILTER)


def rdn(name: str, value: str) -> str:
    """Return ``name=value`` as one component of a DN."""
    escaped = value.translate(_VALUE)
    if escaped[:1] in {" ", "#"}:
        escaped = f"\\{ord(escaped[0]):02X}{escaped[1:]}"
    if escaped[-1:] == " ":
        escaped = f"{escaped[:-1]}\\20"
    return f"{name}={escaped}"


def split_rdn(dn: str) -> tuple[str, str]:
    """Split a DN into its RDN and the DN of its parent ("" at the top)."""
    if not _SPECIAL.search(dn):
        first, _, parent = dn.partition(",")
        return first, parent.lstrip(" ")
    quoted = False
    position = 0
    while position < len(dn):
        char = dn[position]
        if char == "\\":
            position += 1  # the next character is escaped
        elif char == '"':
            quoted = not quoted
        elif char in ",;" and not quoted:
            return dn[:position], dn[position + 1 :].lstrip(" ")
        position += 1
    return dn, ""


def renamed(dn: str, swaps: Mapping[tuple[str, str], str]) -> str:
    """Return a DN with other values in its RDN, which may have several.

    ``swaps`` are new values by attribute and old value (both lower case). Others stay.
    """
    first, parent = split_rdn(dn)
    parts = []
    for part in _split_plus(first):
        name, _, value = part.partition("=")
        new = swaps.get((name.strip().lower(), key_of(f"x={value}").partition("=")[2]))
        parts.append(part if new is None else rdn(name.strip(), new))
    changed = "+".join(parts)
    return f"{changed},{parent}" if parent else changed


def names_of_rdn(dn: str) -> frozenset[str]:
    """Return the attributes in the RDN of a DN, lower case."""
    parts = _split_plus(split_rdn(dn)[0])
    return frozenset(part.partition("=")[0].strip().lower() for part in parts)


def _split_plus(text: str) -> list[str]:
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "+":
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def depth(dn: str) -> int:
    """Return the number of components of a DN."""
    count = 0
    while dn:
        _, dn = split_rdn(dn)
        count += 1
    return count


_ESCAPED: Final = re.compile(rb"\\([0-9A-Fa-f]{2})")


def key_of(dn: str) -> str:
    """Return a DN for comparisons: without escapes, in lower case."""
    if "\\" in dn:
        plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), dn.encode())
        dn = plain.decode(errors="replace").replace("\\", "")
    parts = dn.lower().split(",")
    return ",".join("=".join(side.strip() for side in part.split("=")) for part in parts)
