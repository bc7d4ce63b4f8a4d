"""mlmmj's files of subscribers: one address a line, under its locks.

mlmmj 1.3 sends to every line of every file in the directory, whatever the file's name; it adds to
the file that is named after the address's first character, at its end, and looks in all of them for
whom it removes. It minds neither upper case nor blank lines; blanks and carriage returns around an
address do not keep it from sending.

The locks are POSIX record locks: first on ``.<file>.lock``, then on the file itself, which mlmmj
opens before it waits. So files are changed in place: who renamed another one over the file, or
removed it, would lose what a waiting ``mlmmj-sub`` is about to add.
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
"""How long to wait for mlmmj itself."""
_PAUSE: Final = 0.01
_CHUNK: Final = 64 * 1024
_FEW: Final = 20
"""So many addresses are looked for one by one before a file is taken apart."""


def files(directory: Path) -> list[Path]:
    """Return the files that may have subscribers, sorted."""
    return [Path(path) for path in _names(str(directory))]


def read(path: Path) -> list[str]:
    """Return the addresses in a file, if there is one; blank lines do not count."""
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
    # There are thousands of small files: Path.read_bytes takes three times as long.
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


def add(path: Path, mails: Iterable[str], give: Callable[[Path], None]) -> None:
    """Add addresses at the end, unless they are there; ``give`` sets a new file's owner."""
    with _held(path, give, create=True) as descriptor:
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
            # Half an address is somebody else's.
            os.ftruncate(descriptor, len(before))
            raise
        os.fsync(descriptor)


def remove(
    path: Path, mails: Collection[str], give: Callable[[Path], None], *, closing_up: bool
) -> None:
    """Remove addresses, whatever their spelling, and how often they are there.

    With ``closing_up`` the following lines move up. Without, blank lines take the place: mlmmj-send
    remembers up to which byte it has sent, and would go on in the middle of another address.
    """
    with _held(path, give, create=False) as descriptor:
        if descriptor < 0:
            return
        before = _whole(descriptor)
        after = b"".join(
            line if _address(line) not in mails else b"" if closing_up else b"\n" * len(line)
            for line in _lines(before)
        )
        if after == before:
            return
        # Filled up with blank lines until it is cut: nobody sees half an address.
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
    parts, place = [found], len(found)
    while part := os.pread(descriptor, _CHUNK, place):
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def _write(descriptor: int, content: bytes, start: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, start)
        content, start = content[written:], start + written


@contextmanager
def _held(path: Path, give: Callable[[Path], None], *, create: bool) -> Iterator[int]:
    """Hold mlmmj's locks on a file of subscribers; gives its descriptor, -1 without a file."""
    guard = path.with_name(f".{path.name}.lock")
    with _locked(guard, give, create=True):
        try:
            with _locked(path, give, create=create) as descriptor:
                yield descriptor
        finally:
            guard.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, give: Callable[[Path], None], *, create: bool) -> Iterator[int]:
    """Hold the lock on a file; gives its descriptor, -1 when there is none and none is to be made.

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
                # mlmmj may have removed it again: then the next round makes another one.
                with suppress(FileNotFoundError):
                    give(path)
            _lock(descriptor, deadline)
            # Whoever held it may have removed or replaced the file meanwhile.
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
        there = path.stat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
