"""Paths of mailboxes: generated ones, and the checks of sent ones.

Dovecot's home directory is ``storagebasedirectory/storagenode/maildir``, always in lower case.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from iredapi.domain import addresses

_UNSAFE = re.compile(r"[.~]")
_PATH = re.compile(r"/[!-~]+")
_EXPANDED = re.compile(r"[;%~]")
MAX_PATH = 255


@dataclass(frozen=True, slots=True)
class Layout:
    """The server's rules for new mailboxes (see the settings of the same names)."""

    base: str = "/var/vmail/vmail1"
    roots: Sequence[str] = ()
    hashed: bool = True
    prepend_domain: bool = True
    domain_hashed: bool = False
    append_timestamp: bool = True


@dataclass(frozen=True, slots=True)
class Location:
    """The three columns of a mailbox path."""

    base: str
    node: str
    maildir: str

    @property
    def path(self) -> str:
        """The absolute directory, without a trailing slash or doubled ones."""
        joined = f"{self.base}/{self.node}/{self.maildir}".lower()
        return "/" + "/".join(part for part in joined.split("/") if part)


NO_LOCATION = Location("", "", "")
DEFAULT = Layout()


class InvalidMaildir(ValueError):
    """The path is not acceptable; the message says why."""


@lru_cache(maxsize=1024)
def _letters(beginning: str) -> str:
    marks = [_UNSAFE.sub("_", letter) for letter in beginning.ljust(3, "_")]
    return "/".join(marks) + "/"


def generate(mail: str, layout: Layout, now: datetime) -> Location:
    """Return the location of a new mailbox; ``now`` (server local time) makes it unique.

    ``john.d@ex.com`` gives ``ex.com/j/o/h/john.d-2026.01.02.03.04.05/``. The cron job that removes
    deleted mailboxes only accepts paths that end in such a timestamp.
    """
    local, domain = addresses.local_part_of(mail), addresses.domain_of(mail)
    maildir = _letters(local[:3]) if layout.hashed else ""
    maildir += local
    if layout.append_timestamp:
        maildir += now.strftime("-%Y.%m.%d.%H.%M.%S")
    maildir += "/"
    if layout.prepend_domain:
        label = domain.split(".", 1)[0]
        prefix = ""
        if layout.domain_hashed:
            pair = [label[i] if i < len(label) and label[i].isalnum() else "_" for i in range(2)]
            prefix = "/".join(pair) + "/"
        maildir = f"{prefix}{domain}/{maildir}"
    base, _, node = layout.base.rstrip("/").rpartition("/")
    return Location(base or "/", node, maildir)


def parse_location(text: str, layout: Layout) -> Location:
    """Parse the absolute path of a mailbox that a global admin sent.

    It must be under a storage root. Raises InvalidMaildir; the message says what is wrong.
    """
    path = text.strip().lower().rstrip("/")
    if not _PATH.fullmatch(path) or len(path) > MAX_PATH:
        raise InvalidMaildir("not an absolute path of at most 255 printable characters")
    if posixpath.normpath(path) != path or _EXPANDED.search(path):
        raise InvalidMaildir("the path has empty parts, '.', '..' or characters for expansion")
    roots = [root.lower().rstrip("/") for root in (layout.roots or (layout.base,))]
    if not any(path.startswith(root + "/") for root in roots):
        raise InvalidMaildir(f"the path must lie under {' or '.join(roots)}")
    return _split(path, layout)


def deleted_location(text: str, layout: Layout) -> Location:
    """Return the location of a mailbox that a removed user had, from ``deleted_mailboxes``.

    It may be under a storage root of earlier times. Raises InvalidMaildir.
    """
    path = "/" + "/".join(part for part in text.lower().split("/") if part)
    if not _PATH.fullmatch(path) or posixpath.normpath(path) != path or _EXPANDED.search(path):
        raise InvalidMaildir("its path has '.', '..' or characters for expansion")
    return _split(path, layout)


def _split(path: str, layout: Layout) -> Location:
    base = layout.base.rstrip("/")
    if path.startswith(base.lower() + "/"):
        directory, _, node = base.rpartition("/")
        return Location(directory or "/", node, path[len(base) + 1 :])
    node, _, rest = path[1:].partition("/")
    if not rest:
        raise InvalidMaildir("the path has only one part")
    return Location("/", node, rest)


def overlap(one: str, other: str) -> bool:
    """Tell whether two directories are the same or one contains the other."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
