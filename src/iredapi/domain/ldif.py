"""LDIF, the text of directory entries (RFC 2849): written only, never read."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WIDTH: Final = 76
"""Longest line, in characters; RFC 2849 asks for it, continuations begin with a blank."""
# Narrower than the RFC's SAFE-STRING: control characters are encoded too, and a blank at the end,
# which readers and editors lose.
_SAFE = re.compile(rb"(?![ :<])[ -~]*(?<! )")


class Export(StrEnum):
    """What can be exported."""

    DOMAIN = "domain"
    CATCHALL = "catchall"
    ADMIN = "admin"
    USER = "user"
    MAILLIST = "maillist"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: its name, and the values of its attributes."""

    dn: str
    attributes: Mapping[str, Collection[bytes]] = field(repr=False)


def without(records: Iterable[Record], names: Collection[str]) -> list[Record]:
    """Leave attributes out, whatever the case of their names."""
    hidden = {name.lower() for name in names}
    return [
        Record(
            record.dn,
            {
                name: values
                for name, values in record.attributes.items()
                # An option (``;lang-de``) makes no other attribute of it.
                if name.partition(";")[0].lower() not in hidden
            },
        )
        for record in records
    ]


def chunks(records: Iterable[Record]) -> Iterator[str]:
    """Write entries one by one: the name first, then object classes, then the rest, sorted."""
    lead = ""
    for record in records:
        yield lead + "".join(f"{line}\n" for line in _lines(record))
        lead = "\n"


def text(records: Iterable[Record]) -> str:
    """Write entries, divided by empty lines."""
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
