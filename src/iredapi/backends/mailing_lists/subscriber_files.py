"""Subscriber files of mlmmj 1.3: one address per line, changed under mlmmj's locks.

mlmmj sends to every line of every file in the directory, regardless of the file's name. It appends
a new address to the file named after its first character, and searches all files for an address to
remove. It ignores case and empty lines, and sends despite blanks or carriage returns around an
address.

The locks are POSIX record locks: first on ``.<file>.lock``, then on the file, which mlmmj opens
before it waits for the lock. So files are changed in place: if a file were replaced or removed,
the address that a waiting ``mlmmj-sub`` adds would be lost.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_SECONDS: Final = 10.0
"""Seconds to wait for a lock held by mlmmj."""
_PAUSE: Final = 0.01
_CHUNK: Final = 64 * 1024
_FEW: Final = 20
"""Maximum number of addresses that are searched in the text before it is split into lines."""


def files(directory: Path) -> list[Path]:
    """Return the subscriber files of a directory, sorted."""
    return [Path(path) for path in _names(str(directory))]


def read(path: Path) -> list[str]:
    """Return the addresses in a file, without empty lines; none if there is no file."""
    return list(filter(None, map(_address, _content(str(path)).split(b"\n"))))


def find(path: Path, wanted: Collection[str]) -> set[str]:
    """Return which addresses are in a file."""
    return _found(_content(str(path)), wanted)


def find_in(directory: Path, wanted: Collection[str]) -> set[str]:
    """Return which addresses are in any file of a directory."""
    found: set[str] = set()
    for path in _names(str(directory)):
        found |= _found(_content(path), wanted)
    return found


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
    return set(map(_address, content.split(b"\n"))).intersection(wanted)


def _content(path: str) -> bytes:
    # For thousands of small files: Path.read_bytes takes three times as long.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return _whole(descriptor)
    finally:
        os.close(descriptor)


def _address(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip().lower()


def add(path: Path, mails: Iterable[str], set_owner: Callable[[Path], None]) -> None:
    """Append addresses that a file does not have; ``set_owner`` sets the owner of a new file."""
    with _locked_as_mlmmj(path, set_owner, create=True) as descriptor:
        before = _whole(descriptor)
        present = set(map(_address, before.split(b"\n")))
        lines = "".join(f"{mail}\n" for mail in sorted(set(mails) - present)).encode()
        if not lines:
            return
        if before and not before.endswith(b"\n"):
            lines = b"\n" + lines
        try:
            _write(descriptor, lines, len(before))
        except OSError:
            # An incomplete address could be the address of another person.
            os.ftruncate(descriptor, len(before))
            raise
        os.fsync(descriptor)


def remove(
    path: Path, mails: Collection[str], set_owner: Callable[[Path], None], *, compact: bool
) -> None:
    """Remove all lines with these addresses, regardless of case and blanks.

    With ``compact`` the following lines move up. Otherwise removed lines are filled with newlines:
    mlmmj-send stores the offset up to which it has sent, and would continue inside of an address.
    """
    with _locked_as_mlmmj(path, set_owner, create=False) as descriptor:
        if descriptor < 0:
            return
        before = _whole(descriptor)
        after = b"".join(
            line if _address(line) not in mails else b"" if compact else b"\n" * len(line)
            for line in _lines(before)
        )
        if after == before:
            return
        # Padded with newlines until it is truncated: no reader sees an incomplete address.
        _write(descriptor, after.ljust(len(before), b"\n"), 0)
        os.ftruncate(descriptor, len(after))
        os.fsync(descriptor)


def _lines(content: bytes) -> list[bytes]:
    *whole, rest = content.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else ())]


def _whole(descriptor: int) -> bytes:
    found = os.pread(descriptor, _CHUNK, 0)
    if len(found) < _CHUNK:
        return found
    parts, offset = [found], len(found)
    while part := os.pread(descriptor, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write(descriptor: int, content: bytes, start: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, start)
        content, start = content[written:], start + written


@contextmanager
def _locked_as_mlmmj(
    path: Path, set_owner: Callable[[Path], None], *, create: bool
) -> Iterator[int]:
    """Hold mlmmj's locks on a subscriber file; yield its descriptor, or -1 without a file."""
    guard = path.with_name(f".{path.name}.lock")
    with _locked(guard, set_owner, create=True):
        try:
            with _locked(path, set_owner, create=create) as descriptor:
                yield descriptor
        finally:
            guard.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, set_owner: Callable[[Path], None], *, create: bool) -> Iterator[int]:
    """Hold the lock on a file; yield its descriptor, or -1 without a file (if not ``create``).

    Raises TimeoutError.
    """
    deadline = time.monotonic() + _SECONDS
    while True:
        made = create and not path.exists()
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if create:
                raise
            yield -1
            return
        try:
            if made:
                # mlmmj may have removed it since: then the loop creates another one.
                with suppress(FileNotFoundError):
                    set_owner(path)
            _lock(descriptor, deadline)
            # The previous holder may have removed or replaced the file.
            if _same(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise TimeoutError("mlmmj holds its lock") from None
            time.sleep(_PAUSE)
        else:
            return


def _same(descriptor: int, path: Path) -> bool:
    held = os.fstat(descriptor)
    try:
        current = path.stat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (current.st_dev, current.st_ino)
