"""Checks of the mailing lists' directories: texts that the installed mlmmj does not understand."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from iredapi.config.settings import Settings
from iredapi.doctor.findings import Finding
from iredapi.doctor.mlmmj_version import mlmmj_version
from iredapi.domain import list_texts

_IREDMAIL: Final = Path("/var/vmail/mlmmj")
"""iRedMail's spool: with mlmmjadmin, no setting names it."""


async def examine_lists(settings: Settings, *, fix: bool) -> AsyncIterator[Finding]:
    """Report lists with outdated texts; renew their texts if ``fix``."""
    spool = settings.spool
    if spool is None:
        if not settings.mlmmjadmin_url or not os.access(_IREDMAIL, os.R_OK | os.X_OK):
            return
        spool = _IREDMAIL
    version = await mlmmj_version(Path(settings.mlmmj_programs))
    if version is not None and version < list_texts.SINCE:
        return
    unknown = "" if version else "; the version of mlmmj is not known"
    try:
        lists = await asyncio.to_thread(lambda: list(_lists(spool)))
    except FileNotFoundError:
        return  # no list yet
    except OSError as error:
        yield Finding("SERVER_AWAY", str(spool), error.strerror or "")
        return
    for directory in lists:
        try:
            finding = await asyncio.to_thread(_examine, directory, unknown, fix)
        except OSError as error:
            yield Finding("SERVER_AWAY", str(directory), error.strerror or "")
            continue
        if finding is not None:
            yield finding


def _lists(spool: Path) -> Iterator[Path]:
    for domain in sorted(spool.iterdir()):
        if domain.name.startswith(".") or not domain.is_dir():
            continue
        for directory in sorted(domain.iterdir()):
            if not directory.name.startswith(".") and (directory / "control").is_dir():
                yield directory


def _examine(directory: Path, unknown: str, fix: bool) -> Finding | None:
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
    address = f"{directory.name}@{directory.parent.name}"
    return Finding("LIST_TEXT_OUTDATED", address, detail + unknown, fixed)


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
