"""Subscriber files of mlmmj: one address per line, read as mlmmj reads them.

mlmmj 1.3 and 1.5 send to every line of every file in the directory, regardless of the file's name.
They append a new address to the file named after its first character, and search all files for an
address to remove. They ignore case and empty lines, and send despite blanks or carriage returns
around an address. Changes are in ``subscriber_changes``.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

_CHUNK: Final = 64 * 1024
_FEW: Final = 20
"""Maximum number of addresses that are searched in the text before it is split into lines."""


def files(directory: Path) -> list[Path]:
    """Return the subscriber files of a directory, sorted."""
    return [Path(path) for path in _names(str(directory))]


def read(path: Path) -> list[str]:
    """Return the addresses in a file, without empty lines; none if there is no file."""
    return list(filter(None, map(address_in, _content(str(path)).split(b"\n"))))


def find(path: Path, wanted: Collection[str]) -> set[str]:
    """Return which addresses are in a file."""
    return _found(_content(str(path)), wanted)


def find_in(directory: Path, wanted: Collection[str]) -> set[str]:
    """Return which addresses are in any file of a directory."""
    found: set[str] = set()
    for path in _names(str(directory)):
        found |= _found(_content(path), wanted)
    return found


def address_in(line: bytes) -> str:
    """Return the address in a line."""
    return line.decode("utf-8", "replace").strip().lower()


def whole(descriptor: int) -> bytes:
    """Return the content of an open file."""
    found = os.pread(descriptor, _CHUNK, 0)
    if len(found) < _CHUNK:
        return found
    parts, offset = [found], len(found)
    while part := os.pread(descriptor, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.is_file())
    except FileNotFoundError:
        return []


def _found(content: bytes, wanted: Collection[str]) -> set[str]:
    if content.isascii() and len(wanted) <= _FEW:
        lowered = content.lower()
        if not any(mail.encode("utf-8", "replace") in lowered for mail in wanted):
            return set()
    return set(map(address_in, content.split(b"\n"))).intersection(wanted)


def _content(path: str) -> bytes:
    # For thousands of small files: Path.read_bytes takes three times as long.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return whole(descriptor)
    finally:
        os.close(descriptor)
