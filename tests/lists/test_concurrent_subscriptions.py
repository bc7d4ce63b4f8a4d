"""Our changes of subscriber files beside mlmmj's programs: nothing of ours or theirs is lost.

mlmmj's own programs lose each other's work when ``mlmmj-unsub`` runs beside another one of them. So
theirs are subscriptions at once, or both kinds one after the other: alone, they lose nothing then.
``LIST_CHANGES=1000`` sends that many changes (``make torture``, ``make test-release``).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from iredapi.backends.mailing_lists import mlmmj_spool
from tests.lists.conftest import TEAM, Lists
from tests.servers.process import find_program

pytestmark = [
    pytest.mark.needs("mlmmj"),
    pytest.mark.stores("sqlite"),
    pytest.mark.list_servers("spool"),
]
CHANGES: Final = int(os.environ.get("LIST_CHANGES", "160"))
FULL: Final = "LIST_CHANGES" in os.environ


async def run(lists: Lists, name: str, mail: str, *options: str) -> None:
    program = find_program(name)
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, "-L", str(lists.directory()), "-a", mail, *options,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == 0


def file_of(lists: Lists, letter: str = "m", directory: str = "subscribers.d") -> Path:
    return lists.directory() / directory / letter


def lines(path: Path) -> list[str]:
    return sorted(path.read_text().split())


def addresses(count: int, domain: str) -> list[str]:
    return [f"m{number:04}@{domain}.test" for number in range(count)]


@asynccontextmanager
async def being_read(lists: Lists) -> AsyncIterator[None]:
    """Read the subscribers all the time: a file that is closed gives up POSIX locks."""

    async def read() -> None:
        while True:
            await lists.get(with_subscribers="yes")

    reading = asyncio.ensure_future(read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("theirs_at_once", [10, 1], ids=["subscriptions", "both"])
async def test_mixed_changes_of_one_file(lists: Lists, theirs_at_once: int) -> None:
    """Theirs: subscriptions ten at a time, or subscriptions and removals one after the other."""
    each = CHANGES // 4
    kept, ours_gone = addresses(each, "kept"), addresses(each, "ours-gone")
    ours, theirs = addresses(each, "ours"), addresses(each, "theirs")
    theirs_gone = addresses(each, "theirs-gone") if theirs_at_once == 1 else []
    await lists.create(
        subscribers=",".join([*kept, *ours_gone, *theirs_gone]), require_confirm="no"
    )
    limit = asyncio.Semaphore(theirs_at_once)

    async def by_mail(name: str, mail: str, *options: str) -> None:
        async with limit:
            await run(lists, name, mail, "-q", "-s", *options)

    async def some(mails: list[str], **form: str) -> None:
        # Ten at a time, as a web page sends them: while others change the file, a change takes
        # a quarter of a second.
        for start in range(0, each, 10):
            (parameter,) = form
            sent = {parameter: ",".join(mails[start : start + 10])}
            await lists.update(require_confirm="no", **sent)

    async with being_read(lists):
        await asyncio.gather(
            *(by_mail("mlmmj-sub", mail, "-f") for mail in theirs),
            *(by_mail("mlmmj-unsub", mail) for mail in theirs_gone),
            some(ours, add_subscribers=""),
            some(ours_gone, remove_subscribers=""),
        )
    expected = sorted([*kept, *ours, *theirs])
    assert lines(file_of(lists)) == expected
    assert lists.subscribers() == expected


async def test_a_file_has_no_empty_lines(lists: Lists) -> None:
    """mlmmj-unsub of 1.5 removes wrong bytes of a file with empty lines; we left some earlier."""
    await lists.create(subscribers="mia@else.test", require_confirm="no")
    path = file_of(lists)
    path.write_text(
        "\n\n\nmia@else.test\n\n\n\nmoe@else.test\n\nmum@else.test\n\nmac@else.test\n\n"
    )
    await lists.update(add_subscribers="max@else.test,mel@else.test", require_confirm="no")
    await lists.update(remove_subscribers="moe@else.test,max@else.test")
    assert "\n\n" not in f"\n{path.read_text()}"
    assert len(lines(path)) == len(set(lines(path)))
    await run(lists, "mlmmj-unsub", "mum@else.test", "-q", "-s")
    assert lines(path) == ["mac@else.test", "mel@else.test", "mia@else.test"]
    await lists.update(remove_subscribers="mac@else.test,mel@else.test,mia@else.test")
    assert lines(path) == []
    # Many of them are cut off.
    many = ",".join(f"m{number}@{'else' * 10}.test" for number in range(1500))
    await lists.update(add_subscribers=many, require_confirm="no")
    await lists.update(remove_subscribers=many)
    assert path.read_bytes() == b""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, as another program."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        yield
    finally:
        os.close(descriptor)


def waits(process: asyncio.subprocess.Process) -> bool:
    """Tell whether a process waits for a lock (blocked requests have an arrow)."""
    table = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {process.pid} " in line for line in table)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(
    "form,expected",
    [({"add_subscribers": "max@else.test"}, "max"), ({"remove_subscribers": "mia@else.test"}, "")],
    ids=["addition", "removal"],
)
async def test_an_old_copy_of_mlmmj_unsub_does_not_undo_ours(
    lists: Lists, form: dict[str, str], expected: str
) -> None:
    """Two mlmmj-unsub at once: the second one copies a file that the first one has replaced."""
    await lists.create(
        subscribers="mia@else.test,moe@else.test,mum@else.test", require_confirm="no"
    )
    path = file_of(lists)
    program = find_program("mlmmj-unsub")
    assert program is not None
    with locked(path):
        late = await asyncio.create_subprocess_exec(
            program, "-L", str(lists.directory()), "-a", "mum@else.test", "-q", "-s",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.to_thread(until, lambda: waits(late))
        # What the first one does.
        shutil.copy(path, path.with_name("m.new"))
        path.with_name("m.new").rename(path)
        before = path.read_bytes()
        change = asyncio.ensure_future(lists.update(require_confirm="no", **form))
        await asyncio.to_thread(until, lambda: path.read_bytes() != before or change.done())
    assert await late.wait() == 0
    await change
    left = {"mia@else.test", "moe@else.test"} - {form.get("remove_subscribers", "")}
    assert lists.subscribers() == sorted(left | ({f"{expected}@else.test"} if expected else set()))


async def test_a_file_that_stays_locked(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own code, nothing changed, and nobody else waits for it."""
    monkeypatch.setattr(mlmmj_spool, "_LOCK_SECONDS", 0.5)
    await lists.create(subscribers="abe@else.test,mia@else.test", require_confirm="no")
    other = "other@list.test"
    await lists.create(other)
    forms = (
        {"add_subscribers": "ann@else.test,max@else.test", "require_confirm": "no"},
        {"remove_subscribers": "abe@else.test,mia@else.test"},
    )
    with locked(file_of(lists)):
        for form in forms:
            before = file_of(lists, "a").read_bytes()
            waiting = asyncio.ensure_future(lists.root.refused("PUT", f"ml/{TEAM}", **form))
            await asyncio.sleep(0)
            await lists.update(other, add_subscribers="max@else.test", require_confirm="no")
            assert not waiting.done()
            status, code, _ = await waiting
            assert (status, code) == (503, "LIST_FILES_LOCKED")
            assert file_of(lists, "a").read_bytes() == before
    for form in forms:
        await lists.update(**form)
    assert lists.subscribers() == ["ann@else.test", "max@else.test"]


_LIMITED = """
import pathlib, resource, sys
from iredapi.backends.mailing_lists.subscriber_changes import Change, apply
folder, size = pathlib.Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
new = frozenset(f"m{number}@else.test" for number in range(100))
try:
    apply([Change(folder / "a", add=frozenset({"ann@else.test"})), Change(folder / "m", add=new)],
          lambda path: None, 1)
except OSError:
    print("refused")
"""


def test_a_full_disk_leaves_no_part_of_an_address(tmp_path: Path) -> None:
    for room in (7, 16, 1000):
        (tmp_path / "a").write_text("abe@else.test\n")
        (tmp_path / "m").write_text("mia@else.test\n" * 100)
        command = [sys.executable, "-c", _LIMITED, str(tmp_path), str(1400 + room)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "refused\n", done
        assert lines(tmp_path / "a") == ["abe@else.test"]
        assert lines(tmp_path / "m") == ["mia@else.test"] * 100


_KILLED = """
import itertools, pathlib, sys
from iredapi.backends.mailing_lists.subscriber_changes import Change, apply
path = pathlib.Path(sys.argv[1])
print("starts", flush=True)
for turn in itertools.count():
    some = frozenset(f"m{turn}x{number}@else.test" for number in range(20_000))
    apply([Change(path, add=some)], lambda path: None, 1)
    apply([Change(path, remove=some)], lambda path: None, 1)
"""


def test_a_killed_change_leaves_whole_addresses(tmp_path: Path) -> None:
    path = tmp_path / "m"
    kept = [f"mk{number}@kept.test" for number in range(1000)]
    path.write_text("".join(f"{mail}\n" for mail in kept))
    killed = 0
    for delay in range(60 if FULL else 6):
        command = [sys.executable, "-c", _KILLED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(0.05 + delay % 20 * 0.02)
            except subprocess.TimeoutExpired:
                process.kill()
        found = lines(path)
        assert sorted(mail for mail in found if "@kept" in mail) == sorted(kept)
        ours = [mail for mail in found if "@kept" not in mail]
        assert all(mail.count("@") == 1 and mail.endswith("@else.test") for mail in ours)
        assert all(part.isdigit() for mail in ours for part in mail[1:-10].split("x"))
        killed += bool(ours)
    assert killed or not FULL
