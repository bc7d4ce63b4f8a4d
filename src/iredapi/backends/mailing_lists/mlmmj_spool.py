"""List server without mlmmjadmin: reads and writes mlmmj's spool, one directory per list.

Layout and locks follow mlmmj's documentation (README, TUNABLES, man pages); names and defaults of
control files are those of mlmmjadmin, so that one can replace the other. mlmmj's programs are
called only to send mail. All file access runs in threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from iredapi.backends.mailing_lists import control_files, subscriber_changes, subscriber_files
from iredapi.backends.mailing_lists.subscriber_changes import Change
from iredapi.backends.protocols.mailing_lists import Untouched
from iredapi.domain import list_texts
from iredapi.domain.addresses import domain_of, local_part_of
from iredapi.domain.lists import Control, Subscriber
from iredapi.errors import ApiError

Result = TypeVar("Result")

_VERSIONS: Final = {"normal": "subscribers.d", "digest": "digesters.d", "nomail": "nomailsubs.d"}
_SUB_OPTIONS: Final = {"normal": (), "digest": ("-d",), "nomail": ("-n",)}
_DIRECTORIES: Final = (
    "archive bounce control digesters.d incoming moderation nomailsubs.d queue queue/discarded"
    " requeue subconf subscribers.d text unsubconf".split()
)
_INVITING: Final = 4
"""Maximum number of running programs."""
_PROGRAM_SECONDS: Final = 30.0
_LOCK_SECONDS: Final = 10.0
"""Seconds to wait for locks held by mlmmj."""
_THREADS: Final = 32
"""Maximum number of threads of file access; one that waits for a lock keeps its thread."""
_NEW: Final = ".new-"
"""Prefix of a list's directory during its creation: names of lists do not begin with a dot."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Directories of mlmmj, and the SMTP port of new lists (0: mlmmj's default)."""

    spool: Path
    archive: Path
    programs: Path
    texts: Path
    smtp_port: int


class Spool:
    """See ``ListServer``."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="lists")

    def accepts(self, mail: str) -> bool:
        # mlmmj uses the first character as the name of a file.
        return mail[:1] not in {"/", ".", ""}

    async def ping(self) -> None:
        await self._in_thread(self._check)

    async def exists(self, address: str) -> bool:
        return await self._in_thread(lambda: self._directory(address).is_dir())

    async def get(self, address: str) -> Control | None:
        return await self._in_thread(self._get, address)

    async def create(self, address: str, control: Control) -> None:
        await self._in_thread(self._create, address, control)

    async def save(self, address: str, before: Control, after: Control) -> None:
        await self._in_thread(self._save, address, before, after)

    async def remove(self, address: str, *, archive: bool) -> None:
        await self._in_thread(self._remove, address, archive)

    async def subscribers(self, address: str) -> list[Subscriber]:
        return await self._in_thread(self._subscribers, address)

    async def subscriptions(self, address: str, mails: Collection[str]) -> dict[str, str]:
        return await self._in_thread(self._subscriptions, address, mails)

    async def add(self, address: str, mails: Sequence[str], version: str) -> None:
        await self._in_thread(self._add, address, mails, version)

    async def drop(self, address: str, mails: Sequence[str]) -> None:
        await self._in_thread(self._drop, address, mails)

    async def invite(self, address: str, mails: Sequence[str], version: str) -> None:
        directory = str(self._directory(address))
        program = str(self._options.programs / "mlmmj-sub")
        limit = asyncio.Semaphore(_INVITING)

        async def ask(mail: str) -> None:
            async with limit:
                await _run(program, "-L", directory, "-a", mail, "-C", "-s", *_SUB_OPTIONS[version])

        await asyncio.gather(*(ask(mail) for mail in mails))

    async def lists_of(self, mail: str) -> dict[str, str]:
        return await self._in_thread(self._lists_of, mail)

    def can_drop(self, mail: str) -> bool:
        return bool(mail)

    async def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def _in_thread(self, work: Callable[..., Result], *args: Any) -> Result:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._threads, contextvars.copy_context().run, self._checked, work, *args
            )
        except OSError as error:
            _log.error("list_spool_failed", reason=errno.errorcode.get(error.errno or 0, "?"))
            raise ApiError("LIST_SPOOL_ERROR") from error

    def _checked(self, work: Callable[..., Result], *args: Any) -> Result:
        self._check()
        return work(*args)

    def _check(self) -> None:
        """Raise Untouched without the spool: that must not look like a spool without lists."""
        if not self._options.spool.is_dir() or not os.access(
            self._options.spool, os.R_OK | os.W_OK | os.X_OK
        ):
            raise Untouched("LIST_SPOOL_ERROR")

    # -- lists -------------------------------------------------------------------------------------

    def _directory(self, address: str) -> Path:
        return self._options.spool / domain_of(address) / local_part_of(address)

    def _get(self, address: str) -> Control | None:
        control = self._directory(address) / "control"
        if not control.is_dir():
            return None
        return control_files.read(address, control)

    def _create(self, address: str, control: Control) -> None:
        final = self._directory(address)
        parent = final.parent
        parent.mkdir(mode=0o700, exist_ok=True)
        self._set_owner(parent)
        building = parent / f"{_NEW}{final.name}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        for name in _DIRECTORIES:
            (building / name).mkdir(mode=0o700)
        self._write(building / "index", "")
        for name in control_files.ALWAYS:
            self._write(building / "control" / name, "")
        if self._options.smtp_port:
            self._write(building / "control" / "smtpport", f"{self._options.smtp_port}\n")
        for name, content in control_files.contents(address, control).items():
            if content is not None:
                self._write(building / "control" / name, content)
        if self._options.texts.is_dir():
            for text in self._options.texts.iterdir():
                if text.is_file():
                    copy = list_texts.renewed(text.name, text.read_bytes())
                    (building / "text" / text.name).write_bytes(copy)
        for entry in (building, *building.rglob("*")):
            self._set_owner(entry)
        # Fails if there is a directory that is not empty.
        building.rename(final)
        for name in _VERSIONS.values():
            subscriber_changes.note(final / name)

    def _save(self, address: str, before: Control, after: Control) -> None:
        directory = self._directory(address)
        if not (directory / "control").is_dir():
            raise ApiError("MAILING_LIST_DATA_MISSING")
        old, new = control_files.contents(address, before), control_files.contents(address, after)
        if control_files.ends_headers_of_posts(directory / "control"):
            old["customheaders"] = None  # not what the file says, so that it is written
        for name, content in new.items():
            if old[name] == content:
                continue
            if content is None:
                (directory / "control" / name).unlink(missing_ok=True)
            else:
                self._write(directory / "control" / name, content)

    def _remove(self, address: str, archive: bool) -> None:
        directory = self._directory(address)
        if not directory.is_dir():
            return
        if archive:
            target = self._archived(address)
            shutil.move(directory, target / directory.name)
        else:
            # Renamed first: an incomplete directory must not look like a list.
            gone = directory.with_name(f".gone-{directory.name}-{time.time_ns()}")
            directory.rename(gone)
            shutil.rmtree(gone)

    def _archived(self, address: str) -> Path:
        """Create the archive directory of a removed list, named as by mlmmjadmin."""
        root = self._options.archive
        if not root.is_dir():
            root.mkdir(mode=0o700, parents=True)
            self._set_owner(root)
        parent = root / domain_of(address)
        parent.mkdir(mode=0o700, exist_ok=True)
        self._set_owner(parent)
        stamp = datetime.now(UTC).strftime("-%Y%m%d%H%M%S")
        name = local_part_of(address) + stamp
        path = parent / name
        for number in itertools.count(2):
            if not path.exists():
                break
            # Several in one second: a number, because appending would make the name too long.
            path = parent / f"{name}-{number}"
        path.mkdir(mode=0o700)
        self._set_owner(path)
        return path

    def _write(self, path: Path, content: str) -> None:
        """Replace a file atomically. The temporary file is outside of ``control``."""
        part = path.parent.parent / f".{path.name}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._set_owner(part)
        part.replace(path)

    def _set_owner(self, path: Path) -> None:
        """Set the owner of a new file to that of the spool, as root: mlmmj runs as that user."""
        if os.geteuid() == 0:
            owner = self._options.spool.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    # -- subscribers -------------------------------------------------------------------------------

    def _subscribers(self, address: str) -> list[Subscriber]:
        found = {
            Subscriber(mail, version)
            for version in _VERSIONS
            for file in self._record_files(address, version)
            for mail in subscriber_files.read(file)
        }
        return sorted(found, key=lambda item: (item.mail, item.version))

    def _subscriptions(self, address: str, mails: Collection[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for version, name in _VERSIONS.items():
            for mail in subscriber_files.find_in(self._directory(address) / name, mails):
                found.setdefault(mail, version)
        return found

    def _record_files(self, address: str, version: str) -> list[Path]:
        return subscriber_files.files(self._directory(address) / _VERSIONS[version])

    def _add(self, address: str, mails: Sequence[str], version: str) -> None:
        directory = self._directory(address) / _VERSIONS[version]
        if not directory.is_dir():
            raise ApiError("MAILING_LIST_DATA_MISSING")
        present = subscriber_files.find_in(directory, mails)
        by_letter = _by_letter(mail for mail in mails if mail not in present)
        self._change(Change(directory / letter, add=some) for letter, some in by_letter)

    def _drop(self, address: str, mails: Sequence[str]) -> None:
        wanted = frozenset(mails)
        self._change(
            Change(file, remove=wanted)
            for version in _VERSIONS
            for file in self._record_files(address, version)
            if subscriber_files.find(file, wanted)
        )

    def _change(self, changes: Iterable[Change]) -> None:
        try:
            subscriber_changes.apply(changes, self._set_owner, _LOCK_SECONDS)
        except subscriber_changes.StillLocked:
            raise ApiError("LIST_FILES_LOCKED") from None

    def _lists_of(self, mail: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for domain in sorted(self._options.spool.iterdir()):
            if domain.name.startswith(".") or not domain.is_dir():
                continue
            for path in sorted(domain.iterdir()):
                if path.name.startswith("."):
                    continue
                address = f"{path.name}@{domain.name}"
                if version := self._subscriptions(address, [mail]).get(mail):
                    found[address] = version
        return found


def _by_letter(mails: Iterable[str]) -> Iterator[tuple[str, frozenset[str]]]:
    found: dict[str, set[str]] = {}
    for mail in mails:
        found.setdefault(mail[0], set()).add(mail)
    for letter, some in found.items():
        yield letter, frozenset(some)


async def _run(program: str, *arguments: str) -> None:
    """Run one of mlmmj's programs, which need their full path, without a shell."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        _log.error("mlmmj_not_started", program=program)
        raise ApiError("LIST_SPOOL_ERROR", "mlmmj's programs cannot be started.") from error
    try:
        async with asyncio.timeout(_PROGRAM_SECONDS):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        status = -1
    if status:
        _log.error("mlmmj_failed", program=program, status=status)
        raise ApiError("LIST_SPOOL_ERROR", "mlmmj could not send its mail.")
