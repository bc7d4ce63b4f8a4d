"""mlmmj's files of subscribers: one per first character, one address a line, under its locks.

The locks are POSIX record locks, which mlmmj's programs take too: first on ``.<character>.lock``,
then on the file itself.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SECONDS: Final = 10.0
"""How long to wait for mlmmj itself."""
_PAUSE: Final = 0.01


def is_record(path: Path) -> bool:
    """Tell a file of subscribers from locks, and from what a removal is about to rename."""
    return not path.name.startswith(".") and not path.name.endswith(".new")


def read(path: Path) -> Iterator[str]:
    """Return the addresses in a file, if there is one; blank lines do not count."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _addresses(file)
    except FileNotFoundError:
        return


def _addresses(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if mail := line.strip().lower():
            yield mail


def change(
    path: Path, *, add: Collection[str], remove: Collection[str], give: Callable[[Path], None]
) -> None:
    """Add and remove addresses; a file that gets empty goes. ``give`` sets a new file's owner."""
    guard = path.with_name(f".{path.name}.lock")
    with _locked(guard, give), _locked(path, give) as descriptor:
        # Through the locked descriptor: closing another one of the same file would end the lock.
        with os.fdopen(descriptor, encoding="utf-8", errors="replace", closefd=False) as held:
            before = list(_addresses(held))
        kept = [mail for mail in before if mail not in remove]
        present = set(kept)
        after = [*kept, *sorted(mail for mail in add if mail not in present)]
        if not after:
            path.unlink(missing_ok=True)
        elif after != before:
            new = path.with_name(f"{path.name}.new")
            writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(writing, "w", encoding="utf-8", newline="") as file:
                file.writelines(f"{mail}\n" for mail in after)
                file.flush()
                os.fsync(file.fileno())
            give(new)
            new.replace(path)
        guard.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, give: Callable[[Path], None]) -> Iterator[int]:
    """Hold mlmmj's lock on a file, which is made when it is not there; gives its descriptor.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + _SECONDS
    while True:
        made = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if made:
            give(path)
        try:
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
