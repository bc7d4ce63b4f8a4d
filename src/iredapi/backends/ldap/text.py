"""Escaping for filters (RFC 4515) and for distinguished names (RFC 4514).

The escapers of bonsai are not used: its filter escaper writes NUL as ``\\0``, its other one fails
on an empty value.
"""

from __future__ import annotations

from typing import Final

_FILTER: Final = str.maketrans({char: f"\\{ord(char):02x}" for char in "\\*()\0"})
# Hexadecimal escapes are the one form that no reader can take for something else.
_VALUE: Final = str.maketrans({char: f"\\{ord(char):02X}" for char in '\\,+"<>;=\0'})


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
    """Cut a DN into its first component and the DN of its parent ("" at the top)."""
    quoted = False
    position = 0
    while position < len(dn):
        char = dn[position]
        if char == "\\":
            position += 1  # whatever follows is no separator
        elif char == '"':
            quoted = not quoted
        elif char in ",;" and not quoted:
            return dn[:position], dn[position + 1 :].lstrip(" ")
        position += 1
    return dn, ""
