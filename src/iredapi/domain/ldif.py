"""Writes LDIF, the text format of directory entries (RFC 2849)."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WIDTH: Final = 76
"""Maximum line length in characters (RFC 2849); continuation lines begin with a blank."""
# Stricter than SAFE-STRING of RFC 2849: control characters and a blank at the end are encoded too,
# because readers and editors drop them.
_SAFE = re.compile(rb"(?![ :<])[ -~]*(?<! )")


class Export(StrEnum):
    """Kinds of entries that can be exported."""

    DOMAIN = "domain"
    CATCHALL = "catchall"
    ADMIN = "admin"
    USER = "user"
    MAILLIST = "maillist"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: its DN and the values of its attributes."""

    dn: str
    attributes: Mapping[str, Collection[bytes]] = field(repr=False)


def without(records: Iterable[Record], names: Collection[str]) -> list[Record]:
    """Return the entries without some attributes; names are compared without regard to case."""
    hidden = {name.lower() for name in names}
    return [
        Record(
            record.dn,
            {
                name: values
                for name, values in record.attributes.items()
                # With an option (``;lang-de``) it is the same attribute.
                if name.partition(";")[0].lower() not in hidden
            },
        )
        for record in records
    ]


def chunks(records: Iterable[Record]) -> Iterator[str]:
    """Yield the text of each entry: DN, object classes, then the other attributes, sorted."""
    lead = ""
    for record in records:
        yield lead + "".join(f"{line}\n" for line in _lines(record))
        lead = "\n"


def text(records: Iterable[Record]) -> str:
    """Return the text of entries, separated by empty lines."""
    return "".join(chunks(records))


def _lines(record: Record) -> Iterator[str]:
    yield from _folded("dn", record.dn.encode())
    for name in sorted(record.attributes, key=_place):
        for value in sorted(record.attributes[name]):
            yield from _folded(name, value)


def _place(name: str) -> tuple[bool, str]:
    return (name.lower() != "objectclass", name.lower())


def _folded(name: str, value: bytes) -> Iterator[str]:
    if not value:
        line = f"{name}:"
    elif _SAFE.fullmatch(value):
        line = f"{name}: {value.decode('ascii')}"
    else:
        line = f"{name}:: {base64.b64encode(value).decode('ascii')}"
    yield line[:WIDTH]
    for start in range(WIDTH, len(line), WIDTH - 1):
        yield f" {line[start : start + WIDTH - 1]}"
