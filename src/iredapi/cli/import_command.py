"""``iredapi import``: many accounts from a file, into the local storage or over the API."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from iredapi.cli.shared_options import EnvFile, TokenFile, Url, remote_of
from iredapi.config import loading
from iredapi.config.errors import ConfigurationError

if TYPE_CHECKING:
    from iredapi.transfer.lines import Entry, Reader

PART: Final = 500
"""Lines of one request."""
_PIECE: Final = 64 * 1024
_SHOWN: Final = 20
Result = dict[str, Any]
Send = Callable[[list["Entry"], str], list[Result]]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A line, and what ``--failed`` keeps of it."""

    entry: Entry
    raw: bytes
    later: bool = False
    note: str = ""


@dataclass(slots=True)
class _Report:
    """What is printed, and the file of failed lines."""

    failed: IO[bytes] | None
    on_terminal: bool
    counts: Counter[str] = field(default_factory=Counter)
    total: int = 0
    read: int = 0

    def add(self, sent: _Sent, result: Result, name: str) -> None:
        """Count a result, print what went wrong, and keep the line."""
        word = str(result["result"])
        self.counts[word] += 1
        if word == "failed":
            if self.failed is not None:
                self.failed.write(sent.raw.rstrip(b"\r\n") + b"\n")
            if self.counts[word] <= _SHOWN:
                self._clear()
                about = result.get("mail") or result.get("domain") or result.get("account") or ""
                why = ": ".join(
                    str(result[key]) for key in ("code", "param", "detail") if result.get(key)
                )
                typer.echo(f"{name}:{sent.entry.number}: {about} {why}", err=True)
            elif self.counts[word] == _SHOWN + 1:
                self._clear()
                typer.echo("More lines have failed: see --failed and the numbers.", err=True)

    def progress(self) -> None:
        """Draw the progress bar."""
        if not self.on_terminal or not self.total:
            return
        share = min(self.read / self.total, 1.0)
        bar = "#" * int(share * 30)
        typer.echo(f"\r[{bar:<30}] {share:4.0%}  {self.numbers()} ", err=True, nl=False)

    def _clear(self) -> None:
        if self.on_terminal and self.total:
            typer.echo("\r" + " " * 78 + "\r", err=True, nl=False)

    def numbers(self) -> str:
        """Return the numbers as text."""
        words = ("done", "unchanged", "skipped", "failed", "nothing to do")
        return ", ".join(f"{self.counts[word]} {word}" for word in words if self.counts[word])


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="NDJSON or CSV; several are one after the other.")
    ],
    url: Url = "",
    token_file: TokenFile = None,
    on_existing: Annotated[
        str, typer.Option(help="skip, update or fail: what is there with other values.")
    ] = "skip",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only.")] = False,
    failed: Annotated[
        Path | None,
        typer.Option(help="Write the failed lines here, to send them again.", show_default=False),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from", help="mailcow, postfixadmin, modoboa or iredmail.", show_default=False
        ),
    ] = "",
    env_file: EnvFile = None,
) -> None:
    """Import accounts. Exit status 0: no line failed, 1: some failed, or it was cut."""
    from iredapi.transfer.mappings import Source

    if on_existing not in ("skip", "update", "fail"):
        raise ConfigurationError("--on-existing: skip, update or fail")
    if source and source not in set(Source):
        raise ConfigurationError(f"--from: {', '.join(Source)}")
    place = remote_of(url, token_file)
    settings = loading.load(env_file) if place is None else None
    for path in files:
        if not path.is_file():
            raise ConfigurationError(f"{path}: no such file")
    options = {"dry_run": "yes"} if dry_run else {}
    kept: IO[bytes] | None = None
    if failed is not None:
        if failed.exists() and any(failed.samefile(path) for path in files):
            raise ConfigurationError("--failed: it is one of the files that are read")
        # Passwords and hashes are in it.
        kept = os.fdopen(os.open(failed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    report = _Report(kept, sys.stderr.isatty(), total=sum(path.stat().st_size for path in files))

    def work(send: Send) -> None:
        _carry_out(files, source, on_existing, report, send)

    try:
        if place is not None:
            from iredapi.cli.remote_import import remote

            remote(place, options, work)
        else:
            _local(settings, dry_run=dry_run, work=work)
    finally:
        if kept is not None:
            kept.close()
        if report.on_terminal and report.total:
            typer.echo("", err=True)
        typer.echo(f"{report.numbers() or 'no line'}{' (dry run)' if dry_run else ''}")
    if report.counts["failed"]:
        raise typer.Exit(1)


def _carry_out(
    files: list[Path], source: str, on_existing: str, report: _Report, send: Send
) -> None:
    """Send all lines in parts; those that change what others make come last, and update."""
    later: list[tuple[str, _Sent]] = []
    for path, part in _parts(files, source, report, later):
        _send(part, path, on_existing, report, send)
    for at in range(0, len(later), PART):
        some = later[at : at + PART]
        _send([sent for _, sent in some], some[0][0], "update", report, send)


def _send(part: list[_Sent], name: str, on_existing: str, report: _Report, send: Send) -> None:
    results = send([sent.entry for sent in part], on_existing)
    for sent, result in zip(part, results, strict=True):
        report.add(sent, result, name)
    report.progress()


def _parts(
    files: list[Path], source: str, report: _Report, later: list[tuple[str, _Sent]]
) -> Iterator[tuple[str, list[_Sent]]]:
    program = _program(source)
    for path in files:
        part: list[_Sent] = []
        for sent in _mapped(path, program, report) if source else _plain(path, report):
            if sent.note:
                report.counts["nothing to do"] += 1
            elif sent.later:
                later.append((path.name, sent))
            else:
                part.append(sent)
            if len(part) == PART:
                yield path.name, part
                part = []
        if part:
            yield path.name, part


def _program(source: str) -> Any:
    from iredapi.transfer.mappings import FilesOfProgram, Source

    return FilesOfProgram(Source(source)) if source else None


def _plain(path: Path, report: _Report) -> Iterator[_Sent]:
    from iredapi.transfer.lines import Lines, Reader

    lines, reader = Lines(), Reader()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            report.read += len(piece)
            for line in lines.feed(piece):
                for entry in reader.read([line]):
                    yield _kept(entry, line.text or b"", reader)
        for line in lines.end():
            for entry in reader.read([line]):
                yield _kept(entry, line.text or b"", reader)
        for entry in reader.end():
            yield _kept(entry, b"", reader)


def _kept(entry: Entry, raw: bytes, reader: Reader) -> _Sent:
    """Return a line with what ``--failed`` gets: of a row of CSV its record, if it is one."""
    import orjson

    if reader.header and entry.problem is None:
        raw = orjson.dumps(entry.record)
    return _Sent(entry, raw)


def _mapped(path: Path, program: Any, report: _Report) -> Iterator[_Sent]:
    import orjson

    from iredapi.transfer.lines import Entry

    def lines() -> Iterator[str]:
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            for line in file:
                report.read += len(line)
                yield line

    for row in program.rows(lines()):
        entry = Entry(row.number, row.record, row.why_not)
        yield _Sent(entry, orjson.dumps(row.record), later=row.later, note=row.note)


def _local(chosen: Any, *, dry_run: bool, work: Callable[[Send], None]) -> None:
    """Carry out the lines in the local storage, as the command line."""
    import asyncio

    import orjson

    from iredapi.cli.shared_options import run_in_context
    from iredapi.domain.actors import SYSTEM
    from iredapi.runtime.context import AppContext
    from iredapi.transfer.importing import Import
    from iredapi.transfer.kinds import Caller
    from iredapi.transfer.outcomes import OnExisting

    async def run(context: AppContext) -> None:
        loop = asyncio.get_running_loop()
        caller = Caller(context, SYSTEM, dry_run=dry_run)

        async def one(entries: list[Entry], rule: str) -> list[Result]:
            caller.on_existing = OnExisting(rule)
            running = Import(caller)
            found: list[Result] = []
            async for told in running.lines(entries):
                found += [orjson.loads(line) for line in told.splitlines()]
            if running.stopped is not None:
                raise running.stopped
            return found

        def send(entries: list[Entry], rule: str) -> list[Result]:
            return asyncio.run_coroutine_threadsafe(one(entries, rule), loop).result()

        # Reading the files and printing is blocking work.
        await asyncio.to_thread(work, send)

    run_in_context(chosen, run)
