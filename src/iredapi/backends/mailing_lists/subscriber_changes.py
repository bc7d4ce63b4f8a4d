"""Changes of mlmmj's subscriber files while mlmmj's own programs change them.

What the programs do, seen with strace on mlmmj 1.3.0 and 1.5.2:

* ``mlmmj-sub`` opens the file, and appends one line. 1.3 waits for a POSIX record lock on the file
  in between, 1.5 takes no lock.
* ``mlmmj-unsub`` opens the file, waits for the lock (1.5: a shared one), copies what is left to
  ``<file>.new`` and renames that over the file; an empty file it removes.

So the file stays the same file here: an address that ``mlmmj-sub`` is going to append to a replaced
file would be lost. Additions are appended, removed addresses are overwritten with blanks, and
nothing moves: mlmmj-send remembers the byte up to which it has sent, and an addition that took no
lock keeps its place. All files are locked before the first is changed.

A line of blanks is ignored by all programs of both versions. An empty line is not: ``mlmmj-unsub``
of 1.5 then removes the wrong bytes. So we write no empty lines, and fill those that we find.

The locks are open file description locks. They exclude POSIX record locks of other processes, and
unlike those they are not lost when another thread of this process closes the same file.

Two ``mlmmj-unsub`` at once undo each other's changes, and an addition between them, since each of
them copies the file that it opened. So, after a change of a file that somebody else has just
changed, we look again for a moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iredapi.backends.mailing_lists import subscriber_files

_PAUSE: Final = 0.002
"""Seconds between two attempts to lock."""
_PAGE: Final = 4096
"""A write that is killed ends at a multiple of this."""
_MUCH: Final = 64 * 1024
"""Bytes of blanks at the end of a file that are cut off."""
_RECENT: Final = 1.0
"""Seconds: a directory changed since then may have programs at work on files that they opened."""
_QUIET: Final = 0.25
"""Seconds without a loss after which a change is taken to last."""
_LOOK: Final = 0.02
_LOOKING: Final = 5.0
"""Seconds until we stop looking."""

SetOwner = Callable[[Path], None]
"""Sets the owner of a new file."""


class StillLocked(Exception):
    """Another program holds the lock of a subscriber file; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """Addresses to add to a file that does not have them, and to remove from it (any spelling)."""

    path: Path
    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()


def apply(changes: Iterable[Change], set_owner: SetOwner, seconds: float) -> None:
    """Make the changes, all or (unless the process is killed) none.

    Waits at most ``seconds`` for the locks. Raises StillLocked, OSError.
    """
    ordered = sorted(changes, key=lambda change: change.path)
    with_others = _apply(ordered, set_owner, seconds)
    now = time.monotonic()
    last_loss, end = now, now + _LOOKING
    while with_others and now < min(last_loss + _QUIET, end):
        time.sleep(_LOOK)
        lost = [change for change in ordered if not _holds(change)]
        now = time.monotonic()
        if lost:
            _apply(lost, set_owner, seconds)
            last_loss = now


def has_empty_lines(path: Path) -> bool:
    """Tell whether a file has empty lines before its end."""
    content = path.read_bytes()
    return content.startswith(b"\n") or b"\n\n" in content


def _holds(change: Change) -> bool:
    found = subscriber_files.find(change.path, change.add | change.remove)
    return found == change.add


def _apply(changes: Sequence[Change], set_owner: SetOwner, seconds: float) -> bool:
    """Make the changes; tell whether other programs are changing the directories, too."""
    deadline = time.monotonic() + seconds
    others = any(_recent(folder) for folder in {change.path.parent for change in changes})
    with ExitStack() as stack:
        held = []
        for change in changes:
            lock = _locked(change.path, set_owner, deadline, create=bool(change.add))
            descriptor, waited = stack.enter_context(lock)
            others |= waited
            if descriptor >= 0:
                held.append((change, descriptor))
        with ExitStack() as undo:
            for change, descriptor in held:
                start, content = _append(descriptor, change.add)
                undo.callback(_blank, descriptor, start, content)
            undo.pop_all()
        for change, descriptor in held:
            _remove(descriptor, change.remove)
            _fill(descriptor)
        # The locks are not held for the disk: others wait for them.
        copies = [os.dup(descriptor) for _, descriptor in held]
    with ExitStack() as stack:
        for copy in copies:
            stack.callback(os.close, copy)
        for copy in copies:
            os.fsync(copy)
    for folder in {change.path.parent for change in changes}:
        note(folder)
    return others


_MOST: Final = 1000
_left: dict[str, int] = {}
"""When directories were modified (ns), as this process last left them."""


def note(folder: Path) -> None:
    """Note that this process has just made or changed a directory of subscriber files."""
    _left[str(folder)] = _modified(folder)
    for oldest in list(_left)[:-_MOST]:
        _left.pop(oldest, None)


def _modified(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _recent(folder: Path) -> bool:
    # In-place changes do not modify a directory; renaming and removing does.
    modified = _modified(folder)
    return _left.get(str(folder)) != modified and time.time() - modified / 1e9 < _RECENT


# -- content ---------------------------------------------------------------------------------------


def _append(descriptor: int, mails: Iterable[str]) -> tuple[int, bytes]:
    """Append addresses that a file does not have; return where, and what was written."""
    before = subscriber_files.whole(descriptor)
    present = set(map(subscriber_files.address_in, before.split(b"\n")))
    missing = sorted(set(mails) - present)
    if not missing:
        return 0, b""
    content = bytearray(b"\n" if before and not before.endswith(b"\n") else b"")
    for mail in missing:
        line = f"{mail}\n".encode()
        # A part of an address could be the address of another person. A rest of one byte, which a
        # line of blanks cannot fill, is not left.
        room = -(len(before) + len(content)) % _PAGE
        if 1 < room < len(line) or room == len(line) + 1:
            content += b" " * (room - 1) + b"\n"
        content += line
    return _write_at_end(descriptor, bytes(content)), bytes(content)


def _write_at_end(descriptor: int, content: bytes) -> int:
    """Append lines, and return where; nothing but blanks if there is not enough room."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
    try:
        written = os.write(descriptor, content)
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    start = os.lseek(descriptor, 0, os.SEEK_CUR) - written
    if written < len(content):
        _blank(descriptor, start, content[:written])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return start


def _remove(descriptor: int, mails: frozenset[str]) -> None:
    """Overwrite all lines with these addresses."""
    offset = 0
    for line in subscriber_files.whole(descriptor).split(b"\n"):
        if line and subscriber_files.address_in(line) in mails:
            _blank(descriptor, offset, line)
        offset += len(line) + 1


def _fill(descriptor: int) -> None:
    """Fill empty lines, and cut many blank lines off the end."""
    content = subscriber_files.whole(descriptor)
    for found in _EMPTY.finditer(content):
        os.pwrite(descriptor, _filled(found), found.start())
    # A single one has no byte to fill: the line after it goes to the end, and becomes the blanks.
    filled = _EMPTY.sub(_filled, content)
    alone = list(_ALONE.finditer(filled))
    if alone and content.endswith(b"\n"):
        _write_at_end(descriptor, b"".join(found[1] for found in alone))
        for found in alone:
            os.pwrite(descriptor, _filled(found), found.start())
    elif filled == b"\n" or filled.endswith(b"\n\n"):
        start = _write_at_end(descriptor, b" \n")
        if start == len(content):
            os.pwrite(descriptor, b" ", start - 1)
    if len(content) - len(content.rstrip()) > _MUCH:
        with suppress(OSError):
            _shorten(descriptor)


def _filled(lines: re.Match[bytes]) -> bytes:
    return b" " * (len(lines[0]) - 1) + b"\n"


_EMPTY: Final = re.compile(rb"(?:(?<=\n)|\A)\n{2,}")
_ALONE: Final = re.compile(rb"(?:(?<=\n)|\A)\n([^\n]+\n)")


def _blank(descriptor: int, start: int, content: bytes) -> None:
    """Overwrite lines with blanks; the ends of lines stay."""
    if content:
        os.pwrite(descriptor, re.sub(rb"[^\n]", b" ", content), start)


def _shorten(descriptor: int) -> None:
    """Cut blank lines off the end, if nobody else has the file open. Raises OSError.

    During the lease, mlmmj's programs wait when they open the file. The kernel would tell us by
    SIGIO, which ends a process; SIGURG does nothing.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    try:
        content = subscriber_files.whole(descriptor)
        text = content.rstrip()
        size = content.find(b"\n", len(text)) + 1 if text else 0
        if size or not text:
            os.ftruncate(descriptor, size)
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


# -- locks -----------------------------------------------------------------------------------------


@contextmanager
def _locked(
    path: Path, set_owner: SetOwner, deadline: float, *, create: bool
) -> Iterator[tuple[int, bool]]:
    """Hold the lock on a file; yield its descriptor (-1: no file), and whether we had to wait.

    Raises StillLocked.
    """
    waited = False
    while True:
        made = create and not path.exists()
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if create:
                raise
            yield -1, waited
            return
        try:
            if made:
                # mlmmj may have removed it since: then the loop creates another one.
                with suppress(FileNotFoundError):
                    set_owner(path)
            waited |= _lock(descriptor, deadline)
            # The previous holder may have removed or replaced the file.
            if _same(descriptor, path):
                yield descriptor, waited
                return
            waited = True
        finally:
            # A duplicate of the descriptor may stay open.
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_UNLCK))
            os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> bool:
    """Take the exclusive lock; tell whether we had to wait. Raises StillLocked."""
    waited = False
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise StillLocked from None
            waited = True
            time.sleep(_PAUSE)
        else:
            return waited


def _whole_file(kind: int) -> bytes:
    """Return a ``struct flock``: type, whence, start, length, process (always 0 here)."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)


def _same(descriptor: int, path: Path) -> bool:
    held = os.fstat(descriptor)
    try:
        current = path.stat()
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (current.st_dev, current.st_ino)
