"""Checks of the mailing lists' directories: what mlmmj, or mlmmj 1.5, does not understand."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from iredapi.backends.mailing_lists import control_files, subscriber_changes, subscriber_files
from iredapi.backends.mailing_lists.subscriber_changes import Change
from iredapi.config.host_programs import Host
from iredapi.config.settings import Settings
from iredapi.doctor.findings import Finding
from iredapi.domain import list_texts

SUBSCRIBER_DIRECTORIES: Final = ("subscribers.d", "digesters.d", "nomailsubs.d")
_LOCK_SECONDS: Final = 10.0
_IREDMAIL: Final = Path("/var/vmail/mlmmj")
"""iRedMail's spool: with mlmmjadmin, no setting names it."""


async def examine_lists(settings: Settings, *, fix: bool) -> AsyncIterator[Finding]:
    """Report lists with outdated texts, or empty lines in files; repair them if ``fix``.

    Empty lines are reported with every version: they should be gone before an upgrade.
    """
    spool = settings.spool
    if spool is None:
        if not settings.mlmmjadmin_url or not os.access(_IREDMAIL, os.R_OK | os.X_OK):
            return
        spool = _IREDMAIL
    mlmmj = await asyncio.to_thread(Host(path=settings.mlmmj_programs).mlmmj)
    knows_all = mlmmj is not None and _numbers(mlmmj.version) < list_texts.SINCE
    unknown = "" if mlmmj else "; the version of mlmmj is not known"
    try:
        lists = await asyncio.to_thread(lambda: list(_lists(spool)))
    except FileNotFoundError:
        return  # no list yet
    except OSError as error:
        yield Finding("SERVER_AWAY", str(spool), error.strerror or "")
        return
    for directory in lists:
        try:
            found = [
                await asyncio.to_thread(_examine_subscribers, directory, fix),
                await asyncio.to_thread(_examine_headers, directory, fix),
            ]
            if not knows_all:
                found.append(await asyncio.to_thread(_examine_texts, directory, unknown, fix))
        except OSError as error:
            yield Finding("SERVER_AWAY", str(directory), error.strerror or "")
            continue
        for finding in filter(None, found):
            yield finding


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def _lists(spool: Path) -> Iterator[Path]:
    for domain in sorted(spool.iterdir()):
        if domain.name.startswith(".") or not domain.is_dir():
            continue
        for directory in sorted(domain.iterdir()):
            if not directory.name.startswith(".") and (directory / "control").is_dir():
                yield directory


def _examine_subscribers(directory: Path, fix: bool) -> Finding | None:
    found = [
        path
        for name in SUBSCRIBER_DIRECTORIES
        for path in subscriber_files.files(directory / name)
        if subscriber_changes.has_empty_lines(path)
    ]
    if not found:
        return None
    fixed = fix
    if fix:
        try:
            subscriber_changes.apply(map(Change, found), _keep_owner, _LOCK_SECONDS)
        except subscriber_changes.StillLocked:
            fixed = False
        else:
            fixed = not any(map(subscriber_changes.has_empty_lines, found))
    names = ", ".join(f"{path.parent.name}/{path.name}" for path in found)
    return Finding("LIST_FILE_EMPTY_LINES", _address(directory), names, fixed)


def _keep_owner(path: Path) -> None:
    """Do nothing: no file is created."""


def _address(directory: Path) -> str:
    return f"{directory.name}@{directory.parent.name}"


def _examine_headers(directory: Path, fix: bool) -> Finding | None:
    control = directory / "control"
    if not control_files.ends_headers_of_posts(control):
        return None
    path = control / "customheaders"
    # What a link leads to belongs to others, too.
    fixed = fix and not path.is_symlink()
    if fixed:
        lines = path.read_bytes().split(b"\n")
        _replace(path, b"".join(line + b"\n" for line in lines if line.strip()))
    return Finding("LIST_HEADERS_EMPTY_LINES", _address(directory), "control/customheaders", fixed)


def _examine_texts(directory: Path, unknown: str, fix: bool) -> Finding | None:
    found: dict[str, list[str]] = {}
    fixed = fix
    folder = directory / "text"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_file():
            continue
        content = path.read_bytes()
        names = list_texts.outdated(content)
        if not names:
            continue
        found[path.name] = names
        # What a link leads to belongs to others, too.
        if path.is_symlink() or folder.is_symlink():
            fixed = False
        elif fix:
            _replace(path, list_texts.renewed(path.name, content))
    if not found:
        return None
    detail = ", ".join(f"{name}: {' '.join(names)}" for name, names in found.items())
    return Finding("LIST_TEXT_OUTDATED", _address(directory), detail + unknown, fixed)


def _replace(path: Path, content: bytes) -> None:
    """Replace a file at once; the new one has the same owner and mode."""
    part = path.parent.parent / f".{path.name}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    shutil.copymode(path, part)
    if os.geteuid() == 0:
        owner = path.stat()
        os.chown(part, owner.st_uid, owner.st_gid)
    part.replace(path)
